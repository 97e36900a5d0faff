{{- /* The pod, the same in every kind. */ -}}
{{- define "seawall.pod" -}}
metadata:
  labels:
    {{- include "seawall.selector" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    checksum/config: {{ .Values.config | sha256sum }}
    {{- if .Values.ca.certificate }}
    checksum/ca: {{ print .Values.ca.certificate .Values.ca.privateKey | sha256sum }}
    {{- end }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "seawall.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  terminationGracePeriodSeconds: {{ include "seawall.secondsToEnd" . }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile: {type: RuntimeDefault}
  {{- if and (eq (include "seawall.storage" .) "hostPath") .Values.persistence.hostPath.chownImage }}
  initContainers:
    - name: chown
      image: {{ .Values.persistence.hostPath.chownImage }}
      command: ["chown", "65532:65532", "/var/lib/seawall"]
      securityContext:
        runAsNonRoot: false
        runAsUser: 0
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL], add: [CHOWN]}
      resources:
        requests: {cpu: 10m, memory: 16Mi}
        limits: {memory: 32Mi}
      volumeMounts:
        - {name: data, mountPath: /var/lib/seawall}
  {{- end }}
  containers:
    - name: seawall
      image: {{ include "seawall.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve]
      env:
        - {name: SEAWALL_CONFIG, value: /etc/seawall/config/seawall.toml}
        - {name: SEAWALL_LISTEN, value: {{ include "seawall.listen" (dict "hosts" .Values.listenOn "ports" (list 3128 8443)) | quote }}}
        - {name: SEAWALL_ADMIN, value: {{ include "seawall.listen" (dict "hosts" (list (last .Values.listenOn)) "ports" (list 3129)) | quote }}}
        - {name: SEAWALL_DATA, value: /var/lib/seawall}
        {{- if include "seawall.caSecret" . }}
        - {name: SEAWALL_CA__DIR, value: /etc/seawall/ca}
        {{- else }}
        - {name: SEAWALL_CA__DIR, value: /var/lib/seawall/ca}
        {{- end }}
        - {name: SEAWALL_DRAIN_TIMEOUT, value: {{ printf "%ds" (int .Values.drainSeconds) }}}
        {{- with .Values.env }}{{ toYaml . | nindent 8 }}{{ end }}
      ports:
        - name: http
          containerPort: 3128
          {{- if .Values.hostPorts.http }}
          hostPort: {{ int .Values.hostPorts.http }}
          hostIP: {{ .Values.hostPorts.ip | quote }}
          {{- end }}
        - name: https
          containerPort: 8443
          {{- if .Values.hostPorts.https }}
          hostPort: {{ int .Values.hostPorts.https }}
          hostIP: {{ .Values.hostPorts.ip | quote }}
          {{- end }}
        - {name: admin, containerPort: 3129}
      livenessProbe:
        httpGet: {path: /healthz, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 5
        timeoutSeconds: 3
      {{- if and (gt (int .Values.preStopSeconds) 0) (semverCompare ">=1.30-0" .Capabilities.KubeVersion.Version) }}
      lifecycle:
        preStop:
          sleep: {seconds: {{ int .Values.preStopSeconds }}}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      resources: {{- toYaml .Values.resources | nindent 8 }}
      volumeMounts:
        - {name: data, mountPath: /var/lib/seawall}
        - {name: config, mountPath: /etc/seawall/config, readOnly: true}
        {{- if include "seawall.caSecret" . }}
        - {name: ca, mountPath: /etc/seawall/ca, readOnly: true}
        {{- end }}
        {{- range $n, $name := .Values.secrets }}
        - {name: secret-{{ $n }}, mountPath: /etc/seawall/secrets/{{ $name }}, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "seawall.name" . }}}
    {{- with include "seawall.caSecret" . }}
    - name: ca
      secret:
        secretName: {{ . }}
        defaultMode: 0400 # and readable by the pod's fsGroup, which the kubelet adds
        items:
          - {key: {{ $.Values.ca.certificateKey | quote }}, path: ca.crt}
          - {key: {{ $.Values.ca.privateKeyKey | quote }}, path: ca.key}
    {{- end }}
    {{- range $n, $name := .Values.secrets }}
    - name: secret-{{ $n }}
      secret: {secretName: {{ $name }}, defaultMode: 0400}
    {{- end }}
    {{- $storage := include "seawall.storage" . }}
    {{- if eq $storage "emptyDir" }}
    - name: data
      emptyDir: {sizeLimit: {{ .Values.persistence.size }}}
    {{- else if eq $storage "hostPath" }}
    - name: data
      hostPath: {path: {{ .Values.persistence.hostPath.path }}, type: DirectoryOrCreate}
    {{- else if eq $storage "ephemeral" }}
    - name: data
      ephemeral:
        volumeClaimTemplate:
          spec: {{- include "seawall.claim" . | nindent 12 }}
    {{- else if ne .Values.kind "StatefulSet" }}
    - name: data
      persistentVolumeClaim: {claimName: {{ .Values.persistence.existingClaim | default (include "seawall.name" .) }}}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if and (ne .Values.kind "DaemonSet") (gt (int .Values.replicas) 1) }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "seawall.selector" . | nindent 10 }}
  {{- end }}
{{- end }}

{{- define "seawall.claim" -}}
accessModes: {{ toJson .Values.persistence.accessModes }}
{{- with .Values.persistence.storageClass }}
storageClassName: {{ . | quote }}
{{- end }}
resources: {requests: {storage: {{ .Values.persistence.size }}}}
{{- end }}

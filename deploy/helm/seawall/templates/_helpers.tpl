{{- define "seawall.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "seawall.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "seawall.labels" -}}
{{ include "seawall.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "seawall.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "seawall.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end }}
{{- end }}

{{- define "seawall.image" -}}
{{- with .Values.image }}{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}{{ end }}
{{- end }}

{{- define "seawall.storage" -}}
{{- .Values.persistence.type | default (ternary "hostPath" "pvc" (eq .Values.kind "DaemonSet")) }}
{{- end }}

{{- define "seawall.several" -}}
{{- if or (eq .Values.kind "DaemonSet") (gt (int .Values.replicas) 1) }}yes{{ end }}
{{- end }}

{{- /* The Secret that the CA comes from; nothing: seawall makes one. */ -}}
{{- define "seawall.caSecret" -}}
{{- if .Values.ca.existingSecret }}{{ .Values.ca.existingSecret }}{{ else if .Values.ca.certificate }}{{ include "seawall.name" . }}-ca{{ end }}
{{- end }}

{{- /* seawall.listen (dict "hosts" … "ports" …): ADDRESS:PORT,… */ -}}
{{- define "seawall.listen" -}}
{{- $all := list }}
{{- range $port := .ports }}{{ range $host := $.hosts }}{{ $all = append $all (printf "%s:%v" (ternary (printf "[%s]" $host) $host (contains ":" $host)) $port) }}{{ end }}{{ end }}
{{- join "," $all }}
{{- end }}

{{- define "seawall.secondsToEnd" -}}
{{- add (int .Values.drainSeconds) (int .Values.preStopSeconds) 15 }}
{{- end }}

{{- /* What cannot work, said before it is tried. */ -}}
{{- define "seawall.checks" -}}
{{- $storage := include "seawall.storage" . }}
{{- $why := "" }}
{{- if and (eq .Values.kind "Deployment") (gt (int .Values.replicas) 1) (eq $storage "pvc") }}
{{- fail "replicas > 1 cannot share one volume: kind: StatefulSet gives each its own, persistence.type: ephemeral or emptyDir one that goes with its pod" }}
{{- end }}
{{- if and (eq .Values.kind "DaemonSet") (eq $storage "pvc") }}
{{- fail "a DaemonSet has no claim of its own for each pod: persistence.type: hostPath, ephemeral or emptyDir" }}
{{- end }}
{{- if and .Values.persistence.existingClaim (ne .Values.kind "Deployment") }}
{{- fail "persistence.existingClaim is one volume, for kind: Deployment" }}
{{- end }}
{{- if and (ne (empty .Values.ca.certificate) (empty .Values.ca.privateKey)) }}
{{- fail "ca.certificate and ca.privateKey belong together" }}
{{- end }}
{{- if not (or (include "seawall.caSecret" .) .Values.ca.perPod) }}
{{- if include "seawall.several" . }}{{ $why = "several pods must have one CA" }}{{ else if not (has $storage (list "pvc" "hostPath")) }}{{ $why = "the CA would be gone with its pod" }}{{ end }}
{{- if $why }}
{{- fail (printf "%s: make it once with your configuration (SEAWALL_CA__DIR=ca seawall ca init), then kubectl -n %s create secret generic seawall-ca --from-file=ca/ca.crt --from-file=ca/ca.key, and ca.existingSecret: seawall-ca. Where no client trusts it (mirrors over plain HTTP): ca.perPod: true" $why .Release.Namespace) }}
{{- end }}
{{- end }}
{{- end }}

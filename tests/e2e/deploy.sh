#!/usr/bin/env bash
# What seawall is deployed by: units, the image, the Debian package, the Helm chart and the plain manifests, the examples for CI.
#
#   SEAWALL=target/release/seawall tests/e2e/deploy.sh      as root on Debian; what cannot be had here is skipped with a line
#   DEPLOY_ONLY='chart image' tests/e2e/deploy.sh           some parts: units compose chart manifests setup examples image package
#   STATIC_SEAWALL=FILE                                     a static binary for the image; else one is linked from what `cargo build` left
#
# docker-compose.yml is started for real by tests/e2e/run (compose). Tools are cached in target/e2e. Nothing is installed but into there.
set -euo pipefail
cd "$(dirname "$0")/../.."
. tests/e2e/lib.sh

SEAWALL=$(realpath -e "${SEAWALL:-target/release/seawall}") || die 'no seawall there: cargo build --release'
E2E_CACHE=${E2E_CACHE:-$PWD/target/e2e}
HELM_VERSION=v3.19.0 CARGO_DEB_VERSION=3.8.0
KUBERNETES=1.34 # whose schemas
VALIDATE=kubernetes-validate==1.37.0
mkdir -p "$E2E_CACHE"
STATE=$(mktemp -d /tmp/seawall-deploy.XXXXXX)
chmod 711 "$STATE"
buildah_() { buildah --root "$STATE/storage/root" --runroot "$STATE/storage/run" --storage-driver vfs "$@"; }
finish() {
  local code=$?
  set +e
  [ ! -d "$STATE/storage" ] || buildah_ umount --all >/dev/null 2>&1
  awk -v d="$STATE/" 'index($2, d) == 1 {print $2}' /proc/self/mounts | sort -r | while read -r name; do umount -l "$name"; done
  rm -rf "$STATE"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

wanted() { [ -z "${DEPLOY_ONLY:-}" ] || [[ " $DEPLOY_ONLY " == *" $1 "* ]]; }
have() { command -v "$1" >/dev/null; }

# ---- units

case_units() {
  say 'systemd units'
  if ! have systemd-analyze; then skip 'systemd-analyze is not here'; return 0; fi
  # The program is not installed here: the same units, with its own path.
  mkdir -p "$STATE/units"
  cp deploy/seawall.socket "$STATE/units/"
  sed -E "s|^(ExecStart(Pre)?=)seawall|\1$SEAWALL|" deploy/seawall.service >"$STATE/units/seawall.service"
  equal 'systemd-analyze verify has nothing to say' '' "$(systemd-analyze verify --man=no "$STATE/units"/seawall.{service,socket} 2>&1 || echo failed)"
  # Since systemd 250: exposure 0 (safe) to 10, times ten.
  check 'systemd-analyze security: at most 1.5 of 10' systemd-analyze security --offline=true --threshold=15 deploy/seawall.service || true
}

# ---- compose

case_compose_file() {
  say 'docker-compose.yml'
  local compose=(docker-compose)
  have docker-compose || compose=(docker compose)
  "${compose[@]}" version >/dev/null 2>&1 || { skip 'neither docker-compose nor docker compose is here'; return 0; }
  check 'compose takes it' run "${compose[@]}" -f docker-compose.yml config -q || true
}

# ---- Helm and Kubernetes

# Two minutes of two cores when it has to be built.
get_helm() {
  # One that tests/e2e/run has built for its own sake will do.
  HELM=$(command -v helm || find "$E2E_CACHE" -path '*/bin-helm-*/helm' | sort | tail -n 1)
  [ -z "$HELM" ] || return 0
  have go || { skip 'Helm: neither it nor Go is here'; return 1; }
  HELM=$E2E_CACHE/bin-helm-$HELM_VERSION/helm
  GOBIN=$(dirname "$HELM") CGO_ENABLED=0 run timeout 240 go install -trimpath -buildvcs=false -ldflags='-s -w' "helm.sh/helm/v3/cmd/helm@$HELM_VERSION" >"$STATE/helm.log" 2>&1 ||
    { tail -n 3 "$STATE/helm.log"; skip 'Helm could not be built in four minutes'; return 1; }
  note "helm $HELM_VERSION is built (${SECONDS}s)"
}

get_validate() {
  VALIDATOR=$E2E_CACHE/${VALIDATE/==/-}/bin
  [ -x "$VALIDATOR/kubernetes-validate" ] && return 0
  have python3 || { skip 'schemas: no Python'; return 1; }
  rm -rf "${VALIDATOR%/bin}"
  { python3 -m venv "${VALIDATOR%/bin}" && "$VALIDATOR/pip" install -q "$VALIDATE"; } >"$STATE/pip.log" 2>&1 ||
    { rm -rf "${VALIDATOR%/bin}"; tail -n 3 "$STATE/pip.log"; skip "schemas: pip install $VALIDATE"; return 1; }
  note "$VALIDATE is installed (${SECONDS}s)"
}

# A ServiceMonitor and a PrometheusRule are no kinds of Kubernetes' own: what is asked of them here is their operator's CRD, the part that the chart uses.
read -r -d '' monitoring <<'PY' || true
import sys, yaml, jsonschema
text = {"type": "string"}
labels = {"type": "object", "additionalProperties": text}
def of(required=(), **properties): return {"type": "object", "additionalProperties": False, "required": list(required), "properties": properties}
def some(**properties): return {"type": "array", "minItems": 1, "items": of(**properties)}
duration = {"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}
specs = {
    "ServiceMonitor": of(["selector", "endpoints"], selector=of(matchLabels=labels), endpoints=some(port=text, path=text, interval=duration)),
    "PrometheusRule": of(["groups"], groups=some(name=text, rules=some(**{"alert": text, "expr": text, "for": duration, "labels": labels, "annotations": labels}))),
}
for document in yaml.safe_load_all(open(sys.argv[1])):
    if not document or document["kind"] not in specs: continue
    jsonschema.validate(document, of(["apiVersion", "kind", "metadata", "spec"], apiVersion={"const": "monitoring.coreos.com/v1"}, kind=text,
        metadata=of(["name"], name=text, namespace=text, labels=labels), spec=specs[document["kind"]]))
PY

# The alerts and the board that the chart brings are those of deploy/.
read -r -d '' watched <<'PY' || true
import json, sys, yaml
documents = [d for d in yaml.safe_load_all(open(sys.argv[1])) if d]
of = lambda kind, name: next(d for d in documents if d["kind"] == kind and d["metadata"]["name"] == name)
assert of("PrometheusRule", "seawall")["spec"] == yaml.safe_load(open("deploy/prometheus/alerts.yaml")), "not those rules"
board = of("ConfigMap", "seawall-board")
assert json.loads(board["data"]["seawall.json"]) == json.load(open("deploy/grafana/seawall.json")), "not that board"
assert board["metadata"]["labels"]["grafana_dashboard"] == "1", "no sidecar finds it"
job = of("Service", "seawall-admin")["metadata"]["name"] # the operator names the job so
assert "seawall" in job and "seawall" in of("ServiceMonitor", "seawall")["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"]
PY

# The seawall.toml of a ConfigMap, and what the pod's variables say about it.
read -r -d '' pod_configuration <<'PY' || true
import sys, yaml
documents = [d for d in yaml.safe_load_all(open(sys.argv[1])) if d]
config = next(d for d in documents if d["kind"] == "ConfigMap" and "seawall.toml" in d["data"])
pod = next(d for d in documents if d["kind"] in ("Deployment", "StatefulSet", "DaemonSet"))["spec"]["template"]["spec"]
open(sys.argv[2], "w").write(config["data"]["seawall.toml"])
for variable in pod["containers"][0]["env"]:
    if variable["name"] not in ("SEAWALL_CONFIG", "SEAWALL_DATA", "SEAWALL_CA__DIR"): print(f'{variable["name"]}={variable["value"]}')
drain = int(dict((v["name"], v["value"]) for v in pod["containers"][0]["env"])["SEAWALL_DRAIN_TIMEOUT"][:-1])
assert pod["terminationGracePeriodSeconds"] > drain + 5, "the grace period is too short for the drain"
PY

# kubernetes_takes WHAT FILE: every document fits its schema, and seawall takes the configuration in it.
kubernetes_takes() {
  local what=$1 file=$2 variables
  if [ -n "$VALIDATOR" ]; then
    check "$what: fits Kubernetes $KUBERNETES" "$VALIDATOR/kubernetes-validate" -k "$KUBERNETES" --strict --no-warn --quiet "$file" || true
    if grep -qE 'kind: (ServiceMonitor|PrometheusRule)' "$file"; then check "$what: fits the Prometheus operator" "$VALIDATOR/python" -c "$monitoring" "$file" || true; fi
    if variables=$("$VALIDATOR/python" -c "$pod_configuration" "$file" "$STATE/pod.toml" 2>&1); then
      # shellcheck disable=SC2086
      check "$what: seawall takes its configuration" env -i $variables "SEAWALL_DATA=$STATE/pod" "$SEAWALL" check --offline --config "$STATE/pod.toml" || true
    else
      fail "$what: $variables"
    fi
  fi
}

template() { "$HELM" template seawall deploy/helm/seawall --namespace seawall --kube-version "v$KUBERNETES.0" "$@"; }

# rendered WHAT OPTIONS…: the chart with these values is good.
rendered() {
  local what=$1
  shift
  check "$what: helm lint" "$HELM" lint --strict --kube-version "v$KUBERNETES.0" deploy/helm/seawall "$@" || true
  if template "$@" >"$STATE/rendered.yaml" 2>"$STATE/rendered.log"; then pass "$what: helm template"; else fail "$what: $(cat "$STATE/rendered.log")"; return 0; fi
  kubernetes_takes "$what" "$STATE/rendered.yaml"
}

case_chart() {
  say 'the Helm chart'
  get_helm || return 0
  get_validate || VALIDATOR=''
  rendered 'defaults'
  rendered 'three with volumes of their own' --set kind=StatefulSet,replicas=3,ca.existingSecret=seawall-ca,metrics.serviceMonitor.enabled=true \
    --set 'secrets={hub,ghcr}',priorityClassName=high,persistence.storageClass=fast
  rendered 'DNS override, two that keep nothing' --set replicas=2,persistence.type=ephemeral,ca.certificate=x,ca.privateKey=y,service.type=LoadBalancer,service.https=true \
    --set 'listenOn={0.0.0.0,::}' --set-string image.digest=sha256:"$(printf 0%.0s {1..64})"
  rendered 'a claim that is there, a node port' --set persistence.existingClaim=old,service.type=NodePort,service.nodePort=31280,preStopSeconds=0,serviceAccount.create=false,networkPolicy.enabled=false
  rendered 'watched' --set metrics.serviceMonitor.enabled=true,metrics.prometheusRule.enabled=true,metrics.prometheusRule.labels.release=prometheus \
    --set metrics.board.enabled=true,metrics.board.annotations.grafana_folder=Registries
  [ -z "$VALIDATOR" ] || check 'watched: the alerts and the board are those of deploy/' "$VALIDATOR/python" -c "$watched" "$STATE/rendered.yaml" || true
  rendered 'on each node' --values deploy/kubernetes/daemonset/values.yaml --set 'networkPolicy.egress[0].ports[0].port=443'
  refused 'a value that the chart does not have' 'replica' template --set replica=3
  refused 'a kind that it is not' 'kind' template --set kind=Job
  refused 'several on one volume' 'persistence.type: ephemeral' template --set replicas=2
  refused 'several without a CA in common' 'kubectl -n seawall create secret' template --set kind=StatefulSet,replicas=2
  refused 'a CA that would go with its pod' 'ca.existingSecret' template --set persistence.type=emptyDir
  # Helm shows the notes after an installation alone: here they are part of a page.
  cp -r deploy/helm/seawall "$STATE/notes"
  mv "$STATE/notes/templates/NOTES.txt" "$STATE/notes/notes.tpl"
  printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: notes}\ndata:\n  notes: |{{ tpl (.Files.Get "notes.tpl") . | nindent 4 }}\n' >"$STATE/notes/templates/notes.yaml"
  "$HELM" template seawall "$STATE/notes" --namespace seawall --kube-version "v$KUBERNETES.0" -s templates/notes.yaml >"$STATE/notes.txt" 2>&1 || true
  said 'the notes say what is next' 'kubectl -n seawall rollout status deployment/seawall' "$STATE/notes.txt"
  said 'the notes name the address' 'HTTPS_PROXY=http://seawall.seawall:3128' "$STATE/notes.txt"
  check 'the plain manifests are the chart'\''s' env "HELM=$HELM" deploy/kubernetes/render --check || true
}

case_manifests() {
  say 'the plain manifests'
  get_validate || return 0
  kubernetes_takes 'deploy/kubernetes' deploy/kubernetes/seawall.yaml
  kubernetes_takes 'deploy/kubernetes/daemonset' deploy/kubernetes/daemonset/seawall.yaml
  check 'the namespaces' "$VALIDATOR/kubernetes-validate" -k "$KUBERNETES" --strict --no-warn --quiet deploy/kubernetes/namespace.yaml deploy/kubernetes/daemonset/namespace.yaml || true
  if have kubectl; then
    check 'kubectl kustomize' kubectl kustomize deploy/kubernetes || true
    check 'kubectl kustomize daemonset' kubectl kustomize deploy/kubernetes/daemonset || true
  else
    skip 'kubectl kustomize: no kubectl'
  fi
}

# What `seawall setup kubernetes` prints fits too.
case_setup() {
  say 'seawall setup kubernetes'
  "$SEAWALL" setup --help >/dev/null 2>&1 || { skip 'this seawall has no setup'; return 0; }
  get_validate || return 0
  local way file
  export SEAWALL_DATA=$STATE/setup
  "$SEAWALL" ca init >/dev/null 2>&1
  for way in proxy mirror; do
    mkdir -p "$STATE/setup/$way"
    check "$way: it writes its files" "$SEAWALL" setup kubernetes --mode "$way" --address seawall.seawall:3128 --offline --write "$STATE/setup/$way" || continue
    while read -r file; do
      check "$way: $(basename "$file") fits Kubernetes $KUBERNETES" "$VALIDATOR/kubernetes-validate" -k "$KUBERNETES" --strict --no-warn --quiet "$file" || true
    done < <(find "$STATE/setup/$way" -name '*.yaml')
  done
  unset SEAWALL_DATA
}

case_examples() {
  say 'the examples for CI'
  get_validate || return 0
  local file
  for file in deploy/ci/*.yml; do check "$file is YAML" "$VALIDATOR/python" -c 'import sys, yaml; assert yaml.safe_load(open(sys.argv[1]))' "$file" || true; done
}

# ---- the image

# A static binary without symbols.
get_static() {
  PACKED=$STATE/context/target/dist/seawall
  link_static 'the image' || return 1
  mkdir -p "$(dirname "$PACKED")"
  objcopy --strip-all "$STATIC_SEAWALL" "$PACKED"
  note "the binary: $(stat -c %s "$STATIC_SEAWALL") bytes, without symbols $(stat -c %s "$PACKED")"
}

case_image() {
  say 'the image'
  have buildah || { skip 'the image: no buildah'; return 0; }
  get_static || return 0
  local root size
  cp Dockerfile .dockerignore "$STATE/context/"
  cp -r ca "$STATE/context/"
  echo secret >"$STATE/context/ca/ca.key" # must not get into the image
  check 'it builds' run buildah_ bud --isolation chroot --format docker --target prebuilt -t seawall "$STATE/context" || return 0
  buildah_ push -q seawall "oci-archive:$STATE/image.tar" >/dev/null 2>&1
  size=$(stat -c %s "$STATE/image.tar")
  note "the image: $(buildah_ images --format '{{.Size}}' seawall) on disk, $size bytes to pull"
  check 'it is less than 12 MB to pull' [ "$size" -lt 12000000 ] || true
  buildah_ inspect --type image seawall >"$STATE/image.json"
  said 'it says how its health is asked' 'check.*--health|"--health"' "$STATE/image.json"
  said 'it says whose licence' 'org.opencontainers.image.licenses' "$STATE/image.json"
  root=$(buildah_ mount "$(buildah_ from seawall)")
  equal 'nothing is in it but seawall' './usr/local/bin/seawall' "$(cd "$root" && find . ! -type d)"
  equal 'its data directory is its user'\''s' 65532 "$(stat -c %u "$root/var/lib/seawall")"
  # What a runtime adds: names, and the volume of the CA.
  mkdir -p "$root/etc/seawall/ca"
  chown 65532 "$root/etc/seawall/ca"
  printf 'nameserver 127.0.0.1\n' >"$root/etc/resolv.conf"
  printf '10.77.0.1 hosts.test\n' >"$root/etc/hosts"
  cat >"$root/etc/seawall/seawall.toml" <<'TOML'
[[registry]]
name = "lab.test"
upstreams = [{ url = "http://lab.test:5000" }]
[[registry]]
name = "hosts.test"
upstreams = [{ url = "http://hosts.test:5000" }]
TOML
  # In a network of its own, where only the lab's name server is.
  unshare --net --pid --fork --kill-child -- bash -euc '
    root=$1 state=$2
    ip link set lo up
    ip address add 10.77.0.1/32 dev lo
    python3 tests/e2e/deploy_lab.py 10.77.0.1 "$state/lab.log" &
    lab=$!
    seawall() { chroot --userspec=65532:65532 --groups= "$root" /usr/local/bin/seawall "$@"; }
    export SEAWALL_DATA=/var/lib/seawall SEAWALL_CA__DIR=/etc/seawall/ca
    cd /
    for i in $(seq 100); do curl -so /dev/null http://10.77.0.1:5000/v2/ && break; sleep 0.1; done
    seawall check lab.test/app:1 >"$state/check.txt" 2>&1 || true
    seawall serve --listen 0.0.0.0:3128 >"$state/image.log" 2>&1 &
    for i in $(seq 100); do seawall check --health >/dev/null 2>&1 && break; sleep 0.1; done
    seawall check --health && echo healthy >"$state/health"
    pull() { curl -s -o /dev/null -w "%{http_code}" "http://127.0.0.1:3128/v2/$1/app/manifests/1"; }
    { pull lab.test; echo " by DNS"; pull hosts.test; echo " by /etc/hosts"; } >"$state/pulled"
    kill "$lab"
    { pull lab.test; echo " from the cache"; } >>"$state/pulled"
  ' - "$root" "$STATE" || { cat "$STATE"/{image.log,check.txt} 2>/dev/null || true; fail 'it runs'; return 0; }
  said 'seawall check resolves an image' '^image .*sha256:' "$STATE/check.txt"
  equal 'it is healthy' healthy "$(cat "$STATE/health" 2>/dev/null || true)"
  equal 'it pulls, names by DNS and by /etc/hosts, and keeps' "$(printf '200 by DNS\n200 by /etc/hosts\n200 from the cache')" "$(cat "$STATE/pulled")"
  said 'the name server was asked' '^DNS lab.test 1' "$STATE/lab.log"
}

# ---- the Debian package

case_package() {
  say 'the Debian package'
  local deb tools=${CARGO_HOME:-$HOME/.cargo}/seawall-ci/bin rootfs=$E2E_CACHE/rootfs-1.tar root=$STATE/debian
  deb=$(PATH=$PATH:$tools command -v cargo-deb || true)
  have dpkg-deb || { skip 'the package: no dpkg-deb'; return 0; }
  # Forty seconds of two cores when it is not there yet; apart from target/, so that `cargo clean` keeps it.
  if [ -z "$deb" ]; then
    have cargo || { skip 'the package: neither cargo-deb nor cargo is here'; return 0; }
    run env -u CARGO_TARGET_DIR timeout 120 cargo install --debug --quiet --locked --root "${tools%/bin}" "cargo-deb@$CARGO_DEB_VERSION" >"$STATE/cargo-deb.log" 2>&1 ||
      { tail -n 3 "$STATE/cargo-deb.log"; skip 'the package: cargo-deb could not be built in two minutes'; return 0; }
    deb=$tools/cargo-deb
    note "cargo-deb $CARGO_DEB_VERSION is built (${SECONDS}s)"
  fi
  # The binary that is tested is the one that is packed.
  copy_source "$STATE/source"
  mkdir -p "$STATE/source/target/dist"
  cp "$SEAWALL" "$STATE/source/target/dist/seawall"
  check 'cargo deb' env -C "$STATE/source" -u CARGO_TARGET_DIR "$deb" deb --no-build --strip --fast --quiet --output "$STATE/seawall.deb" || return 0
  note "$(stat -c %s "$STATE/seawall.deb") bytes; $(dpkg-deb -f "$STATE/seawall.deb" Depends)"
  equal 'what is in it' "$(printf '%s\n' /etc/seawall/seawall.toml /usr/bin/seawall /usr/lib/systemd/system/seawall.service /usr/lib/systemd/system/seawall.socket /usr/lib/sysusers.d/seawall.conf)" \
    "$(dpkg-deb -c "$STATE/seawall.deb" | awk '!/\/$/ {print $6}' | sed 's|^\.||; s|^/lib/|/usr/lib/|' | grep -v '^/usr/share/doc/' | LC_ALL=C sort)"
  equal 'its configuration stays the operator'\''s' '/etc/seawall/seawall.toml' "$(dpkg-deb -I "$STATE/seawall.deb" conffiles)"
  # CHANGELOG.md is not in Debian's form.
  if have lintian; then check 'lintian has no error' lintian --allow-root --suppress-tags no-changelog --fail-on error "$STATE/seawall.deb" || true; else note 'lintian is not here'; fi

  [ -f "$rootfs" ] || { skip "the package is not installed: no $rootfs (tests/e2e/run makes it)"; return 0; }
  mkdir "$root"
  tar -C "$root" -xf "$rootfs"
  mount -t tmpfs tmpfs "$root/run"
  cp "$STATE/seawall.deb" "$root/seawall.deb"
  # What makes the user where systemd is not: the one thing that a minimal Debian lacks.
  if ! (cd "$root" && apt-get download -q systemd-standalone-sysusers >"$STATE/apt.log" 2>&1); then
    tail -n 2 "$STATE/apt.log"
    skip 'the package is not installed: systemd-standalone-sysusers cannot be had'
    return 0
  fi
  local in=(env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive chroot "$root")
  check 'it installs on a bare Debian' "${in[@]}" sh -c 'dpkg -i /systemd-standalone-sysusers_*.deb /seawall.deb' || return 0
  check 'its configuration is taken' "${in[@]}" seawall check --offline || true
  check 'its user is there' "${in[@]}" getent passwd seawall || true
  check 'a second time over itself' "${in[@]}" dpkg -i /seawall.deb || true
  check 'a root is made, as its user' "${in[@]}" sh -c 'install -d -o seawall -g seawall -m 700 /var/lib/seawall && su -s /bin/sh seawall -c "SEAWALL_DATA=/var/lib/seawall seawall ca init && mkdir /var/lib/seawall/blobs"' || true
  echo 'secret' >"$root/etc/seawall/hub.password"
  check 'it is removed' "${in[@]}" dpkg -r seawall || true
  equal 'removed: configuration and data are there' yes "$([ -f "$root/etc/seawall/seawall.toml" ] && [ -d "$root/var/lib/seawall/blobs" ] && echo yes)"
  "${in[@]}" dpkg -P seawall >"$STATE/purged" 2>&1 || fail 'it is purged'
  said 'purged: it says that the CA is kept' 'kept /var/lib/seawall: clients trust the CA' "$STATE/purged"
  said 'purged: it says that a password is kept' 'kept /etc/seawall' "$STATE/purged"
  equal 'purged: nothing else is left' "$(printf '%s\n' etc/seawall/hub.password var/lib/seawall/ca/ca.crt var/lib/seawall/ca/ca.key)" \
    "$(cd "$root" && find etc usr var -path '*seawall*' ! -type d ! -path 'var/lib/dpkg/*' | sort)"
}

for name in units compose chart manifests setup examples image package; do
  wanted "$name" || continue
  started=$SECONDS
  case $name in
    compose) case_compose_file ;;
    *) "case_$name" ;;
  esac
  note "$name: $((SECONDS - started)) s"
done

printf '\n%d seconds\n' "$SECONDS"
printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
[ "$FAILED" = 0 ]

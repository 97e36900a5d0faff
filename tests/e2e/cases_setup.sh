# Clients that were set up by `seawall setup` and by nothing else (rooms.sh): each pulls twice, and the second time nothing at all reaches the
# registries. Sourced by tests/e2e/run.
# shellcheck shell=bash

# What containers/image does, CRI-O does: podman with CRI-O's files.
crio_pull() { podman_pull "$@"; }
crio_wipe() { podman_wipe; }

# containerd as kubelet uses it: what is in its configuration counts, `ctr` would not read it.
cri_up() { containerd_up; }
cri_ready() { until_true 60 cri_call Version '' ; }
cri_down() { containerd_down; }
cri_pull() {
  cri_call PullImage "$1" || { tail -n 3 "$STATE/containerd.log"; return 1; }
}
cri_wipe() {
  local name
  for name in $(ctr_ --namespace k8s.io images ls -q); do ctr_ --namespace k8s.io images rm --sync "$name"; done
  [ -z "$(ctr_ --namespace k8s.io content ls -q)" ]
}
# cri_call METHOD [IMAGE]: gRPC is a POST over HTTP/2, and the one message that is needed has an image's name in two boxes.
cri_call() {
  local service=ImageService said
  [ "$1" = Version ] && service=RuntimeService
  /usr/bin/python3 -c '
import struct, sys
def box(inner): return b"\x0a" + bytes([len(inner)]) + inner
message = box(box(sys.argv[1].encode())) if sys.argv[1] else b""
sys.stdout.buffer.write(b"\0" + struct.pack(">I", len(message)) + message)' "${2:-}" >"$STATE/cri.request"
  said=$(curl -sS --max-time 120 --http2-prior-knowledge --unix-socket "$STATE/containerd/sock" -H 'content-type: application/grpc' -H 'te: trailers' \
    --data-binary "@$STATE/cri.request" -o "$STATE/cri.reply" -D - "http://localhost/runtime.v1.$service/$1" | tr -d '\r') || return 1
  grep -qx 'grpc-status: 0' <<<"$said" || { grep -i '^grpc-' <<<"$said"; return 1; }
}

# K3s makes containerd's hosts.toml of its registries.yaml, and so does RKE2 (k3s.py).
k3s_up() {
  /usr/bin/python3 tests/e2e/k3s.py "$ROOM/etc/rancher/k3s/registries.yaml" "$ROOM/var/lib/rancher/k3s/agent/etc/containerd/certs.d" || return 1
  service k3s
  mkdir -p "$STATE/containerd"
  printf 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "%s"\n' "$ROOM/var/lib/rancher/k3s/agent/etc/containerd/certs.d" >"$STATE/containerd/k3s.toml"
  start containerd "${SERVICE[@]}" "$CONTAINERD" --config "$STATE/containerd/k3s.toml" --root "$STATE/containerd/root" --state "$STATE/containerd/state" --address "$STATE/containerd/sock"
}
k3s_ready() { cri_ready; }
k3s_down() { containerd_down; }
k3s_pull() { cri_pull "$@"; }
k3s_wipe() { cri_wipe; }

# A Dockerfile that begins with the image; by the classic builder and by the BuildKit that is in dockerd.
make_dockerfile() { mkdir -p "$STATE/build-context" && printf 'FROM %s\nCOPY Dockerfile /e2e/\n' "$1" >"$STATE/build-context/Dockerfile"; }
build_up() { docker_up; }
build_ready() { docker_ready; }
build_down() { docker_down; }
build_pull() { make_dockerfile "$1" && docker_build "$1" "${DOCKER_BUILDKIT:-1}"; }
docker_build() { # IMAGE 0|1
  local WITH=("${WITH[@]}" env "DOCKER_BUILDKIT=$2")
  docker_ build --no-cache -t e2e/built "$STATE/build-context"
}
build_wipe() { docker_ builder prune --all --force && docker_wipe; }

# BuildKit's own daemon: what it builds is thrown away, and so is its cache.
buildkit_up() {
  service buildkit
  start buildkitd "${SERVICE[@]}" "${BIN[buildkitd]}" --config /etc/buildkit/buildkitd.toml --root "$STATE/buildkit" --addr "unix://$STATE/buildkit.sock" --oci-worker-snapshotter "$SNAPSHOTTER" --oci-worker-net host
}
buildctl_() { person "${BIN[buildctl]}" --addr "unix://$STATE/buildkit.sock" "$@"; }
buildkit_ready() { until_true 60 buildctl_ debug workers; }
buildkit_down() { stop buildkitd; }
buildkit_pull() {
  make_dockerfile "$1" && buildctl_ build --no-cache --frontend dockerfile.v0 --local "context=$STATE/build-context" --local "dockerfile=$STATE/build-context" --output "type=oci,dest=$STATE/built.tar"
}
buildkit_wipe() { buildctl_ prune --all; }

# kaniko makes the image of the root directory it finds: it gets one of its own. Its flags, variables and files are those of the pod that was written.
kaniko_pull() {
  local root=$STATE/kaniko words=()
  kaniko_wipe
  mkdir -p "$root"/{kaniko,workspace,proc,dev,tmp,etc}
  cp "${BIN[executor]}" "$root/kaniko/executor"
  cp "$(command -v busybox)" "$root/kaniko/env"
  cp "$ROOM/etc"/{resolv.conf,hosts,passwd,group} "$root/etc/"
  : >"$root/dev/null"
  printf 'FROM %s\nCOPY Dockerfile /e2e/\n' "$1" >"$root/workspace/Dockerfile"
  mapfile -t words < <(/usr/bin/python3 - "$ROOM/etc/seawall/setup/kaniko/pod.yaml" "$root" <<'PYTHON'
import pathlib, sys, yaml

documents = [d for d in yaml.safe_load_all(pathlib.Path(sys.argv[1]).read_text()) if d]
maps = {d["metadata"]["name"]: d["data"] for d in documents if d["kind"] == "ConfigMap"}
spec = next(d["spec"] for d in documents if d["kind"] == "Pod")
container = spec["containers"][0]
volumes = {v["name"]: v["configMap"]["name"] for v in spec.get("volumes", [])}
for mount in container.get("volumeMounts", []):
    file = pathlib.Path(sys.argv[2] + mount["mountPath"])
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(maps[volumes[mount["name"]]][mount["subPath"]])
for variable in container.get("env", []):
    print(f"{variable['name']}={variable['value']}")
print("/kaniko/executor")
for argument in container["args"]:
    if not argument.startswith(("--context=", "--destination=")):
        print(argument)
PYTHON
  )
  # HOME, PATH and SSL_CERT_DIR as in kaniko's own image.
  enter "$NS" unshare -m bash -c 'mount -t proc proc "$0/proc" && mount --bind /dev/null "$0/dev/null" && mount --bind /etc/resolv.conf "$0/etc/resolv.conf" && exec chroot "$0" "$@"' \
    "$root" /kaniko/env -i HOME=/root PATH=/kaniko SSL_CERT_DIR=/kaniko/ssl/certs "${words[@]}" --context=dir:///workspace --no-push --force --single-snapshot
}
kaniko_wipe() { rm -rf "$STATE/kaniko"; }

# What K3s and RKE2 do for their own images.
wharf_pull() { person "${BIN[wharf]}" "$ROOM/etc/rancher/k3s/registries.yaml" "$1" "$STATE/wharf.tar"; }
wharf_wipe() { rm -f "$STATE/wharf.tar"; }

crane_path_pull() { crane_ pull --insecure --platform linux/amd64 --format oci "$SEAWALL_ADDRESS:3128/$1" "$STATE/crane"; }
crane_path_wipe() { crane_wipe; }

# What was on the machine before: for current containerd what it writes itself, as most people have it.
furnish_containerd() { [ "$CONTAINERD" = containerd ] || "$CONTAINERD" config default >"$ROOM/etc/containerd/config.toml"; }
# A buildkitd of one's own has its variables from its unit.
also_buildkit() {
  [ "$1" = proxy ] || return 0
  ALSO=(systemd)
  set_up systemd proxy
  COMMANDS=("${COMMANDS[@]/SERVICE=docker/SERVICE=buildkit}")
}

# ---- the cases

# lines: of every log of the upstream, token services and all.
lines() { cat "$ACCESS" "$STATE/nginx/access.log" "$STATE/tokens/log" 2>/dev/null | wc -l; }

# silent WHAT COMMAND…: it succeeds, and nothing at all reached upstream.
silent() {
  local what=$1 before
  shift
  before=$(lines)
  mark
  if check "$what" "$@"; then equal "$what: upstream heard nothing" 0 "$(($(lines) - before))" || true; show_upstream; fi
}

# What is added to seawall's configuration.
MORE=()
# twice CLIENT MODE SETUP IMAGE…: the client, set up as SETUP, pulls each image twice.
twice() {
  local client=$1 mode=$2 setup=$3 image how="$1 ($2)"
  shift 3
  TAG_TTL=1m seawall_fresh "${MORE[@]}"
  set_room "$setup" "$mode" || return 0
  client_up "$client" || { ROOM=''; return 0; }
  for image in "$@"; do
    mark
    if check "$how pulls $image" "${client}_pull" "$image"; then
      equal "$how: upstream gave each blob of $image once" 2 "$(blobs_reached)"
      equal "$how: the index and the manifest too" 2 "$(manifests_reached)"
      check "$how forgets it" "${client}_wipe" || true
      silent "$how pulls it again" "${client}_pull" "$image"
    fi
    "${client}_wipe" >/dev/null 2>&1 || true
  done
  client_down "$client"
  leave_room "$setup" "$mode"
}

HUB_SMALL=docker.io/library/e2e:setup GHCR_SMALL=ghcr.io/library/e2e:setup-ghcr

push_setup_images() {
  [ ! -d "$STATE/small/setup" ] || return 0
  push_small setup
  push_small setup-ghcr
  [ -n "${TEMPLATE:-}" ] || make_rooms
}

case_setup_docker() {
  say 'dockerd, set up by seawall'
  push_setup_images
  twice docker proxy docker $HUB_SMALL $GHCR_SMALL
  twice docker mirror docker $HUB_SMALL
  twice docker dns docker $HUB_SMALL $GHCR_SMALL
  twice build proxy docker $HUB_SMALL $GHCR_SMALL
  twice build mirror docker $HUB_SMALL
  DOCKER_BUILDKIT=0 twice build mirror docker $HUB_SMALL
}

case_setup_containerd() {
  say 'containerd, set up by seawall'
  push_setup_images
  twice cri mirror containerd $HUB_SMALL $GHCR_SMALL
  twice cri proxy containerd $HUB_SMALL $GHCR_SMALL
  twice cri dns containerd $HUB_SMALL $GHCR_SMALL
  twice k3s mirror k3s $HUB_SMALL $GHCR_SMALL
  built wharf && twice wharf mirror k3s $HUB_SMALL $GHCR_SMALL
  if built containerd; then
    say "containerd $("${BIN[containerd]}" --version | cut -d' ' -f3), set up by seawall"
    local CONTAINERD=${BIN[containerd]} mode
    rm -rf "$STATE/containerd"
    for mode in mirror proxy dns; do twice cri $mode containerd $HUB_SMALL $GHCR_SMALL; done
    twice k3s mirror k3s $HUB_SMALL $GHCR_SMALL
    rm -rf "$STATE/containerd"
  fi
}

case_setup_builders() {
  say 'BuildKit and kaniko, set up by seawall'
  push_setup_images
  if built buildkitd && built buildctl; then
    twice buildkit mirror buildkit $HUB_SMALL $GHCR_SMALL
    twice buildkit proxy buildkit $HUB_SMALL $GHCR_SMALL
  fi
  if built executor; then
    twice kaniko mirror kaniko $HUB_SMALL $GHCR_SMALL
    twice kaniko proxy kaniko $HUB_SMALL $GHCR_SMALL
  fi
}

case_setup_podman() {
  say 'podman, skopeo, buildah and CRI-O, set up by seawall'
  push_setup_images
  local client mode
  for mode in proxy mirror dns; do
    for client in podman buildah; do twice $client $mode podman $HUB_SMALL $GHCR_SMALL; done
  done
  for mode in mirror dns; do twice skopeo $mode podman $HUB_SMALL $GHCR_SMALL; done
  twice skopeo proxy shell $HUB_SMALL $GHCR_SMALL # it reads no containers.conf
  twice crio mirror crio $HUB_SMALL $GHCR_SMALL
}

# Mirrors over TLS, by a name of seawall's own: what trusts it, and where, is in the files too.
case_setup_tls() {
  say "TLS to seawall's own name, set up by seawall"
  push_setup_images
  local ADDRESS=https://$SEAWALL_NAME:3128 MORE=('[tls]' "names = [\"$SEAWALL_NAME\"]")
  twice docker mirror docker $HUB_SMALL
  twice build mirror docker $HUB_SMALL
  twice cri mirror containerd $HUB_SMALL $GHCR_SMALL
  twice podman mirror podman $HUB_SMALL $GHCR_SMALL
  twice k3s mirror k3s $HUB_SMALL $GHCR_SMALL
  built wharf && twice wharf mirror k3s $HUB_SMALL $GHCR_SMALL
  [ -z "${BIN[buildkitd]:-}" ] || twice buildkit mirror buildkit $HUB_SMALL $GHCR_SMALL
  [ -z "${BIN[executor]:-}" ] || twice kaniko mirror kaniko $HUB_SMALL $GHCR_SMALL
}

case_setup_crane() {
  say 'crane, in a shell set up by seawall'
  can crane || return 0
  push_setup_images
  twice crane proxy shell $HUB_SMALL $GHCR_SMALL
  twice crane dns podman $HUB_SMALL $GHCR_SMALL # it needs the root in the system's store, and so does podman
  twice crane_path mirror podman $HUB_SMALL $GHCR_SMALL
}

# What it is deployed by (deploy.sh): here the parts that need nothing to be built first, and those that have it already.
case_deploy() {
  say 'deployment: tests/e2e/deploy.sh'
  local parts='units compose setup examples' passed failed skipped
  if command -v helm >/dev/null || [ -n "$(find "$E2E_CACHE" -path '*/bin-helm-*/helm')" ]; then parts+=' chart manifests'; fi
  if [ -n "${STATIC_SEAWALL:-}" ]; then parts+=' image'; fi
  if [[ " ${E2E_CLIENTS:-} " == *" all "* ]]; then parts=''; else skip "deployment: what is not among $parts: tests/e2e/deploy.sh, or E2E_CLIENTS=all"; fi
  SEAWALL=$SEAWALL E2E_CACHE=$E2E_CACHE DEPLOY_ONLY=${DEPLOY_ONLY:-$parts} tests/e2e/deploy.sh >"$STATE/deploy.log" 2>&1 || true
  sed '/^[0-9]* \(seconds\|passed, .*\)$/d' "$STATE/deploy.log"
  read -r passed _ failed _ skipped _ < <(tail -n 1 "$STATE/deploy.log" | grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$') || { fail 'deploy.sh did not come to its end'; return 0; }
  PASSED=$((PASSED + passed)) FAILED=$((FAILED + failed)) SKIPPED=$((SKIPPED + skipped))
}

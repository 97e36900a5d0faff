# The clients. Sourced by tests/e2e/run.
# shellcheck shell=bash
#
# Each has CLIENT_pull IMAGE, CLIENT_wipe (nothing of an image stays), those that can CLIENT_run IMAGE; daemons CLIENT_up, CLIENT_ready, CLIENT_down.
# $WAY (proxy, dns, direct, office) is the namespace they live in; $TRUST a directory per trust: ca.crt alone is what they believe.

set_way() {
  WAY=$1
  NS=$(ns "$WAY")
  TRUST=$STATE/trust/seawall
  [ "$WAY" = direct ] && TRUST=$STATE/trust/upstream
  # An empty home: no login, no proxy, no configuration of the machine's.
  WITH=(env -i "PATH=$PATH" "HOME=$STATE/home" "DOCKER_CONFIG=$STATE/home/.docker" "XDG_RUNTIME_DIR=$STATE/home/run" "TMPDIR=$STATE/tmp")
  GO_TRUST=("SSL_CERT_FILE=$TRUST/ca.crt" SSL_CERT_DIR=/nonexistent)
  PROXY=()
  case $WAY in proxy | office) PROXY=("HTTPS_PROXY=http://$SEAWALL_ADDRESS:3128") ;; esac
  mkdir -p "$STATE/home/.docker" "$STATE/home/run" "$STATE/tmp"
  printf '{"auths":{}}' >"$STATE/home/.docker/config.json"
}

# dockerd: its own data, its own containerd, its own bridge in our namespace.
docker_up() {
  printf '{}' >"$STATE/empty.json"
  start dockerd "${WITH[@]}" "${GO_TRUST[@]}" "${PROXY[@]}" dockerd --data-root "$STATE/docker" --exec-root "$STATE/docker-run" --pidfile "$STATE/dockerd.pid" \
    --host "unix://$STATE/docker.sock" --storage-driver "$GRAPH" --bip 10.99.200.1/24 --default-address-pool base=10.99.208.0/20,size=24 \
    --exec-opt native.cgroupdriver=cgroupfs --config-file "$STATE/empty.json"
}
docker_ready() { until_true 60 docker_ version; }
docker_() { "${WITH[@]}" docker --host "unix://$STATE/docker.sock" "$@"; }
docker_down() { stop dockerd; }
docker_pull() { docker_ pull "$1"; }
# A container that `--rm` takes away holds its image a moment longer.
docker_wipe() {
  local id n
  for n in 1 2 3 4 5 6 7 8; do
    for id in $(docker_ image ls --all --quiet --no-trunc | sort -u); do docker_ image rm --force "$id" || true; done
    [ -n "$(docker_ image ls --quiet)" ] || return 0
    sleep 0.5
  done
  return 1
}
docker_run() { docker_ run --rm --network none "$1"; }

# containerd 1.6: `ctr` resolves and fetches by itself, containerd keeps.
containerd_up() {
  mkdir -p "$STATE/containerd"
  printf 'version = 2\nroot = "%s/root"\nstate = "%s/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n[grpc]\naddress = "%s/sock"\n' "$STATE/containerd"{,,} >"$STATE/containerd/config.toml"
  start containerd "${WITH[@]}" containerd --config "$STATE/containerd/config.toml"
}
containerd_ready() { until_true 60 ctr_ version; }
ctr_() { enter "$NS" "${WITH[@]}" "${GO_TRUST[@]}" "${PROXY[@]}" ctr --address "$STATE/containerd/sock" "$@"; }
containerd_down() { stop containerd; }
containerd_pull() { ctr_ images pull --snapshotter "$SNAPSHOTTER" "$1"; }
containerd_wipe() {
  local name
  for name in $(ctr_ images ls -q); do ctr_ images rm --sync "$name"; done
  [ -z "$(ctr_ content ls -q)" ]
}
containerd_run() {
  ctr_ run --rm --snapshotter "$SNAPSHOTTER" "$1" "e2e-$RANDOM"
}

podman_() { enter "$NS" "${WITH[@]}" "${PROXY[@]}" podman --runtime runc --root "$STATE/podman" --runroot "$STATE/podman-run" --storage-driver "$GRAPH_PODMAN" --cgroup-manager cgroupfs --events-backend file "$@"; }
podman_pull() { podman_ pull --quiet --cert-dir "$TRUST" "$1"; }
podman_wipe() { podman_ rmi --all --force; }
podman_run() { podman_ run --rm --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network none --pull never "$1"; }

skopeo_() { enter "$NS" "${WITH[@]}" "${PROXY[@]}" skopeo --insecure-policy "$@"; }
skopeo_pull() { skopeo_ copy --quiet --src-cert-dir "$TRUST" "docker://$1" "oci:$STATE/skopeo:1"; }
skopeo_wipe() { rm -rf "$STATE/skopeo"; }

crane_() { enter "$NS" "${WITH[@]}" "${GO_TRUST[@]}" "${PROXY[@]}" "$CRANE" "$@"; }
crane_pull() { crane_ pull --platform linux/amd64 --format oci "$1" "$STATE/crane"; }
crane_wipe() { rm -rf "$STATE/crane"; }

has() { declare -F "$1" >/dev/null; }

# The clients. Sourced by tests/e2e/run.
# shellcheck shell=bash
#
# Each has CLIENT_pull IMAGE, CLIENT_wipe (nothing of an image stays), those that can CLIENT_run IMAGE; daemons CLIENT_up, CLIENT_ready, CLIENT_down.
# $WAY (proxy, dns, direct, office) is the namespace they live in; $TRUST a directory per trust: ca.crt alone is what they believe.
# In a room (rooms.sh) all of that is said by files below /etc, and $TRUST is empty.

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
  ROOM=''
  mkdir -p "$STATE/home/.docker" "$STATE/home/run" "$STATE/tmp"
  printf '{"auths":{}}' >"$STATE/home/.docker/config.json"
}

# service UNIT: sets SERVICE, the words before a daemon's command that give it its environment.
service() { if [ -n "$ROOM" ]; then room_service "$1"; else SERVICE=("${WITH[@]}" "${GO_TRUST[@]}" "${PROXY[@]}"); fi; }

# dockerd: its own data, its own containerd, its own bridge in our namespace.
docker_up() {
  local config=()
  service docker
  if [ -z "$ROOM" ]; then printf '{}' >"$STATE/empty.json"; config=(--config-file "$STATE/empty.json"); fi
  start dockerd "${SERVICE[@]}" dockerd --data-root "$STATE/docker" --exec-root "$STATE/docker-run" --pidfile "$STATE/dockerd.pid" \
    --host "unix://$STATE/docker.sock" --storage-driver "$GRAPH" --bip 10.99.200.1/24 --default-address-pool base=10.99.208.0/20,size=24 \
    --exec-opt native.cgroupdriver=cgroupfs "${config[@]}"
}
docker_ready() { until_true 60 docker_ version; }
# Debian's, where there are two: its BuildKit needs no plug-in.
DOCKER=/usr/bin/docker
docker_() {
  local IN=()
  [ -z "$ROOM" ] || within "$NS"
  "${IN[@]}" "${WITH[@]}" "$DOCKER" --host "unix://$STATE/docker.sock" "$@"
}
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
CONTAINERD=containerd CTR=ctr
containerd_up() {
  mkdir -p "$STATE/containerd"
  service containerd
  local config=$STATE/containerd/config.toml
  if [ -n "$ROOM" ]; then config=/etc/containerd/config.toml; else printf 'version = 2\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n' >"$config"; fi
  start containerd "${SERVICE[@]}" "$CONTAINERD" --config "$config" --root "$STATE/containerd/root" --state "$STATE/containerd/state" --address "$STATE/containerd/sock"
}
containerd_ready() { until_true 60 ctr_ version; }
ctr_() { enter "$NS" "${WITH[@]}" "${GO_TRUST[@]}" "${PROXY[@]}" "$CTR" --address "$STATE/containerd/sock" "$@"; }
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
podman_pull() { podman_ pull --quiet ${TRUST:+--cert-dir "$TRUST"} "$1"; }
podman_wipe() { podman_ rmi --all --force; }
podman_run() { podman_ run --rm --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network none --pull never "$1"; }

skopeo_() { enter "$NS" "${WITH[@]}" "${PROXY[@]}" skopeo --insecure-policy "$@"; }
skopeo_pull() { skopeo_ copy --quiet ${TRUST:+--src-cert-dir "$TRUST"} "docker://$1" "oci:$STATE/skopeo:1"; }
skopeo_wipe() { rm -rf "$STATE/skopeo"; }

crane_() { enter "$NS" "${WITH[@]}" "${GO_TRUST[@]}" "${PROXY[@]}" "$CRANE" "$@"; }
crane_pull() { crane_ pull --platform linux/amd64 --format oci "$1" "$STATE/crane"; }
crane_wipe() { rm -rf "$STATE/crane"; }

has() { declare -F "$1" >/dev/null; }

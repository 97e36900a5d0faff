# A room is one client's machine: an /etc of its own, in which `seawall setup CLIENT --mode MODE --write ROOM` wrote what the client needs.
# The client is started there with nothing but those files: no flag, no variable of ours says where seawall is. Sourced by tests/e2e/run.
# shellcheck shell=bash

# The machine's /etc without what somebody may have set up on it, and without any root but what is added.
make_rooms() {
  TEMPLATE=$STATE/rooms/template
  mkdir -p "$TEMPLATE"/{root,usr/local/share/ca-certificates}
  cp -a /etc "$TEMPLATE/etc"
  rm -rf "$TEMPLATE/etc"/{docker,environment,profile.d,containerd,buildkit,rancher,crio} "$TEMPLATE/etc/ssl/certs" "$TEMPLATE/etc/containers"/{registries.conf.d,certs.d}
  rm -f "$TEMPLATE/etc/resolv.conf" "$TEMPLATE/etc/ca-certificates.conf"
  mkdir -p "$TEMPLATE/etc"/{profile.d,containerd,docker,ssl/certs}
  : >"$TEMPLATE/etc/resolv.conf"
  : >"$TEMPLATE/etc/ca-certificates.conf"
  [ ! -e /etc/containerd/config.toml ] || cp /etc/containerd/config.toml "$TEMPLATE/etc/containerd/"
}

# set_room CLIENT MODE [HOW…]: a fresh one. Who lives there knows names in the way `dns` alone.
set_room() {
  local client=$1 mode=$2
  case $mode in dns) set_way dns ;; *) set_way proxy ;; esac
  ROOM=$STATE/rooms/$client-$mode
  rm -rf "$ROOM"
  cp -a "$TEMPLATE" "$ROOM"
  TRUST='' GO_TRUST=() PROXY=()
  # A person's login shell: what is in /etc/profile.d counts.
  WITH=(env -i "PATH=$PATH" "HOME=$ROOM/root" "XDG_RUNTIME_DIR=$STATE/home/run" "TMPDIR=$STATE/tmp" bash -lc 'exec "$@"' login)
  set_up "$@" || return 1
  [ -z "$(ls "$ROOM/usr/local/share/ca-certificates")" ] || enter "$NS" update-ca-certificates >"$STATE/update-ca.log" 2>&1 || { cat "$STATE/update-ca.log"; fail "$client ($mode): update-ca-certificates"; return 1; }
}

# What systemd would give to a unit: its drop-ins' Environment and EnvironmentFile.
room_service() {
  SERVICE=(env -i "PATH=$PATH" "HOME=$ROOM/root" "TMPDIR=$STATE/tmp")
  local lines
  mapfile -t lines < <(/usr/bin/python3 - "$ROOM" "$1" <<'PYTHON'
import pathlib, shlex, sys

room, unit = pathlib.Path(sys.argv[1]), sys.argv[2]
system = room / "etc/systemd/system"
values = {}


def take(words):
    values.update(word.split("=", 1) for word in words)


def read(path):
    lines = (line.strip() for line in path.read_text().splitlines())
    take(word for line in lines if line and line[0] not in "#;" for word in [shlex.split(line)[0]])


for file in sorted((system / f"{unit}.service.d").glob("*.conf")):
    for line in file.read_text().splitlines():
        key, _, value = line.strip().partition("=")
        if key == "Environment":
            take(shlex.split(value))
        elif key == "EnvironmentFile":
            read(room / value.lstrip("-").lstrip("/"))
if (system / f"{unit}.service.env").exists():  # k3s and RKE2
    read(system / f"{unit}.service.env")
print(*(f"{key}={value}" for key, value in values.items()), sep="\n")
PYTHON
  )
  local line
  for line in "${lines[@]}"; do [ -z "$line" ] || SERVICE+=("$line"); done
}

# set_up CLIENT MODE: by hand, until `seawall setup` does it.
set_up() {
  local address=http://$SEAWALL_ADDRESS:3128 mode=$2
  [ "$mode" = mirror ] || cp "$STATE/ca/ca.crt" "$ROOM/usr/local/share/ca-certificates/seawall.crt"
  if [ "$mode" = proxy ]; then
    printf 'export HTTPS_PROXY=%s https_proxy=%s\n' "$address" "$address" >"$ROOM/etc/profile.d/seawall.sh"
    local unit
    for unit in docker containerd buildkit; do
      mkdir -p "$ROOM/etc/systemd/system/$unit.service.d"
      printf '[Service]\nEnvironment="HTTPS_PROXY=%s"\n' "$address" >"$ROOM/etc/systemd/system/$unit.service.d/seawall.conf"
    done
  fi
  case $1-$mode in
    docker-mirror) printf '{"registry-mirrors":["%s"],"insecure-registries":["%s"]}' "$address" "$address" >"$ROOM/etc/docker/daemon.json" ;;
    containerd-mirror)
      mkdir -p "$ROOM/etc/containerd/certs.d/_default"
      printf '[host."%s"]\n  capabilities = ["pull", "resolve"]\n' "$address" >"$ROOM/etc/containerd/certs.d/_default/hosts.toml"
      printf 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\nconfig_path = "/etc/containerd/certs.d"\n' >"$ROOM/etc/containerd/config.toml"
      ;;
    podman-mirror | crio-mirror)
      mkdir -p "$ROOM/etc/containers/registries.conf.d"
      local registry
      for registry in docker.io ghcr.io; do
        printf '[[registry]]\nprefix = "%s"\nlocation = "%s"\n[[registry.mirror]]\nlocation = "%s/%s"\ninsecure = true\n' $registry $registry "${address#*//}" $registry
      done >"$ROOM/etc/containers/registries.conf.d/seawall.conf"
      ;;
    k3s-mirror)
      mkdir -p "$ROOM/etc/rancher/k3s"
      printf 'mirrors:\n  "*":\n    endpoint:\n      - "%s"\n' "$address" >"$ROOM/etc/rancher/k3s/registries.yaml"
      ;;
    buildkit-mirror)
      mkdir -p "$ROOM/etc/buildkit"
      printf '[registry."docker.io"]\n  mirrors = ["%s"]\n[registry."%s"]\n  http = true\n' "${address#*//}/docker.io" "${address#*//}" >"$ROOM/etc/buildkit/buildkitd.toml"
      ;;
  esac
}

# A room is one client's machine: an /etc of its own, in which `seawall setup CLIENT --mode MODE --write ROOM` wrote what the client needs.
# The commands that it printed are run there, and the client is started with nothing but those files: no flag, no variable of ours says where
# seawall is. Sourced by tests/e2e/run.
# shellcheck shell=bash

# The machine's /etc without what somebody may have set up on it, and without any root but what is added.
make_rooms() {
  TEMPLATE=$STATE/rooms/template
  mkdir -p "$TEMPLATE"/{root,usr/local/share/ca-certificates}
  cp -a /etc "$TEMPLATE/etc"
  rm -rf "$TEMPLATE/etc"/{docker,environment,profile.d,containerd,buildkit,rancher,crio,dnsmasq.d,seawall} "$TEMPLATE/etc/ssl/certs" "$TEMPLATE/etc/containers"/{registries.conf.d,certs.d}
  rm -f "$TEMPLATE/etc/resolv.conf" "$TEMPLATE/etc/ca-certificates.conf"
  mkdir -p "$TEMPLATE/etc"/{profile.d,containerd,docker,ssl/certs}
  : >"$TEMPLATE/etc/resolv.conf"
  : >"$TEMPLATE/etc/ca-certificates.conf"
  echo "$SEAWALL_ADDRESS $SEAWALL_NAME" >>"$TEMPLATE/etc/hosts"
  [ ! -e /etc/containerd/config.toml ] || cp /etc/containerd/config.toml "$TEMPLATE/etc/containerd/"
}

# set_room CLIENT MODE [ADDRESS]: a fresh one; furnish_CLIENT may put in what was there before. Who lives there knows names in the way `dns` alone.
set_room() {
  local client=$1 mode=$2
  case $mode in dns) set_way "${ROOM_IN:-dns}" ;; *) set_way proxy ;; esac
  ROOM=$STATE/rooms/$client-$mode
  rm -rf "$ROOM"
  cp -a "$TEMPLATE" "$ROOM"
  TRUST='' GO_TRUST=() PROXY=()
  # A person's login shell: what is in /etc/profile.d counts.
  WITH=(env -i "PATH=$PATH" "HOME=$ROOM/root" "XDG_RUNTIME_DIR=$STATE/home/run" "TMPDIR=$STATE/tmp" bash -lc 'exec "$@"' login)
  COMMANDS=() ALSO=()
  if has "furnish_$client"; then "furnish_$client" "$mode"; fi
  rm -rf "$STATE/before"
  cp -a "$ROOM/etc" "$STATE/before"
  set_up "$@" || return 1
  if has "also_$client"; then "also_$client" "$mode" || return 1; fi
  run_commands "$client ($mode)"
}

# leave_room CLIENT MODE: everything is taken back, but for what the commands and the clients made.
leave_room() {
  local client
  rm -rf "$ROOM/etc/systemd/system/buildkit.service.d" # by a command that was printed
  for client in "$1" "${ALSO[@]}"; do
    "$SEAWALL" --config "$STATE/seawall.toml" setup "$client" --write "$ROOM" --undo >"$STATE/setup.out" 2>&1 || { fail "$client ($2): undo"; cat "$STATE/setup.out"; }
  done
  # cni.lock: podman makes it, where it has CNI for a network.
  if ! diff -r --no-dereference --exclude=certs --exclude=key.json --exclude=cni.lock "$STATE/before" "$ROOM/etc" >"$STATE/difference"; then
    fail "$1 ($2): undo leaves /etc as it was"
    head -n 20 "$STATE/difference"
  else
    pass "$1 ($2): undo leaves /etc as it was"
  fi
  ROOM=''
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

# set_up CLIENT MODE [ADDRESS]: what is printed to be run is run in the room, as far as it makes sense there: services are started by the case.
# (The commands for iptables are in a note.) ADDRESS is where clients reach seawall, if not by its IP address in the clear.
RUN_THESE='^(update-ca-certificates|unbound-checkconf|dnsmasq --test|install |SERVICE=)'
set_up() {
  local command
  "$SEAWALL" --config "$STATE/seawall.toml" setup "$1" --mode "$2" --offline --address "${3:-${ADDRESS:-http://$SEAWALL_ADDRESS:3128}}" --write "$ROOM" >"$STATE/setup.out" 2>"$STATE/setup.err" ||
    { fail "seawall setup $1 --mode $2"; cat "$STATE/setup.out" "$STATE/setup.err"; return 1; }
  while read -r command; do
    if [[ $command =~ $RUN_THESE ]]; then COMMANDS+=("$command"); fi
  done < <(sed -nE 's/^(Now run on that machine: | +(ip6?tables))/\2/p' "$STATE/setup.err")
}

# run_commands: those, in order, by one shell of root's.
run_commands() {
  [ "${#COMMANDS[@]}" -gt 0 ] || return 0
  printf '%s\n' "${COMMANDS[@]}" >"$STATE/commands"
  enter "$NS" env -i "PATH=$PATH" bash -e "$STATE/commands" >"$STATE/commands.log" 2>&1 || { fail "what is to be run for $*"; cat "$STATE/commands" "$STATE/commands.log"; return 1; }
}

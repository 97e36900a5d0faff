#!/usr/bin/env bash
# seawall as nobody in particular: no root, no capability, and port 443 all the same. Sourced by tests/e2e/run; alone it is
#
#   SEAWALL=target/debug/seawall tests/e2e/unprivileged.sh
#
# Needs root to become somebody else, setpriv (util-linux), setcap (libcap2-bin), curl, and Python for the socket that is handed over
# (systemd-socket-activate too, if it is there). No upstream: it asks for /ca.crt, and for /v2/ of a registry that cannot be reached.
# shellcheck shell=bash

# Two users that nobody is, and no capability even in the bounding set.
SEAWALL_UID=64999 OTHER_UID=64998
unprivileged=(setpriv --reuid "$SEAWALL_UID" --regid "$SEAWALL_UID" --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs)
# For a file's capability to count, it must be in the bounding set, and new privileges allowed.
capable=(setpriv --reuid "$SEAWALL_UID" --regid "$SEAWALL_UID" --clear-groups '--bounding-set=-all,+net_bind_service' --inh-caps=-all)

# Hands over a listening socket on each port, as systemd does: file descriptors from 3 on, named by LISTEN_FDS and LISTEN_PID.
read -r -d '' hand_over <<'PY' || true
import os, socket, sys
ports, command = sys.argv[1].split(","), sys.argv[2:]
for n, port in enumerate(ports):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", int(port))); s.listen(64)
    os.dup2(s.fileno(), 100 + n)
for n in range(len(ports)):
    os.dup2(100 + n, 3 + n); os.close(100 + n); os.set_inheritable(3 + n, True)
os.environ.update(LISTEN_FDS=str(len(ports)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=":".join("some" for _ in ports))
os.execvp(command[0], command)
PY

# nobody_configure LISTEN: a home of its own, below a directory that everybody may enter.
nobody_configure() {
  NOBODY=$(mktemp -d "$STATE/nobody.XXXXXX")
  chmod 711 "$STATE" "$NOBODY"
  mkdir -m 700 "$NOBODY/data"
  chown $SEAWALL_UID:$SEAWALL_UID "$NOBODY/data"
  install -m 755 "$SEAWALL" "$NOBODY/seawall"
  printf 'listen = %s\nadmin = "127.0.0.1:3129"\ndata = "%s/data"\n[upstream.hosts]\n"ghcr.io" = "127.0.0.1:9"\n' "$1" "$NOBODY" >"$NOBODY/seawall.toml"
  chmod 644 "$NOBODY/seawall.toml"
}

nobody_ready() { until_true 20 enter "$NS" curl -sf http://127.0.0.1:3129/readyz; }
nobody_log() { tail -n 15 "$STATE/nobody.log"; return 1; }

# nobody_serves WHAT: on 3128 and on 443, with nothing of root's about the process.
nobody_serves() {
  local pid
  check "$1: it becomes ready" nobody_ready || { nobody_log || true; return 0; }
  pid=${PID[nobody]}
  check "$1: it gives its certificate away" enter "$NS" curl -s -f http://127.0.0.1:3128/ca.crt -o "$NOBODY/ca.crt" || true
  equal "$1: it is nobody in particular" "$SEAWALL_UID $SEAWALL_UID $SEAWALL_UID $SEAWALL_UID" "$(awk '/^Uid:/ {print $2, $3, $4, $5}' "/proc/$pid/status")"
  [ -n "${2:-}" ] || equal "$1: it has no capability" 'CapEff:0000000000000000 CapBnd:0000000000000000' \
    "$(awk '/^Cap(Eff|Bnd):/ {printf "%s%s%s", n++ ? " " : "", $1, $2}' "/proc/$pid/status")"
  # A TLS handshake under a registry's name, then seawall's own words: the registry cannot be reached.
  equal "$1: 443 speaks for a registry" 502 \
    "$(enter "$NS" curl -s -m 20 -o /dev/null -w '%{http_code}' --cacert "$NOBODY/ca.crt" --resolve ghcr.io:443:127.0.0.1 https://ghcr.io/v2/library/x/manifests/1 || true)"
}

# nobody_refuses WHAT EXPECTED…: it ends by itself, and says these words.
nobody_refuses() {
  local what=$1 word code=0
  shift
  timeout 20 "${IN[@]}" "${unprivileged[@]}" "$NOBODY/seawall" serve --config "$NOBODY/seawall.toml" >"$STATE/nobody.log" 2>&1 </dev/null || code=$?
  equal "$what: it does not start" 1 "$code"
  for word in "$@"; do check "$what: it says \"$word\"" grep -qF -- "$word" "$STATE/nobody.log" || nobody_log || true; done
}

case_unprivileged() {
  say 'without root: 443 all the same'
  stop seawall
  NS=e2e-$$-nobody
  ip netns add "$NS"
  : >"$STATE/resolv.$NS"
  enter "$NS" ip link set lo up
  local IN both='["127.0.0.1:3128", "127.0.0.1:443"]'
  within "$NS"
  # What is said of ports below 1024 is the kernel's own setting, and each network namespace has its own.
  enter "$NS" sysctl -q -w net.ipv4.ip_unprivileged_port_start=1024

  nobody_configure "$both"
  nobody_refuses '443 without any leave' 'cannot listen at 127.0.0.1:443' 'CAP_NET_BIND_SERVICE' 'socket activation' 'net.ipv4.ip_unprivileged_port_start'

  local python
  python=$(command -v python3 || true)
  if [ -n "$python" ]; then
    # As root it opens the ports, and then is the user, who may not be able to enter the directory of this Python.
    printf '%s' "$hand_over" >"$STATE/hand-over.py"
    start nobody "$python" "$STATE/hand-over.py" 443,3128 "${unprivileged[@]}" "$NOBODY/seawall" serve --config "$NOBODY/seawall.toml"
    nobody_serves 'inherited sockets'
    equal 'inherited sockets: the data directory is its own' "700 $SEAWALL_UID" "$(stat -c '%a %u' "$NOBODY/data")"
    equal 'inherited sockets: so is the directory of the CA' "700 $SEAWALL_UID" "$(stat -c '%a %u' "$NOBODY/data/ca")"
    equal 'inherited sockets: the key is for nobody else' "600 $SEAWALL_UID" "$(stat -c '%a %u' "$NOBODY/data/ca/ca.key")"
    # sled makes the files of the index by the umask; a directory above them is for nobody else.
    equal 'inherited sockets: nothing but the certificate is for others to read' "$NOBODY/data/ca/ca.crt" \
      "$(find "$NOBODY/data" -path "$NOBODY/data/index/*" -prune -o -perm /077 -print)"
    stop nobody
    # The other way round: neither order nor number matters.
    start nobody "$python" "$STATE/hand-over.py" 3128,8443,443 "${unprivileged[@]}" "$NOBODY/seawall" serve --config "$NOBODY/seawall.toml"
    nobody_serves 'inherited sockets in another order'
    stop nobody
  else
    skip 'inherited sockets: no Python here'
  fi
  if command -v systemd-socket-activate >/dev/null; then
    # The first connection starts it.
    start nobody systemd-socket-activate -l 127.0.0.1:443 -l 127.0.0.1:3128 "${unprivileged[@]}" "$NOBODY/seawall" serve --config "$NOBODY/seawall.toml"
    until_true 10 enter "$NS" curl -sf -m 10 -o /dev/null http://127.0.0.1:3128/ca.crt || true
    nobody_serves 'systemd-socket-activate'
    stop nobody
  else
    skip 'systemd-socket-activate is not here'
  fi

  enter "$NS" sysctl -q -w net.ipv4.ip_unprivileged_port_start=443
  start nobody "${unprivileged[@]}" "$NOBODY/seawall" serve --config "$NOBODY/seawall.toml"
  nobody_serves 'the sysctl'
  stop nobody
  enter "$NS" sysctl -q -w net.ipv4.ip_unprivileged_port_start=1024

  if setcap cap_net_bind_service=+ep "$NOBODY/seawall" 2>/dev/null; then
    start nobody "${capable[@]}" "$NOBODY/seawall" serve --config "$NOBODY/seawall.toml"
    nobody_serves 'setcap' its-own
    stop nobody
    setcap -r "$NOBODY/seawall"
  else
    skip 'setcap: not here, or this file system has no capabilities'
  fi

  # Somebody else's directories: each is named, and what is wrong with it.
  nobody_configure '["127.0.0.1:3128"]'
  chown -R $OTHER_UID:$OTHER_UID "$NOBODY/data"
  nobody_refuses "another user's data" "$NOBODY/data" 'Permission denied'
  nobody_configure '["127.0.0.1:3128"]'
  start nobody "${unprivileged[@]}" "$NOBODY/seawall" serve --config "$NOBODY/seawall.toml"
  nobody_ready || true
  stop nobody
  chown $OTHER_UID:$OTHER_UID "$NOBODY/data/ca/ca.key"
  nobody_refuses "another user's key" "$NOBODY/data/ca/ca.key" 'Permission denied'
  chown $SEAWALL_UID "$NOBODY/data/ca/ca.key"
  chown -R $OTHER_UID "$NOBODY/data/blobs" "$NOBODY/data/partial" "$NOBODY/data/index"
  nobody_refuses "another user's blobs" "$NOBODY/data/" 'Permission denied'
  ip netns del "$NS"
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then
  set -euo pipefail
  cd "$(dirname "$0")/../.."
  . tests/e2e/lib.sh
  SEAWALL=$(realpath -e "${SEAWALL:-target/release/seawall}")
  STATE=$(mktemp -d /tmp/seawall-e2e.XXXXXX)
  trap 'stop nobody; ip netns del "e2e-$$-nobody" 2>/dev/null || true; rm -rf "$STATE"' EXIT
  case_unprivileged
  printf '%d passed, %d failed, %d skipped\n' "$PASSED" "$FAILED" "$SKIPPED"
  [ "$FAILED" = 0 ]
fi

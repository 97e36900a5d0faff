# Words of the end-to-end test: saying, counting, starting and stopping. Sourced by tests/e2e/run.
# shellcheck shell=bash

PASSED=0 FAILED=0 SKIPPED=0 FAILURES=()
declare -A PID=()               # name -> pid of every process we started and have not stopped

say()  { printf '\n== %s (%ds)\n' "$*" "$SECONDS"; }
note() { printf '   %s\n' "$*"; }
run()  { printf '+ %s\n' "$*"; "$@"; }
pass() { PASSED=$((PASSED + 1)); printf 'ok    %s\n' "$*"; }
fail() { FAILED=$((FAILED + 1)); FAILURES+=("$*"); printf 'FAIL  %s\n' "$*"; }
skip() { SKIPPED=$((SKIPPED + 1)); printf 'skip  %s\n' "$*"; }
die()  { printf 'e2e: %s\n' "$*" >&2; exit 1; }

# check WHAT COMMAND…: passes when the command does; its output is shown when it does not.
check() {
  local what=$1 out
  shift
  if out=$("$@" 2>&1); then pass "$what"; else fail "$what"; printf '%s\n' "$out" | tail -n 25 | sed 's/^/      | /'; return 1; fi
}

# refused WHAT PATTERN COMMAND…: passes when the command fails and what it says matches the pattern (grep -iE).
refused() {
  local what=$1 pattern=$2 out
  shift 2
  if out=$("$@" 2>&1); then fail "$what: it was not refused"
  elif grep -qiE -- "$pattern" <<<"$out"; then pass "$what"; return 0
  else fail "$what: it was, without a word of /$pattern/"
  fi
  printf '%s\n' "$out" | tail -n 25 | sed 's/^/      | /'
}

# said WHAT PATTERN FILE…: some line of the files matches (grep -E).
said() { local what=$1 pattern=$2; shift 2; if grep -qE -- "$pattern" "$@"; then pass "$what"; else fail "$what: no /$pattern/ in $*"; fi; }

# equal WHAT EXPECTED ACTUAL
equal() { if [ "$2" = "$3" ]; then pass "$1"; else fail "$1: expected '$2', got '$3'"; fi; }

# start NAME COMMAND…: in the background, output to $STATE/NAME.log, the pid remembered.
# The command is run in namespace $NS (with the resolv.conf of $NS).
start() {
  local name=$1
  shift
  printf '+ [%s] %s &\n' "$NS" "$*"
  local IN
  within "$NS"
  "${IN[@]}" "$@" >>"$STATE/$name.log" 2>&1 </dev/null &
  PID[$name]=$!
}

# stop NAME [SIGNAL]: by the pid that we started, and waits for its end; KILL after 20 s.
stop() {
  local name=$1 pid=${PID[$1]:-} i
  [ -n "$pid" ] || return 0
  {
    kill "-${2:-TERM}" "$pid" || true
    for i in $(seq 200); do kill -0 "$pid" || break; sleep 0.1; done
    kill -KILL "$pid" || true
    wait "$pid" || true
  } 2>/dev/null # bash would say "Killed" there
  unset "PID[$name]"
}

# until_true SECONDS COMMAND…
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || return 1
    sleep 0.1
  done
}

# within NAMESPACE: sets IN, the words before a command that run it in a network namespace of ours, with that namespace's resolv.conf, and
# with the /etc of $ROOM, if there is one (rooms.sh).
# Not `ip netns exec`, which hides the cgroups that dockerd needs. exec all the way: the pid is the command's own.
ROOM=''
within() {
  local mounts='mount --bind "$0" /etc/resolv.conf'
  [ -z "$ROOM" ] || mounts="mount --bind '$ROOM/etc' /etc && mount --bind '$ROOM/usr/local/share/ca-certificates' /usr/local/share/ca-certificates && $mounts"
  IN=(nsenter "--net=/run/netns/$1" unshare -m -- bash -c "$mounts"' && exec "$@"' "$STATE/resolv.$1")
}
enter() {
  local IN
  within "$1"
  shift
  "${IN[@]}" "$@"
}

# What reached the upstream since the last `mark`: lines of the registries' access log.
mark()   { MARK=$(wc -l <"$ACCESS"); }
since()  { tail -n "+$((MARK + 1))" "$ACCESS"; }
reached() { since | grep -cE -- "$1" || true; }
blobs_reached()     { reached '"GET /v2/[^ ]*/blobs/sha256:'; }
manifests_reached() { reached '"GET /v2/[^ ]*/manifests/'; }
heads_reached()     { reached '"HEAD /v2/[^ ]*/manifests/'; }
anything_reached()  { reached '"[A-Z]+ /'; }

# copy_source DIR: what is built of, without what was built (`target`, the fuzz targets' too: .ci/run builds those at the same time).
copy_source() { mkdir -p "$1" && tar --exclude=target --exclude=.git -cf - . | tar -C "$1" -xf -; }

# link_static WHAT [SECONDS]: sets STATIC_SEAWALL, unless it is there: of the libraries that `cargo build --release` left, linked once more. That
# takes two seconds. What cargo built stays where it is.
link_static() {
  local what=$1 patience=${2:-170} built=target/release/seawall
  [ -z "${STATIC_SEAWALL:-}" ] || return 0
  if ! grep -qa '/ld-linux-' "$SEAWALL"; then STATIC_SEAWALL=$SEAWALL; return 0; fi
  command -v cargo >/dev/null || { skip "$what: no cargo to link a static binary"; return 1; }
  [ "$(realpath -m "$built")" = "$SEAWALL" ] || { skip "$what: $SEAWALL is not static, nor where its libraries are (STATIC_SEAWALL=FILE)"; return 1; }
  local began=$SECONDS
  mv "$built" "$STATE/dynamic"
  run timeout "$patience" cargo rustc --release --locked --quiet --bin seawall -- -C target-feature=+crt-static >"$STATE/static.log" 2>&1 || true
  if [ -f "$built" ]; then mv "$built" "$STATE/static"; fi
  mv "$STATE/dynamic" "$built"
  [ -f "$STATE/static" ] || { tail -n 3 "$STATE/static.log"; skip "$what: no static binary in $patience s"; return 1; }
  note "linked once more, static ($((SECONDS - began))s)"
  STATIC_SEAWALL=$STATE/static
}

# The cases of an upstream that fails: it is killed, it hangs, its pull limit is reached, it has deleted an image. What is here is pulled, by
# every client, whoever pulled it first. Sourced by tests/e2e/run.
# shellcheck shell=bash

REPOSITORY=docker.io/library/e2e
KINDS=(docker containerd podman buildah skopeo crane docker_mirror containerd_mirror)
DAEMONS=(docker docker_mirror containerd)

# ---- clients of the mirror: no proxy, no name of any registry, and seawall's address over plain HTTP

docker_mirror_up() {
  printf '{"registry-mirrors":["http://%s:3128"],"insecure-registries":["%s:3128"]}' $SEAWALL_ADDRESS $SEAWALL_ADDRESS >"$STATE/mirror.json"
  start docker_mirror "${WITH[@]}" "${GO_TRUST[@]}" dockerd --data-root "$STATE/docker-mirror" --exec-root "$STATE/docker-mirror-run" --pidfile "$STATE/docker-mirror.pid" \
    --host "unix://$STATE/docker-mirror.sock" --storage-driver "$GRAPH" --bridge none --iptables=false --exec-opt native.cgroupdriver=cgroupfs --config-file "$STATE/mirror.json"
}
docker_mirror_() { "${WITH[@]}" docker --host "unix://$STATE/docker-mirror.sock" "$@"; }
docker_mirror_ready() { until_true 60 docker_mirror_ version; }
docker_mirror_down() { stop docker_mirror; }
docker_mirror_pull() { docker_mirror_ pull "$1"; }
docker_mirror_wipe() (
  docker_() { docker_mirror_ "$@"; }
  docker_wipe
)

containerd_mirror_pull() {
  mkdir -p "$STATE/hosts.d/_default"
  printf '[host."http://%s:3128"]\n  capabilities = ["pull", "resolve"]\n' $SEAWALL_ADDRESS >"$STATE/hosts.d/_default/hosts.toml"
  local PROXY=()
  ctr_ images pull --snapshotter "$SNAPSHOTTER" --hosts-dir "$STATE/hosts.d" "$1"
}
containerd_mirror_wipe() { containerd_wipe; }

buildah_() { enter "$NS" "${WITH[@]}" "${PROXY[@]}" buildah --root "$STATE/buildah" --runroot "$STATE/buildah-run" --storage-driver "$GRAPH_PODMAN" "$@"; }
buildah_pull() { buildah_ pull --quiet ${TRUST:+--cert-dir "$TRUST"} "$1"; }
buildah_wipe() { buildah_ rmi --all --force; }

# ---- words

# push_small TAG: an index of two platforms with a layer of noise each, no two alike, as library/e2e:TAG. SMALL: the index's digest.
push_small() {
  local LAYOUT=$STATE/small/$1 BUILD=$STATE/build LAYERS DIFFS architecture entries=''
  rm -rf "$LAYOUT"
  mkdir -p "$LAYOUT/blobs/sha256" "$BUILD"
  for architecture in amd64 arm64; do
    LAYERS='' DIFFS=''
    mkdir "$BUILD/layer"
    openssl rand -out "$BUILD/layer/noise" $((1 << 20))
    layer "$BUILD/layer"
    manifest $architecture "[\"$1\"]" >"$BUILD/entry"
    entries+="${entries:+,}$(cat "$BUILD/entry")"
    rm -rf "$BUILD/layer"
  done
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s]}' "$entries" >"$BUILD/index"
  SMALL=sha256:$(sha256sum "$BUILD/index" | cut -d' ' -f1)
  printf '{"imageLayoutVersion":"1.0.0"}' >"$LAYOUT/oci-layout"
  printf '{"schemaVersion":2,"manifests":[{%s,"annotations":{"org.opencontainers.image.ref.name":"1"}}]}' \
    "$(put_blob "$BUILD/index" application/vnd.oci.image.index.v1+json)" >"$LAYOUT/index.json"
  rm -rf "$BUILD"
  enter "$(ns direct)" skopeo --insecure-policy copy --quiet --all --dest-cert-dir "$STATE/trust/upstream" "oci:$LAYOUT:1" "docker://ghcr.io/library/e2e:$1" || die "push of library/e2e:$1"
}

# all_pull WHAT IMAGE CLIENT…: each pulls it, its own store emptied before and after. Prints the seconds of each; TOOK has all of them.
TOOK=()
all_pull() {
  local what=$1 image=$2 client began took line='' out bad=0
  shift 2
  for client in "$@"; do
    (${client}_wipe) >"$STATE/wipe" 2>&1 || { fail "$what: $client empties its store"; cat "$STATE/wipe"; }
    began=$EPOCHREALTIME
    if out=$(timeout_of 90 ${client}_pull "$image" 2>&1); then
      took=$(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.1f", b - a}')
      TOOK+=("$took")
      line+=" $client $took,"
    else
      fail "$what: $client pulls $image"
      printf '%s\n' "$out" | tail -n 25 | sed 's/^/      | /'
      bad=1
    fi
    (${client}_wipe) >/dev/null 2>&1 || true
  done
  [ $bad = 1 ] || pass "$what: all pull (s:${line%,})"
}

# timeout_of SECONDS FUNCTION…: as timeout(1), for a function. 124: it did not end.
timeout_of() {
  local seconds=$1 pid watcher code=0
  shift
  ("$@") &
  pid=$!
  (sleep "$seconds"; kill_tree $pid) >/dev/null 2>&1 </dev/null &
  watcher=$!
  wait $pid || code=$?
  kill_tree $watcher
  wait $watcher 2>/dev/null || true
  [ $code -lt 128 ] || code=124
  return $code
}
# kill_tree PID: it and its children, which we started.
kill_tree() {
  local child
  for child in $(cat "/proc/$1/task/$1/children" 2>/dev/null); do kill_tree "$child"; done
  kill -TERM "$1" 2>/dev/null || true
}

# after CLIENT CLIENT…: the others in their order, beginning behind the first; then that one.
after() {
  local first=$1 i n
  shift
  for ((i = 1; i <= $#; i++)); do [ "${!i}" != "$first" ] || break; done
  for ((n = 0; n < $#; n++)); do i=$((i % $# + 1)); printf '%s ' "${!i}"; done
  echo
}

# seawall_short [AFTER LINE]…: fresh, with a ttl of one second.
seawall_short() {
  TAG_TTL=1s seawall_fresh "$@"
  set_way proxy
}
# anew [SIGNAL]
anew() { stop seawall "${1:-TERM}"; seawall_start; set_way proxy; }

# clients_up: CLIENTS are those that can be had.
clients_up() {
  local client
  CLIENTS=("${KINDS[@]}")
  for client in "${DAEMONS[@]}"; do client_up $client || without "$client"; done
  [ -n "$CRANE" ] || without crane
}
clients_down() { local client; for client in "${DAEMONS[@]}"; do client_down $client; done; }
# without CLIENT: CLIENTS but for that one, and its mirror.
without() { local client all=("${CLIENTS[@]}"); CLIENTS=(); for client in "${all[@]}"; do [[ $client =~ ^$1(_mirror)?$ ]] || CLIENTS+=("$client"); done; }

# The hub behind tests/e2e/fault.py, at another address.
faulty() {
  stop hub
  mkdir -p "$STATE/fault"
  : >>"$STATE/fault/log"
  mode pass
  HUB_AT=$ORIGIN start_hub
  NS=$(ns world) start fault /usr/bin/python3 tests/e2e/fault.py "$STATE/fault" $HUB $ORIGIN "$STATE/pki"/leaf.{crt,key}
  until_true 15 answers $ORIGIN 443 && until_true 15 answers $HUB 443 || { tail "$STATE"/{hub,fault}.log; die 'fault.py does not start'; }
}
faultless() { stop fault KILL; stop hub KILL; start_hub; until_true 15 answers $HUB 443 || die 'the hub does not start'; }
mode() { echo "$*" >"$STATE/fault/mode.new"; mv "$STATE/fault/mode.new" "$STATE/fault/mode"; MARK_FAULT=$(wc -l <"$STATE/fault/log"); }
# came PATTERN: requests since the last `mode`.
came() { tail -n "+$((MARK_FAULT + 1))" "$STATE/fault/log" | grep -cE -- "$1" || true; }
show_came() { tail -n "+$((MARK_FAULT + 1))" "$STATE/fault/log" | sed -E 's/sha256:([0-9a-f]{8})[0-9a-f]*/\1…/; s/^/      upstream: /' | sort | uniq -c | sort -rn | head -n 12; }

# freeze, thaw NAME…: each takes connections (the kernel does), and says nothing any more.
signal_all() {
  local how=$1 name pid
  shift
  for name in "$@"; do for pid in "${PID[$name]}" $(cat "/proc/${PID[$name]}/task/${PID[$name]}/children"); do kill "-$how" "$pid"; done; done
}
freeze() { signal_all STOP "$@"; }
thaw() { signal_all CONT "$@"; }

longest() { printf '%s\n' "${TOOK[@]}" | sort -n | tail -n 1; }

# ---- the cases

# filled_by CLIENT IMAGE: it alone was there before upstream was killed.
filled_by() {
  local filler=$1 image=$2 others=()
  read -ra others < <(after "$filler" "${CLIENTS[@]}")
  seawall_short
  check "$filler pulls it" ${filler}_pull "$image" || true
  stop_upstream KILL
  sleep 1.1 # past the tag's ttl
  all_pull "filled by $filler, upstream killed" "$image" "${others[@]}"
  anew
  all_pull "filled by $filler, upstream killed, seawall started anew" "$image" "${others[@]}"
  start_upstream
}

# Killed: registry and token service. What one client pulled before, each client pulls now, and when seawall was started anew meanwhile.
case_outage() {
  say 'upstream is killed: who filled the cache, who pulls'
  local filler
  push_small small
  seawall_short
  clients_up
  TOOK=()
  for filler in "${CLIENTS[@]}"; do
    case $filler in buildah | skopeo) continue ;; esac # they ask as podman does
    filled_by "$filler" $REPOSITORY:small
  done
  note "the longest pull while upstream was away: $(longest) s"

  case_moved
  case_no_network

  say 'upstream is killed: a registry with accounts, for nobody'
  without docker_mirror # for docker.io alone
  for filler in docker containerd; do filled_by $filler $LAB_HOST/public/app:1; done
  clients_down
}

# Upstream is back: a tag that moved is seen soon.
case_moved() {
  say 'upstream is back, a tag has moved'
  local old=$SMALL began out
  seawall_short
  check 'skopeo pulls it' skopeo_pull $REPOSITORY:small || true
  skopeo_wipe
  stop_upstream KILL
  sleep 1.1
  all_pull 'away' $REPOSITORY:small docker containerd podman skopeo # the breaker opens
  start_upstream
  push_small small
  began=$EPOCHREALTIME
  sees() { out=$(skopeo_ inspect --raw --cert-dir "$TRUST" docker://$REPOSITORY:small | sha256sum | cut -d' ' -f1) && [ "sha256:$out" = "$SMALL" ]; }
  if until_true 20 sees; then
    pass "the new image is seen $(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.1f", b - a}') s after the tag moved"
  else
    fail "20 s after the tag moved it still names ${out:-nothing} ($old was before)"
  fi
  all_pull 'upstream is back' $REPOSITORY:small "${CLIENTS[@]}"
}

# Not only upstream is away: no name can be looked up and nothing has a route.
case_no_network() {
  say 'seawall starts with no network at all'
  seawall_short
  check 'podman pulls it' podman_pull $REPOSITORY:small || true
  stop_upstream KILL
  sed -i '/^\[upstream.hosts\]/d; /^".*" = /d' "$STATE/seawall.toml"
  anew
  all_pull 'no network' $REPOSITORY:small "${CLIENTS[@]}"
  start_upstream
}

# It takes connections and requests, and never answers.
case_hang() {
  say 'upstream hangs'
  push_small small
  faulty
  seawall_short
  clients_up
  check 'podman pulls it' podman_pull $REPOSITORY:small || true
  mode hang
  freeze nginx
  sleep 1.1
  all_pull 'requests are not answered' $REPOSITORY:small "${CLIENTS[@]}"
  local began=$SECONDS
  stop seawall
  equal 'seawall ends soon' yes "$([ $((SECONDS - began)) -le 5 ] && echo yes || echo "$((SECONDS - began)) s")"
  freeze fault
  anew TERM
  TOOK=()
  all_pull 'TLS is not answered, seawall started anew' $REPOSITORY:small "${CLIENTS[@]}"
  TOOK=()
  all_pull 'once more' $REPOSITORY:small docker podman skopeo
  equal 'none waits' yes "$(awk -v s="$(longest)" 'BEGIN {print (s < 1.9 ? "yes" : s " s")}')"
  stop seawall KILL
  thaw fault nginx
  clients_down
  faultless
}

# says_limited CLIENT IMAGE [PATTERN]: it cannot pull what is not here, and what it says names the limit, and matches PATTERN.
says_limited() {
  local client=$1 began=$EPOCHREALTIME out code=0
  (${client}_wipe) >/dev/null 2>&1 || true
  out=$(timeout_of 40 ${client}_pull "$2" 2>&1) || code=$?
  note "$client says, after $(awk -v a="$began" -v b="$EPOCHREALTIME" 'BEGIN {printf "%.1f", b - a}') s:"
  printf '%s\n' "$out" | tail -n 6 | sed 's/^/      | /'
  if [ $code = 0 ]; then fail "$client pulled what is not here"
  elif [ $code = 124 ]; then fail "$client tries again and again: it was stopped"
  else
    equal "$client names the limit" yes "$(grep -qiE 'toomanyrequests|too many requests|rate limit' <<<"$out" && echo yes)"
    [ -z "${3:-}" ] || equal "$client says when it ends" yes "$(grep -qE "$3" <<<"$out" && echo yes)"
  fi
}

# Docker Hub's pull limit. What is here costs nothing; for what is not the client is told, and upstream is not asked again.
case_limited() {
  say 'the pull limit is reached'
  push_small small
  push_small other
  push_small later
  faulty
  seawall_short
  clients_up
  check 'podman pulls it' podman_pull $REPOSITORY:small || true
  mode limited 3600
  sleep 1.1
  all_pull 'the limit is reached' $REPOSITORY:small "${CLIENTS[@]}"
  equal 'for what is here upstream was asked for no manifest' 0 "$(came '^GET .*/manifests/')"
  show_came
  local client until='until [0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]*Z'
  # What podman and buildah do is what skopeo does.
  for client in docker docker containerd crane skopeo; do says_limited $client $REPOSITORY:other "$until"; done
  equal 'for what is not here it was asked once' 1 "$(came '^GET .*/manifests/')"
  show_came
  all_pull 'the limit stands' $REPOSITORY:small "${CLIENTS[@]}"
  equal 'upstream was asked for no more' 1 "$(came '^GET .*/manifests/')"

  say 'the pull limit ends'
  seawall_short
  mode limited 8
  says_limited docker $REPOSITORY:later
  mode pass
  sleep 8.5
  all_pull 'the limit is over' $REPOSITORY:later docker containerd skopeo
  equal 'upstream gave the index and the manifest once' 2 "$(came '^GET .*/manifests/.* 200$')"

  say 'too many requests at once: every request is refused'
  mode limited-at-once 60
  sleep 1.1
  all_pull 'too many requests' $REPOSITORY:later "${CLIENTS[@]}"
  show_came
  local asked
  asked=$(came .)
  equal 'upstream was asked for no manifest' 0 "$(came '^GET .*/manifests/')"
  all_pull 'too many requests, again' $REPOSITORY:later "${CLIENTS[@]}"
  equal 'while it stands upstream is left alone' "$asked" "$(came .)"
  show_came
  clients_down
  faultless
}

# The image was deleted.
case_gone() {
  say 'the image is deleted upstream'
  push_small gone
  seawall_short
  clients_up
  check 'podman pulls it' podman_pull $REPOSITORY:gone || true
  equal 'it is deleted' 202 "$(enter "$(ns direct)" curl -s -o /dev/null -w '%{http_code}' --cacert "$STATE/trust/upstream/ca.crt" -X DELETE "https://ghcr.io/v2/library/e2e/manifests/$SMALL")"
  sleep 1.1
  all_pull 'it is gone upstream' $REPOSITORY:gone "${CLIENTS[@]}"
  anew
  all_pull 'it is gone upstream, seawall started anew' $REPOSITORY:gone docker containerd podman
  configure '[cache.tags]' 'gone = "forget"'
  anew
  refused 'gone = "forget": skopeo is refused' 'manifest unknown|404' skopeo_pull $REPOSITORY:gone
  clients_down
}

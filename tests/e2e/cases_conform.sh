# The distribution specification, asked with and without seawall: the same answers (conform.py). Sourced by tests/e2e/run.
# shellcheck shell=bash

# conform WORKFLOW TO NAMESPACE URL PREFIX REPOSITORY CURL-ARGUMENT…: what conform.py prints, with the repository's name left out.
conform() {
  local workflow=$1 to=$2 namespace=$3 url=$4 prefix=$5 repository=$6
  shift 6
  enter "$(ns "$namespace")" env "CURL_ARGUMENTS=$*" "CURL_PREFIX=$prefix" /usr/bin/python3 tests/e2e/conform.py "$workflow" "$url" "$repository" >"$to" 2>"$to.err" || { fail "conform.py $workflow $url"; tail -n 5 "$to.err"; }
  sed -i "s|$repository|NAME|g" "$to"
}

# same WHAT DIRECT SEAWALLS. Where the registry itself gives no code of the specification (`?`), seawall may.
same() {
  local lines
  lines=$(grep -c : "$2" || true)
  paste -d '\n' "$2" "$3" | awk 'NR % 2 {theirs = $0; next} {ours = $0; if (theirs ~ / codes=[?]$/) sub(/ codes.*/, " codes=?", ours); if (ours != theirs) print "      | without: " theirs "\n      | with:    " ours}' |
    sed -E 's/(sha256:[0-9a-f]{8})[0-9a-f]*/\1…/g' >"$STATE/difference"
  if [ "$lines" -ge 7 ] && [ ! -s "$STATE/difference" ]; then pass "$1 ($lines answers)"; else fail "$1 ($lines answers)"; head -n 40 "$STATE/difference"; fi
}

case_conform() {
  say 'the distribution specification, with and without seawall'
  TAG_TTL=1s seawall_fresh
  set_way proxy
  local at=$STATE/conform host direct=(--cacert "$STATE/trust/upstream/ca.crt") proxy=(--proxy "http://$SEAWALL_ADDRESS:3128" --cacert "$STATE/trust/seawall/ca.crt") round
  mkdir -p "$at"
  for host in ghcr.io $OPEN_HOST; do
    if [ $host = $OPEN_HOST ]; then start_open || continue; fi
    conform push "$at/push.direct" direct https://$host '' conform/direct "${direct[@]}"
    conform push "$at/push.proxy" proxy https://$host '' conform/proxy "${proxy[@]}"
    same "$host: a push by proxy" "$at/push.direct" "$at/push.proxy"
    for round in pull discovery ranges; do
      [ $host-$round != $OPEN_HOST-ranges ] || continue # it knows `bytes=0-99` alone
      conform $round "$at/$round.direct" direct https://$host '' conform/direct "${direct[@]}"
      conform $round "$at/$round.proxy" proxy https://$host '' conform/direct "${proxy[@]}"
      conform $round "$at/$round.mirror" proxy http://$SEAWALL_ADDRESS:3128 $host/ conform/direct
      same "$host: $round by proxy" "$at/$round.direct" "$at/$round.proxy"
      same "$host: $round by mirror" "$at/$round.direct" "$at/$round.mirror"
    done
  done
  stop open
}

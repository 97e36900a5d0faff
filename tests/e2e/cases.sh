# The cases. Sourced by tests/e2e/run.
# shellcheck shell=bash

IMAGE=docker.io/library/e2e:1
TOOL=ghcr.io/acme/tool:1
SLOW=quay.io/library/e2e:1

can() { [ "$1" != crane ] || [ -n "$CRANE" ] || { skip "$1: not on this machine, and no Go module proxy to build it from"; return 1; }; }

prints_hello() { # CLIENT
  local out
  out=$("$1_run" "$IMAGE" 2>&1) || { printf '%s\n' "$out"; return 1; }
  [ "$out" = $'hello from debian\ne2e/noise: OK' ] || { printf 'it printed: %s\n' "$out"; return 1; }
}

client_up() {
  has "$1_up" || return 0
  "$1_up"
  check "$1 starts" "$1_ready" || { tail -n 20 "$STATE/$1"*.log; client_down "$1"; return 1; }
}
client_down() { if has "$1_down"; then "$1_down"; fi; }

# ---- the cases

case_direct() {
  local client=$1
  say "$client, straight at the registry"
  can "$client" || return 0
  set_way direct
  client_up "$client" || return 0
  mark
  if check "$client pulls" "${client}_pull" "$IMAGE"; then equal "$client fetched each blob" "$BLOBS" "$(blobs_reached)"; fi
  if has "${client}_run"; then check "$client runs it" prints_hello "$client" || true; fi
  check "$client forgets it" "${client}_wipe" || true
  client_down "$client"
}

# The slow registry is slow, and answers a range: case_restart stands on it.
case_slow() {
  say 'quay.io, straight'
  set_way direct
  local blob got
  blob=$(basename "$(find "$LAYOUT/blobs/sha256" -size +150M)")
  mark
  got=$(enter "$NS" curl -s -r 1000000- --cacert "$TRUST/ca.crt" -o /dev/null -w '%{http_code} %{size_download} %{time_total}' "https://quay.io/v2/library/e2e/blobs/sha256:$blob") || true
  note "$got"
  equal 'quay.io gives the rest of a blob, in 4 s or more' "206 $(($(stat -c %s "$LAYOUT/blobs/sha256/$blob") - 1000000)) slowly" \
    "$(awk '{print $1, $2, ($3 >= 4 ? "slowly" : "too fast: " $3)}' <<<"$got")"
  equal 'the access log says 206' 1 "$(reached '"GET /v2/[^ ]*/blobs/sha256:[^ ]* HTTP/[0-9.]*" 206')"
}

# The main one: a cold pull fetches each blob once, the second fetches nothing, and the image works.
case_twice() {
  local way=$1 client=$2
  say "$client, by $way: twice"
  can "$client" || return 0
  seawall_fresh
  set_way "$way"
  client_up "$client" || return 0
  mark
  if check "$client ($way) pulls cold" "${client}_pull" "$IMAGE"; then
    equal "$client ($way) cold: upstream gave each blob once" "$BLOBS" "$(blobs_reached)"
    equal "$client ($way) cold: upstream gave the index and the manifest once" 2 "$(manifests_reached)"
    show_upstream
    check "$client ($way) forgets it" "${client}_wipe" || true
    sleep 2.1 # past the tag's ttl: the tag may be asked with HEAD, which costs no quota
    fetches_nothing "$client ($way) pulls again" "${client}_pull" "$IMAGE"
    equal "$client ($way) pulls again: upstream was asked one HEAD at most" yes "$([ "$(heads_reached)" -le 1 ] && echo yes || heads_reached)"
    show_upstream
    if has "${client}_run"; then check "$client ($way) runs it" prints_hello "$client" || true; fi
    "${client}_wipe" >/dev/null 2>&1 || true
  fi
  client_down "$client"
}

# Docker's own manifest types, and a registry without tokens.
case_schema2() {
  say 'Docker schema 2, from ghcr.io'
  seawall_fresh
  set_way proxy
  check 'skopeo pulls schema 2' skopeo_pull "$TOOL" || true
  skopeo_wipe
  fetches_nothing 'skopeo pulls schema 2 again' skopeo_pull "$TOOL"
  skopeo_wipe
}

case_platforms() {
  say 'the other platform of an index'
  seawall_fresh
  set_way proxy
  check 'skopeo pulls amd64' skopeo_pull "$IMAGE" || true
  skopeo_wipe
  mark
  check 'skopeo pulls arm64' skopeo_ copy --quiet --override-arch arm64 --src-cert-dir "$TRUST" "docker://$IMAGE" "oci:$STATE/skopeo:1" || true
  equal 'arm64: upstream gave its manifest, not the index' 1 "$(manifests_reached)"
  equal 'arm64: upstream gave its layer and configuration' 2 "$(blobs_reached)"
  skopeo_wipe
  fetches_nothing 'skopeo copies both platforms' skopeo_ copy --quiet --all --src-cert-dir "$TRUST" "docker://$IMAGE" "oci:$STATE/skopeo:1"
  skopeo_wipe
}

# What a person sees with curl, by both protocols.
case_http2() {
  say 'h1 and h2, seen with curl'
  seawall_fresh
  set_way proxy
  local version blob
  blob=$(basename "$(find "$LAYOUT/blobs/sha256" -size +150M)")
  for version in 1.1 2; do
    local curl=(enter "$NS" curl -s -S -f "--http$version" --proxy "http://$SEAWALL_ADDRESS:3128" --cacert "$TRUST/ca.crt")
    equal "curl speaks HTTP/$version" "$version" "$("${curl[@]}" -o /dev/null -w '%{http_version}' https://ghcr.io/v2/)"
    equal "a HEAD of the big blob tells its length (HTTP/$version)" "$(stat -c %s "$LAYOUT/blobs/sha256/$blob")" \
      "$("${curl[@]}" -I "https://ghcr.io/v2/library/e2e/blobs/sha256:$blob" | tr -d '\r' | sed -n 's/^content-length: //Ip')"
    equal "the big blob is whole (HTTP/$version)" "$blob" "$("${curl[@]}" "https://ghcr.io/v2/library/e2e/blobs/sha256:$blob" | sha256sum | cut -d' ' -f1)"
    equal "a range of it is right (HTTP/$version)" "$(tail -c +1000001 "$LAYOUT/blobs/sha256/$blob" | head -c 1000 | sha256sum)" \
      "$("${curl[@]}" -r 1000000-1000999 "https://ghcr.io/v2/library/e2e/blobs/sha256:$blob" | sha256sum)"
  done
}

# A push goes through, and the next pull of that tag sees it, though the tag was asked a moment ago.
case_push() {
  say 'a push through seawall'
  seawall_fresh
  sed -i 's/^ttl = .*/ttl = "1h"/' "$STATE/seawall.toml"
  stop seawall
  seawall_start
  set_way proxy
  local before after tag=ghcr.io/acme/pushed:1 arm64=(--override-arch arm64 --override-os linux)
  check 'skopeo pushes' skopeo_ copy --quiet --dest-cert-dir "$TRUST" "${arm64[@]}" "oci:$LAYOUT:1" "docker://$tag" || true
  before=$(skopeo_ inspect --cert-dir "$TRUST" "${arm64[@]}" --format '{{.Digest}}' "docker://$tag") || true
  check 'skopeo pushes another image to the same tag' skopeo_ copy --quiet --all --dest-cert-dir "$TRUST" "oci:$LAYOUT:1" "docker://$tag" || true
  after=$(skopeo_ inspect --cert-dir "$TRUST" "${arm64[@]}" --format '{{.Digest}}' "docker://$tag") || true
  equal 'the first push is seen' yes "$([ -n "$before" ] && echo yes)"
  equal 'the second push is seen at once' yes "$([ -n "$after" ] && [ "$before" != "$after" ] && echo yes)"
  check 'the pushed image pulls' skopeo_pull "$tag" || true
  skopeo_wipe
}

partial_bytes() { du -sb "$STATE/data/partial" 2>/dev/null | cut -f1; }
partial_above() { [ "$(partial_bytes || echo 0)" -gt "$1" ]; }

# kill -9 in the middle of a cold pull (of a slow registry): the rest is asked by Range, not the whole.
case_restart() {
  say 'kill -9 in the middle of a cold pull'
  seawall_fresh
  set_way proxy
  mark
  skopeo_pull "$SLOW" >"$STATE/restart.log" 2>&1 &
  local client=$!
  if until_true 60 partial_above $((110 << 20)); then pass '110 MiB are in the partial file'; else fail "no partial file grows: $(partial_bytes) bytes"; fi
  stop seawall KILL
  wait "$client" && note 'the client did not notice' || note "the client: $(tail -n 1 "$STATE/restart.log")"
  skopeo_wipe
  mark
  seawall_start
  set_way proxy
  check 'the pull completes after the restart' skopeo_pull "$SLOW" || true
  show_upstream
  # Its connections are slow: more than one may come for the rest.
  local rest
  rest=$(reached '"GET /v2/[^ ]*/blobs/sha256:[^ ]* HTTP/[0-9.]*" 206')
  equal 'upstream was asked for the rest (206), over four connections at most' yes "$([ "$rest" -ge 1 ] && [ "$rest" -le 4 ] && echo yes)"
  skopeo_wipe
}

# The registry is gone: what was pulled once still pulls.
case_offline() {
  say 'the upstream is stopped'
  seawall_fresh
  set_way proxy
  client_up docker || return 0
  check 'docker pulls while the registry is there' docker_pull "$IMAGE" || true
  check 'skopeo pulls while the registry is there' skopeo_pull "$IMAGE" || true
  docker_wipe >/dev/null 2>&1 || true
  skopeo_wipe
  stop_upstream
  sleep 2.1
  check 'docker pulls while the registry is away' docker_pull "$IMAGE" || true
  check 'docker runs it' prints_hello docker || true
  check 'skopeo pulls while the registry is away' skopeo_pull "$IMAGE" || true
  docker_wipe >/dev/null 2>&1 || true
  skopeo_wipe
  stop seawall
  seawall_start
  set_way proxy
  check 'skopeo pulls while the registry is away, after a restart of seawall' skopeo_pull "$IMAGE" || true
  skopeo_wipe
  client_down docker
  start_upstream
}

compose() {
  local words=(docker-compose)
  if docker_ compose version >/dev/null 2>&1; then words=(docker compose); fi
  enter "$NS" "${WITH[@]}" "DOCKER_HOST=unix://$STATE/docker.sock" "SEAWALL_CA=$STATE/compose-ca" "${words[@]}" \
    --project-name e2e --project-directory "$STATE/context" -f "$STATE/context/docker-compose.yml" -f "$STATE/override.yml" "$@"
}

container_healthy() { [ "$(docker_ inspect --format '{{.State.Health.Status}}' "$(compose ps -q seawall)")" = healthy ]; }

# in_the_image: what is in it, one `OWNER/GROUP PATH` a line, without what docker adds.
in_the_image() {
  local id
  id=$(docker_ create e2e/seawall) || return 1
  docker_ export "$id" | tar --numeric-owner -tvf - | awk '{print $2, $6}' | grep -vE ' (\.dockerenv|dev/.*|etc/(hosts|hostname|resolv.conf|mtab)|(proc|sys)/)$' >"$STATE/contents"
  docker_ rm --volumes "$id"
}

# The image and the compose file as an operator would use them: of nothing but seawall where a static binary is at hand, else on a base made here.
case_compose() {
  say 'Dockerfile and docker-compose.yml'
  stop seawall
  set_way proxy
  client_up docker || return 0
  copy_source "$STATE/context"
  mkdir -p "$STATE/context/target/dist" "$STATE/context/ca" "$STATE/compose-ca"
  echo secret >"$STATE/context/ca/ca.key" # must not get into the image
  local base=()
  if [ -n "${STATIC_SEAWALL:-}" ]; then
    cp "$STATIC_SEAWALL" "$STATE/context/target/dist/seawall"
  else
    note 'on a base: no static binary at hand (STATIC_SEAWALL=FILE)'
    cp "$SEAWALL" "$STATE/context/target/dist/seawall"
    check 'the base image is imported' docker_ import "$ROOTFS" e2e/base || true
    base=(--build-arg BASE=e2e/base)
  fi
  objcopy --strip-all "$STATE/context/target/dist/seawall"
  chmod -R go+rX "$STATE/context/target"
  check 'the image builds' env DOCKER_BUILDKIT=0 "${WITH[@]}" docker --host "unix://$STATE/docker.sock" build --target prebuilt "${base[@]}" -t e2e/seawall "$STATE/context" || { client_down docker; return 0; }
  check 'what is in it can be told' in_the_image || true
  equal 'no key is in it' 0 "$(grep -c 'ca\.key' "$STATE/contents" || true)"
  equal 'its data directory is its user'\''s' '65532/65532 var/lib/seawall/' "$(grep ' var/lib/seawall/' "$STATE/contents" || true)"
  [ "${#base[@]}" -gt 0 ] || equal 'nothing is in it but seawall' usr/local/bin/seawall "$(awk '$2 !~ /\/$/ {print $2}' "$STATE/contents")"

  chown 65532 "$STATE/compose-ca"
  configure_seawall
  sed '/^listen/d; /^admin/d; /^data/d; /^\[ca\]/d; /^dir/d; /^names/d; s|^ca_file = .*|ca_file = "/etc/seawall/upstream.crt"|' "$STATE/seawall.toml" >"$STATE/compose.toml"
  cat >"$STATE/override.yml" <<YAML
services:
  seawall:
    image: e2e/seawall
    volumes:
      - $STATE/compose.toml:/etc/seawall/seawall.toml:ro
      - $STATE/trust/upstream/ca.crt:/etc/seawall/upstream.crt:ro
    ulimits:
      nofile: {soft: 4096, hard: 4096}
    healthcheck:
      interval: 2s
YAML
  check 'compose starts it' compose up -d --no-build || true
  if check 'the container becomes healthy' until_true 60 container_healthy; then
    TRUST=$STATE/trust/compose
    mkdir -p "$TRUST"
    cp "$STATE/compose-ca/ca.crt" "$TRUST/ca.crt"
    PROXY=("HTTPS_PROXY=http://10.99.2.2:3128")
    mark
    check 'skopeo pulls through the container' skopeo_pull "$IMAGE" || true
    equal 'the container: upstream gave each blob once' "$BLOBS" "$(blobs_reached)"
    skopeo_wipe
    equal 'port 443 answers for ghcr.io' 200 "$(enter "$NS" curl -s -o /dev/null -w '%{http_code}' --resolve ghcr.io:443:10.99.2.2 --cacert "$TRUST/ca.crt" https://ghcr.io/v2/ || true)"
    check 'compose makes the container anew' compose up -d --no-build --force-recreate || true
    check 'it becomes healthy again' until_true 60 container_healthy || true
    fetches_nothing 'skopeo pulls through the new container' skopeo_pull "$IMAGE"
    skopeo_wipe
  else
    compose ps || true
    compose logs --no-color 2>&1 | tail -n 30 || true
  fi
  compose down --volumes >/dev/null 2>&1 || true
  client_down docker
}

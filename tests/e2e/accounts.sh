# registry.e2e.test, a registry with accounts: its token service (tokens.py says who may what), its images, and clients that log in to it.
# Sourced by tests/e2e/run.
# shellcheck shell=bash

LAB_HOST=registry.e2e.test
declare -A PASSWORD=()
REFUSED='denied|invalid username|unauthorized|authentication required|insufficient_scope|forbidden'

start_lab() {
  local name
  if [ ! -d "$STATE/tokens" ]; then
    mkdir -p "$STATE/tokens"
    for name in alice bob ci admin; do
      PASSWORD[$name]=$(openssl rand -hex 12)
      printf '%s %s\n' "$name" "${PASSWORD[$name]}" >>"$STATE/tokens/accounts"
    done
  fi
  start_registry lab $LAB https://tokens.e2e.test/token $LAB_HOST registry-lab
  NS=$(ns world) start tokens /usr/bin/python3 tests/e2e/tokens.py "$STATE/tokens" $TOKENS "$STATE/pki"/{leaf.crt,leaf.key,signer.crt,signer.key}
}

# Small images, no two alike: alice/app:1 has the command "app of alice".
push_lab_images() {
  NS=$(ns direct)
  local owner LAYOUT BUILD LAYERS DIFFS entry
  for owner in alice bob public shared; do
    LAYOUT=$STATE/lab/$owner BUILD=$STATE/build LAYERS='' DIFFS=''
    mkdir -p "$LAYOUT/blobs/sha256" "$BUILD/layer"
    openssl rand -out "$BUILD/layer/noise" $((3 << 20))
    layer "$BUILD/layer"
    entry=$(manifest amd64 "[\"app of $owner\"]")
    printf '{"imageLayoutVersion":"1.0.0"}' >"$LAYOUT/oci-layout"
    printf '{"schemaVersion":2,"manifests":[%s,"annotations":{"org.opencontainers.image.ref.name":"1"}}]}' "${entry%\}}" >"$LAYOUT/index.json"
    rm -rf "$BUILD"
    check "push of $owner/app:1 to $LAB_HOST" enter "$NS" skopeo --insecure-policy copy --quiet --dest-cert-dir "$STATE/trust/upstream" \
      --dest-creds "admin:${PASSWORD[admin]}" "oci:$LAYOUT:1" "docker://$LAB_HOST/$owner/app:1"
  done
}

# blob_of OWNER: the digest of its layer.
blob_of() { printf 'sha256:%s' "$(basename "$(find "$STATE/lab/$1/blobs/sha256" -size +1M)")"; }

# ---- clients with accounts: CLIENT_login WHO PASSWORD, CLIENT_pull_as WHO IMAGE, CLIENT_command IMAGE. WHO is an account, or `nobody`.

# Nobody is logged in anywhere.
forget_logins() {
  local who
  for who in alice bob nobody; do
    rm -rf "$STATE/home/docker.$who"
    mkdir -p "$STATE/home/docker.$who"
    printf '{"auths":{}}' | tee "$STATE/home/docker.$who/config.json" >"$STATE/home/auth.$who.json"
  done
}

docker_login() { docker_ --config "$STATE/home/docker.$1" login --username "$1" --password-stdin $LAB_HOST <<<"$2"; }
docker_pull_as() { docker_ --config "$STATE/home/docker.$1" pull "$2"; }
docker_command() { docker_ image inspect --format '{{index .Config.Cmd 0}}' "$1"; }

podman_as() {
  local WITH=("${WITH[@]}" "REGISTRY_AUTH_FILE=$STATE/home/auth.$1.json")
  shift
  podman_ "$@"
}
podman_login() { podman_as "$1" login --cert-dir "$TRUST" --username "$1" --password-stdin $LAB_HOST <<<"$2"; }
podman_pull_as() { podman_as "$1" pull --quiet --cert-dir "$TRUST" "$2"; }
podman_command() { podman_ image inspect --format '{{index .Config.Cmd 0}}' "$1"; }

containerd_pull_as() {
  local user=()
  [ "$1" = nobody ] || user=(--user "$1:${PASSWORD[$1]}")
  ctr_ images pull --snapshotter "$SNAPSHOTTER" "${user[@]}" "$2"
}

skopeo_pull_as() {
  local user=()
  [ "$1" = nobody ] || user=(--src-creds "$1:${PASSWORD[$1]}")
  skopeo_ copy --quiet --src-cert-dir "$TRUST" "${user[@]}" "docker://$2" "oci:$STATE/skopeo:1"
}
skopeo_command() { skopeo_ inspect --config --format '{{index .Config.Cmd 0}}' "oci:$STATE/skopeo:1"; }

# gets CLIENT WHO OWNER: it pulls OWNER's image, and it is that.
gets() {
  local image=$LAB_HOST/$3/app:1
  if check "$1: $2 pulls $3/app" "$1_pull_as" "$2" "$image"; then
    if has "$1_command"; then equal "$1: it is the app of $3" "app of $3" "$("$1_command" "$image")"; fi
    "$1_wipe" >/dev/null 2>&1 || fail "$1 forgets it"
  fi
}
# lacks CLIENT WHO OWNER: it is refused.
lacks() {
  refused "$1: $2 is refused $3/app" "$REFUSED" "$1_pull_as" "$2" "$LAB_HOST/$3/app:1"
  "$1_wipe" >/dev/null 2>&1 || true
}

# ---- what the registry and the token service saw

mark_lab()  { MARK_LAB=$(wc -l <"$STATE/lab.log") MARK_TOKENS=$(wc -l <"$STATE/tokens/log"); }
tokens_asked() { tail -n "+$((MARK_TOKENS + 1))" "$STATE/tokens/log"; }
# whose OWNER KIND: the accounts with whose tokens manifests or blobs of OWNER's image were fetched (GET) since `mark_lab`; nobody is `-`.
# The registry says so at level debug, when it begins to answer: GetImageManifest, GetBlob.
whose() {
  tail -n "+$((MARK_LAB + 1))" "$STATE/lab.log" | grep -E '"http.request.method":"GET".*"msg":"Get(ImageManifest|Blob)"' | grep -F "\"http.request.uri\":\"/v2/$1/app/$2/" |
    sed -E 's/.*"auth.user.name":"([^"]*)".*/\1/; s/^(\{.*)?$/-/' | sort -u | xargs
}

# secret_nowhere WHAT PATH…: none of them has an account's password, in the clear or as Basic, nor the end of any token that was issued.
# (`-` is what nobody has: those tokens are everybody's.)
secret_nowhere() {
  local what=$1 name found
  shift
  for name in alice bob ci admin; do
    printf '%s\n' "${PASSWORD[$name]}" "$(printf '%s:%s' "$name" "${PASSWORD[$name]}" | openssl base64 -A)"
    [ ! -e "$STATE/tokens/issued.$name" ] || grep -oE '.{1,32}$' "$STATE/tokens/issued.$name"
  done >"$STATE/secrets"
  grep -qaF -f "$STATE/secrets" "$STATE/tokens/accounts" || fail 'the search for secrets finds what is there'
  found=$(grep -rlaF -f "$STATE/secrets" "$@" || true)
  equal "$what" '' "$found"
}
# After `stop seawall`, so that everything is written: its log (at level debug), its data.
seawall_kept_no_secret() {
  admin metrics >"$STATE/metrics" || fail 'no metrics'
  stop seawall
  secret_nowhere "$1: no password and no token in seawall's log, metrics and data" "$STATE/seawall.log" "$STATE/metrics" "$STATE/data"
}

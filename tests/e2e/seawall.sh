# Seawall itself. Sourced by tests/e2e/run.
# shellcheck shell=bash

# What is added to its environment: a PATH. `start` prints it.
SEAWALL_ENV=()
# The namespace it lives in, and how long it believes a tag.
SEAWALL_IN=world
TAG_TTL=2s

# One CA for the whole run, so that daemons trust it once. `configure` adds to this.
configure_seawall() {
  cat >"$STATE/seawall.toml" <<TOML
listen = ["$SEAWALL_ADDRESS:3128", "$SEAWALL_ADDRESS:443"]
admin = "127.0.0.1:3129"
data = "$STATE/data"
[ca]
dir = "$STATE/ca"
names = ["$SEAWALL_NAME"]
[cache.tags]
ttl = "$TAG_TTL"
[upstream]
ca_file = "$STATE/pki/ca.crt"
[upstream.hosts]
"registry-1.docker.io" = "$HUB:443"
"auth.docker.io" = "$AUTH:443"
"ghcr.io" = "$GHCR:443"
"quay.io" = "$QUAY:443"
"registry.e2e.test" = "$LAB:443"
"tokens.e2e.test" = "$TOKENS:443"
"$OPEN_HOST" = "$OPEN:443"
[[registry]]
name = "ghcr.io"
[[registry]]
name = "registry.e2e.test"
auth_hosts = ["tokens.e2e.test"]
[[registry]]
name = "$OPEN_HOST"
TOML
}

# configure AFTER LINE: adds LINE behind the line AFTER; where there is none, both at the end.
configure() {
  local found
  found=$(grep -nxF -m 1 -- "$1" "$STATE/seawall.toml" | cut -d: -f1) || true
  if [ -n "$found" ]; then
    { head -n "$found" "$STATE/seawall.toml"; printf '%s\n' "$2"; tail -n "+$((found + 1))" "$STATE/seawall.toml"; } >"$STATE/seawall.toml.new"
    mv "$STATE/seawall.toml.new" "$STATE/seawall.toml"
  else
    printf '%s\n%s\n' "$1" "$2" >>"$STATE/seawall.toml"
  fi
}

seawall_start() {
  NS=$(ns "$SEAWALL_IN") start seawall env "${SEAWALL_ENV[@]}" "$SEAWALL" serve --config "$STATE/seawall.toml"
  if ! until_true 20 admin readyz; then
    fail 'seawall becomes ready'
    tail -n 30 "$STATE/seawall.log"
    die 'seawall does not start'
  fi
  cp "$STATE/ca/ca.crt" "$STATE/trust/seawall/ca.crt"
}

# seawall_fresh [AFTER LINE]…: a fresh cache, the usual configuration and the lines that are given.
seawall_fresh() {
  stop seawall
  rm -rf "$STATE/data"
  configure_seawall
  while [ $# -gt 0 ]; do configure "$1" "$2"; shift 2; done
  : >"$STATE/seawall.log"
  seawall_start
}

# admin PATH: what the admin listener answers.
admin() { enter "$(ns "$SEAWALL_IN")" curl -sf "http://127.0.0.1:3129/$1"; }

show_upstream() { since | sed -E 's/^.*\] "([^"]*)" ([0-9]*) ([0-9]*).*/      upstream: \1 \2 \3/' | sort | uniq -c | sort -rn | head -n 20; }

# fetches_nothing WHAT COMMAND…: the pull succeeds, and upstream gave neither a blob nor a manifest for it.
fetches_nothing() {
  local what=$1
  shift
  mark
  if check "$what" "$@"; then
    equal "$what: upstream gave no blob" 0 "$(blobs_reached)"
    equal "$what: upstream gave no manifest" 0 "$(manifests_reached)"
  fi
}

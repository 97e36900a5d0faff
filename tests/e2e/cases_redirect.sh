# Ways in that no client knows of: connections that are led to seawall, and resolvers that say it is every registry. Sourced by tests/e2e/run.
# shellcheck shell=bash

# A machine with seawall beside its clients: a user of its own there, with the registries' addresses from the same resolver as they.
sidecar_start() {
  stop seawall
  rm -rf "$STATE/data"
  configure_seawall
  sed -i '/^\[upstream.hosts\]/d; /^".*" = /d; s|^listen = .*|listen = ["0.0.0.0:3128"]|' "$STATE/seawall.toml"
  mkdir -p "$STATE"/{sidecar,data,ca}
  cp "$SEAWALL" "$STATE/sidecar/seawall"
  chown -R $SEAWALL_UID "$STATE/data" "$STATE/ca"
  : >"$STATE/seawall.log"
  SEAWALL_IN=sidecar
  SEAWALL_ENV=(setpriv --reuid $SEAWALL_UID --regid $SEAWALL_UID --clear-groups)
  SEAWALL=$STATE/sidecar/seawall seawall_start
  SEAWALL_ENV=()
}
sidecar_stop() {
  stop seawall
  chown -R 0 "$STATE/ca"
  SEAWALL_IN=world
}

# The user whose own connections the rules leave alone.
furnish_iptables() { printf 'seawall:x:%s:%s::/:/bin/false\n' $SEAWALL_UID $SEAWALL_UID >>"$ROOM/etc/passwd"; }

# led TOOL ADDRESS: where the rules for TOOL are loaded, clients that know nothing pull.
led() {
  local tool=$1 image ROOM_IN=sidecar RUN_THESE="^(update-ca-certificates|$1|${1/ip/ip6})"
  set_room iptables dns "$2" || return 0
  for image in $HUB_SMALL $GHCR_SMALL; do
    mark
    check "$tool: skopeo pulls $image" skopeo_pull "$image" || true
    skopeo_wipe
    equal "$tool: upstream gave each blob of $image once" 2 "$(blobs_reached)"
    silent "$tool: skopeo pulls $image again" skopeo_pull "$image"
    skopeo_wipe
    silent "$tool: podman pulls $image" podman_pull "$image"
    podman_wipe >/dev/null 2>&1 || true
  done
}
# What is loaded by either is gone.
unload() {
  enter "$(ns sidecar)" nft flush ruleset
  ROOM=''
}

case_redirect() {
  local tool
  push_setup_images
  for tool in nft iptables; do
    say "$tool, seawall on the same machine"
    TAG_TTL=1m sidecar_start
    led $tool http://127.0.0.1:3128
    # Who is named is looked up, wherever the client sent it; where nobody is, the address is all there is.
    equal "$tool: what is no registry goes to the host it names" 200 "$(code --insecure --resolve "elsewhere.e2e.test:443:$GHCR" https://elsewhere.e2e.test/token)"
    equal "$tool: what names nobody goes where it was going" 'CN = e2e leaf' \
      "$(enter "$NS" openssl s_client -connect $GHCR:443 -noservername </dev/null 2>/dev/null | openssl x509 -noout -subject 2>/dev/null | sed 's/^subject=//' || true)"
    unload
    sidecar_stop
    say "$tool, seawall on another machine"
    TAG_TTL=1m seawall_fresh
    led $tool http://$SEAWALL_ADDRESS:3128
    unload
  done
}

# Its service makes that key when it starts.
furnish_unbound() { rm -f "$ROOM/etc/unbound/unbound.conf.d/root-auto-trust-anchor-file.conf"; }

# resolver_up dnsmasq|unbound: in place of the usual one, with the files of its room.
resolver_up() {
  stop dns
  set_room "$1" dns || return 1
  if [ "$1" = dnsmasq ]; then
    NS=$(ns world) start dns "${DNSMASQ[@]}" '--conf-dir=/etc/dnsmasq.d/,*.conf' --pid-file="$STATE/dns.pid" --interface=to-dns
  else
    printf 'server:\n  interface: 10.99.3.1\n  access-control: 10.99.3.0/24 allow\n  chroot: ""\n  username: ""\n  pidfile: ""\n  use-syslog: no\ninclude: "/etc/unbound/unbound.conf.d/seawall.conf"\n' >"$STATE/unbound.conf"
    NS=$(ns world) start dns unbound -d -c "$STATE/unbound.conf"
  fi
  until_true 10 enter "$(ns dns)" getent hosts ghcr.io || { fail "$1 answers"; tail "$STATE/dns.log"; return 1; }
}

case_resolvers() {
  local resolver
  push_setup_images
  for resolver in dnsmasq unbound; do
    say "$resolver, set up by seawall"
    if resolver_up $resolver; then
      equal "$resolver has no other address for a registry" "$SEAWALL_ADDRESS" "$(enter "$(ns dns)" getent ahosts registry-1.docker.io | awk '{print $1}' | sort -u)"
      twice skopeo dns podman $HUB_SMALL $GHCR_SMALL
    fi
    ROOM=''
    stop dns
  done
  start_dns
}

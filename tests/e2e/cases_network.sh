# The cases of what stands before and behind seawall: a corporate proxy, nginx with the PROXY protocol. Sourced by tests/e2e/run.
# shellcheck shell=bash

PARENT=10.99.5.1
PARENT_PASSWORD='p@ss:w/r%d#1'
PARENT_ENCODED=p%40ss%3Aw%2Fr%25d%231

# squid, with a password for everybody. It knows names that nobody in its network knows.
start_parent() {
  mkdir -p "$STATE/squid"
  printf 'corp:%s\n' "$(openssl passwd -apr1 "$PARENT_PASSWORD")" >"$STATE/squid/users"
  printf '%s\n' "$GHCR ghcr.io" "$LAB $LAB_HOST" "$TOKENS tokens.e2e.test" "$QUAY elsewhere.e2e.test" >"$STATE/squid/hosts"
  cat >"$STATE/squid.conf" <<CONF
http_port $PARENT:8080
auth_param basic program /usr/lib/squid/basic_ncsa_auth $STATE/squid/users
auth_param basic children 1
auth_param basic realm the corporation
acl known proxy_auth REQUIRED
http_access allow known
http_access deny all
hosts_file $STATE/squid/hosts
dns_nameservers 127.0.0.1
cache deny all
logformat e2e %rm %ru %>Hs %un
access_log stdio:$STATE/squid/access.log e2e
cache_log $STATE/squid/cache.log
pid_filename none
coredump_dir $STATE/squid
visible_hostname parent.e2e.test
shutdown_lifetime 0 seconds
CONF
  : >"$STATE/squid/access.log"
  chown -R proxy "$STATE/squid"
  NS=$(ns world) start parent squid -N -n "e2e$$" -f "$STATE/squid.conf"
  until_true 20 answers $PARENT 8080 || { tail -n 20 "$STATE/parent.log" "$STATE/squid/cache.log"; fail 'squid starts'; return 1; }
}

# seawall_behind PASSWORD: in a network whose one way out is the corporate proxy. No name is known there, no registry has an address.
seawall_behind() {
  stop seawall
  rm -rf "$STATE/data"
  configure_seawall
  sed -i '/^\[upstream.hosts\]/d; /^"/d' "$STATE/seawall.toml"
  configure '[upstream]' "proxy = \"http://corp:$1@$PARENT:8080\""
  configure '[log]' 'level = "debug"'
  : >"$STATE/seawall.log"
  seawall_start
}

# What squid writes when a tunnel ends, or squid does.
parent_saw() { grep -F CONNECT "$STATE/squid/access.log" | sort -u | xargs; }
# body PATH: what seawall's own words are; most clients show a status at best.
body() { enter "$NS" curl -s --max-time 20 --proxy "http://$SEAWALL_ADDRESS:3128" --cacert "$TRUST/ca.crt" "https://$LAB_HOST/v2/$1" >"$STATE/body"; }

# The corporate proxy does what one does, and the office has no other way out.
case_parent_direct() {
  say 'a corporate proxy, straight'
  start_parent || { stop parent; return 0; }
  set_way office
  local at=https://$LAB_HOST/v2/
  TRUST=$STATE/trust/upstream
  equal 'no registry can be reached past it' 000 "$(code --resolve "$LAB_HOST:443:$LAB" "$at")"
  equal 'with a password it leads to the registry' 401 "$(code --proxy "http://$PARENT:8080" --proxy-user "corp:$PARENT_PASSWORD" "$at")"
  PROXY=("HTTPS_PROXY=http://corp:$PARENT_ENCODED@$PARENT:8080")
  gets skopeo nobody public
  refused 'without one to nothing' 407 enter "$NS" curl -sSf --proxy "http://$PARENT:8080" "$at"
  said 'its log says where to and whose it was' "^CONNECT $LAB_HOST:443 200 corp" "$STATE/squid/access.log"
  stop parent
}

case_parent() {
  say 'a corporate proxy with a password'
  stop seawall
  start_parent || { stop parent; return 0; }
  SEAWALL_IN=office
  seawall_behind "$PARENT_ENCODED"
  set_way office
  forget_logins
  equal 'no registry can be reached past it' 000 "$(code --resolve "$LAB_HOST:443:$LAB" "https://$LAB_HOST/v2/")"
  mark
  gets skopeo nobody public
  equal 'upstream gave each blob once' 2 "$(blobs_reached)"
  gets podman nobody public
  equal 'the second client: upstream gave no blob' 2 "$(blobs_reached)"
  gets skopeo alice alice
  equal 'a tunnel goes by the parent too' 200 "$(code --proxy "http://$SEAWALL_ADDRESS:3128" --insecure https://elsewhere.e2e.test/v2/)"
  stop parent
  equal 'the parent was asked for hosts by name, each time with its password' \
    "CONNECT elsewhere.e2e.test:443 200 corp CONNECT $LAB_HOST:443 200 corp CONNECT tokens.e2e.test:443 200 corp" "$(parent_saw)"
  sleep 2.1 # past the tag's ttl
  gets skopeo nobody public
  body public/app/manifests/2
  said 'the parent is away: for what is not here that is said' "proxy $PARENT:8080" "$STATE/body"
  equal "the parent's password is not in the log" 0 "$(grep -cF -e "$PARENT_PASSWORD" -e "$PARENT_ENCODED" "$STATE/seawall.log" || true)"

  say 'a corporate proxy, and the wrong password'
  start_parent || { stop parent; SEAWALL_IN=world; return 0; }
  seawall_behind not-the-password
  refused 'skopeo: no pull by it' '502|proxy' skopeo_pull_as nobody "$LAB_HOST/public/app:1"
  body public/app/manifests/1
  said 'what is wrong is said' "proxy $PARENT:8080 .*(407|password|credentials)" "$STATE/body"
  said "in seawall's log too" "proxy $PARENT:8080 .*(407|password|credentials)" "$STATE/seawall.log"
  equal 'the wrong one is not in the log either' 0 "$(grep -cF not-the-password "$STATE/seawall.log" || true)"
  skopeo_wipe
  stop seawall
  stop parent
  SEAWALL_IN=world
}

# nginx, that hands connections on with a line that says whose they are.
start_front() {
  local module=/usr/lib/nginx/modules/ngx_stream_module.so port
  mkdir -p "$STATE/front"
  {
    [ ! -e $module ] || printf 'load_module %s;\n' $module
    printf 'worker_processes 1; daemon off; pid %s/pid; error_log %s/error.log; user root;\nevents {}\nstream {\n' "$STATE/front" "$STATE/front"
    for port in 3128 443; do
      printf '  server { listen %s:%s; proxy_pass %s:%s; proxy_bind %s; proxy_protocol on; }\n' $FRONT $port $SEAWALL_ADDRESS $port $FRONT
    done
    printf '}\n'
  } >"$STATE/front.conf"
  NS=$(ns world) start front nginx -c "$STATE/front.conf" -e "$STATE/front/error.log"
  until_true 15 answers $FRONT 443 || { tail -n 20 "$STATE/front.log" "$STATE/front/error.log"; fail 'nginx starts'; return 1; }
}

# say_to NAMESPACE FROM BYTES: what seawall answers to bytes (printf %b) that come from an address of ours.
say_to() {
  enter "$(ns "$1")" /usr/bin/python3 -c '
import socket, sys
try:
    s = socket.create_connection((sys.argv[1], 3128), 10, (sys.argv[2], 0))
    s.sendall(sys.stdin.buffer.read())
    while part := s.recv(65536):
        sys.stdout.buffer.write(part)
except (ConnectionError, TimeoutError) as error:
    print(type(error).__name__)
' $SEAWALL_ADDRESS "$2" < <(printf '%b' "$3") | tr -d '\0\r'
}

case_front() {
  say 'nginx in front, PROXY protocol'
  stop seawall
  start_front || { stop front; return 0; }
  seawall_fresh '[clients]' "proxy_protocol_from = [\"$FRONT/32\"]" '[clients]' 'allow = ["10.99.2.0/24"]' '[log]' 'level = "debug"'
  set_way proxy
  forget_logins
  PROXY=("HTTPS_PROXY=http://$FRONT:3128")
  gets skopeo nobody public
  said "the log has the client's own address" 'client=10\.99\.2\.2 .*public/app' "$STATE/seawall.log"
  equal "and not nginx's as a client" 0 "$(grep -c "client=$FRONT" "$STATE/seawall.log" || true)"
  equal 'the same by SNI' 200 "$(code --resolve "ghcr.io:443:$FRONT" https://ghcr.io/v2/)"
  equal 'past nginx, as oneself' 200 "$(code --proxy "http://$SEAWALL_ADDRESS:3128" https://ghcr.io/v2/)"

  local get='GET /v2/ HTTP/1.1\r\nHost: seawall\r\nConnection: close\r\n\r\n' ok='HTTP/1.1 200'
  local v2='\x0d\x0a\x0d\x0a\x00\x0d\x0a\x51\x55\x49\x54\x0a\x21\x11\x00\x0c'
  local ours='PROXY TCP4 10.99.2.88 10.99.0.1 5000 3128\r\n' v2_ours=$v2'\x0a\x63\x02\x58\x0a\x63\x00\x01\x13\x88\x0c\x38' v2_theirs=$v2'\x0a\x63\x03\x58\x0a\x63\x00\x01\x13\x88\x0c\x38'
  first() { say_to "$@" | head -n 1 | cut -c -12; }
  equal "nginx's address: v1 is believed" "$ok" "$(first world $FRONT "$ours$get")"
  equal "nginx's address: v2 is believed" "$ok" "$(first world $FRONT "$v2_ours$get")"
  local bad
  bad=$(first world $FRONT "$get")
  equal "nginx's address: nothing without a header" no "$([ "$bad" = "$ok" ] && echo yes || echo no)"
  bad=$(first world $FRONT "$v2_theirs$get")
  equal "nginx's address: clients.allow is for whom the header names" no "$([ "$bad" = "$ok" ] && echo yes || echo no)"
  said 'the log says who was turned away' '10\.99\.3\.88' "$STATE/seawall.log"

  NS=$(ns dns)
  equal 'a client that is not allowed gets nothing by nginx' 000 "$(code --proxy "http://$FRONT:3128" https://ghcr.io/v2/)"
  bad=$(first dns 10.99.3.2 "PROXY TCP4 10.99.2.77 10.99.0.1 5000 3128\r\n$get")
  equal 'nor with a header of its own' no "$([ "$bad" = "$ok" ] && echo yes || echo no)"
  bad=$(first proxy 10.99.2.2 "PROXY TCP4 10.99.2.77 10.99.0.1 5000 3128\r\n$get")
  equal 'who is allowed, and sends a header, is not served under a name' no "$([ "$bad" = "$ok" ] && echo yes || echo no)"
  bad=$(first proxy 10.99.2.2 "$v2_ours$get")
  equal 'not with v2 either' no "$([ "$bad" = "$ok" ] && echo yes || echo no)"
  equal 'no such header was believed' 0 "$(grep -c 'client=10\.99\.2\.77' "$STATE/seawall.log" || true)"
  stop seawall
  stop front
}

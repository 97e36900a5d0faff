# The network and the upstream. Sourced by tests/e2e/run.
# shellcheck shell=bash
#
#   world    lo: 10.99.0.1 seawall (3128, 443), DNS      10.99.1.1 registry-1.docker.io (tokens)   10.99.1.2 auth.docker.io
#               10.99.1.3 ghcr.io (open)                 10.99.1.4 quay.io (open, slow: 20 MB/s)
#               10.99.1.5 registry.e2e.test (accounts)   10.99.1.6 tokens.e2e.test, its token service (accounts.sh)
#               10.99.0.3 nginx in front of seawall, with the PROXY protocol (cases_network.sh)
#               10.99.1.7 registry-1.docker.io itself, where fault.py stands before it (cases_outage.sh)
#               10.99.1.8 open.e2e.test, another registry, that knows referrers (cases_artifacts.sh, cases_conform.sh)
#   proxy    10.99.2.2, reaches seawall alone, no DNS at all: clients with HTTPS_PROXY
#   dns      10.99.3.2, reaches seawall alone, DNS says every registry is seawall: clients that know nothing
#   direct   10.99.4.2, reaches the upstream, DNS tells the truth: is the machine able to do all this?
#   sidecar  10.99.6.2, reaches both, DNS tells the truth: what leaves for port 443 is led to seawall, which may be there too (cases_redirect.sh)
#   office   10.99.5.2, reaches 10.99.5.1 alone, no DNS at all: a corporate proxy's network (cases_network.sh). Has a 10.99.0.1 of its own.
#
# No namespace has a way out: what a client gets came from our upstream.

SEAWALL_ADDRESS=10.99.0.1 SEAWALL_NAME=seawall.lab
FRONT=10.99.0.3
HUB=10.99.1.1 AUTH=10.99.1.2 GHCR=10.99.1.3 QUAY=10.99.1.4 LAB=10.99.1.5 TOKENS=10.99.1.6 ORIGIN=10.99.1.7 OPEN=10.99.1.8
OPEN_HOST=open.e2e.test
NAMESPACES=(world proxy dns direct office sidecar)

ns() { echo "e2e-$$-$1"; }

make_network() {
  local name n=2
  for name in "${NAMESPACES[@]}"; do
    run ip netns add "$(ns $name)"
    ip -n "$(ns $name)" link set lo up
    : >"$STATE/resolv.$(ns $name)"
  done
  for name in $SEAWALL_ADDRESS $FRONT $HUB $AUTH $GHCR $QUAY $LAB $TOKENS $ORIGIN $OPEN; do ip -n "$(ns world)" address add "$name/32" dev lo; done
  for name in proxy dns direct office sidecar; do
    ip -n "$(ns world)" link add "to-$name" type veth peer name eth0 netns "$(ns $name)"
    ip -n "$(ns world)" address add "10.99.$n.1/24" dev "to-$name"
    ip -n "$(ns world)" link set "to-$name" up
    ip -n "$(ns $name)" address add "10.99.$n.2/24" dev eth0
    ip -n "$(ns $name)" link set eth0 up
    [ $name = office ] || ip -n "$(ns $name)" route add 10.99.0.0/24 via "10.99.$n.1"
    n=$((n + 1))
  done
  ip -n "$(ns direct)" route add 10.99.1.0/24 via 10.99.4.1
  for name in 10.99.1.0/24 10.99.4.1/32; do ip -n "$(ns sidecar)" route add $name via 10.99.6.1; done
  ip -n "$(ns proxy)" route add 10.99.1.0/24 via 10.99.2.1 # for seawall in a container, below; no client here has a name for it
  ip -n "$(ns office)" address add $SEAWALL_ADDRESS/32 dev lo
  for name in proxy office; do echo 'nameserver 127.0.0.1' >"$STATE/resolv.$(ns $name)"; done # nobody listens there
  echo 'nameserver 10.99.3.1' >"$STATE/resolv.$(ns dns)"
  echo 'nameserver 10.99.4.1' | tee "$STATE/resolv.$(ns sidecar)" >"$STATE/resolv.$(ns direct)"
  start_dns
  NS=$(ns world) start dns-direct "${DNSMASQ[@]}" --pid-file="$STATE/dns-direct.pid" --interface=to-direct --interface=to-sidecar \
    --address=/docker.io/$HUB --address=/auth.docker.io/$AUTH --address=/ghcr.io/$GHCR --address=/quay.io/$QUAY \
    --address=/registry.e2e.test/$LAB --address=/tokens.e2e.test/$TOKENS --address=/$OPEN_HOST/$OPEN --address=/elsewhere.e2e.test/$AUTH
}

DNSMASQ=(dnsmasq --keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --bind-interfaces --except-interface=lo --user=root)
start_dns() {
  NS=$(ns world) start dns "${DNSMASQ[@]}" --pid-file="$STATE/dns.pid" --interface=to-dns \
    --address=/docker.io/$SEAWALL_ADDRESS --address=/ghcr.io/$SEAWALL_ADDRESS --address=/quay.io/$SEAWALL_ADDRESS --address=/e2e.test/$SEAWALL_ADDRESS
}

remove_network() {
  local name
  for name in "${NAMESPACES[@]}"; do ip netns del "$(ns $name)" 2>/dev/null || true; done
}

# A test CA, one leaf for all upstream hosts, and a signer of tokens.
make_certificates() {
  local d=$STATE/pki
  mkdir -p "$d"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj '/CN=e2e upstream CA' \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign \
    -keyout "$d/ca.key" -out "$d/ca.crt" 2>/dev/null
  printf 'subjectAltName=DNS:registry-1.docker.io,DNS:index.docker.io,DNS:docker.io,DNS:auth.docker.io,DNS:ghcr.io,DNS:quay.io,DNS:registry.e2e.test,DNS:tokens.e2e.test,DNS:open.e2e.test\nextendedKeyUsage=serverAuth\n' >"$d/leaf.ext"
  printf 'keyUsage=digitalSignature\n' >"$d/signer.ext"
  local name
  for name in leaf signer; do
    openssl req -newkey rsa:2048 -nodes -subj "/CN=e2e $name" -keyout "$d/$name.key" -out "$d/$name.csr" 2>/dev/null
    openssl x509 -req -in "$d/$name.csr" -CA "$d/ca.crt" -CAkey "$d/ca.key" -CAcreateserial -days 2 -extfile "$d/$name.ext" -out "$d/$name.crt" 2>/dev/null
  done
}

base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }

# The anonymous token of auth.docker.io: pull of library/e2e, nothing else.
anonymous_token() {
  local d=$STATE/pki now x5c head claims
  now=$(date +%s)
  x5c=$(openssl x509 -in "$d/signer.crt" -outform DER | openssl base64 -A)
  head=$(printf '{"typ":"JWT","alg":"RS256","x5c":["%s"]}' "$x5c" | base64url)
  claims=$(printf '{"iss":"e2e","sub":"","aud":"registry.docker.io","exp":%d,"nbf":%d,"iat":%d,"jti":"e2e","access":[{"type":"repository","name":"library/e2e","actions":["pull"]}]}' \
    $((now + 7200)) $((now - 60)) "$now" | base64url)
  printf '%s.%s.%s' "$head" "$claims" "$(printf '%s.%s' "$head" "$claims" | openssl dgst -sha256 -sign "$d/signer.key" -binary | base64url)"
}

# start_registry NAME ADDRESS [REALM SERVICE [STORAGE]]: Debian's docker-registry (CNCF Distribution) with TLS; a realm means tokens.
# They share one storage; all write $ACCESS. NAME.log of one with a storage of its own says whose token a request came with.
start_registry() {
  local name=$1 address=$2 config=$STATE/$1.yml level=${5:+debug}
  {
    printf 'version: 0.1\nlog: {level: %s, formatter: json, accesslog: {disabled: false}}\n' "${level:-warn}"
    printf 'storage:\n  filesystem: {rootdirectory: %s}\n  delete: {enabled: true}\n' "$STATE/${5:-registry}"
    printf 'http:\n  addr: %s:443\n  secret: e2e\n  tls: {certificate: %s, key: %s}\n' "$address" "$STATE/pki/leaf.crt" "$STATE/pki/leaf.key"
    if [ -n "${3:-}" ]; then
      printf 'auth:\n  token: {realm: "%s", service: %s, issuer: e2e, rootcertbundle: %s}\n' "$3" "$4" "$STATE/pki/ca.crt"
    fi
  } >"$config"
  printf '+ [world] docker-registry serve %s (%s:443)\n' "$config" "$address"
  local IN
  within "$(ns world)"
  "${IN[@]}" docker-registry serve "$config" >>"$ACCESS" 2>>"$STATE/$name.log" </dev/null &
  PID[$name]=$!
}

# auth.docker.io (one anonymous token for all) and quay.io (ghcr.io, slowly).
start_nginx() {
  mkdir -p "$STATE/nginx"
  cat >"$STATE/nginx.conf" <<CONF
worker_processes 1; daemon off; pid $STATE/nginx/pid; error_log $STATE/nginx/error.log; user root;
events {}
http {
  access_log $STATE/nginx/access.log;
  client_body_temp_path $STATE/nginx/body; proxy_temp_path $STATE/nginx/proxy; fastcgi_temp_path $STATE/nginx/f; uwsgi_temp_path $STATE/nginx/u; scgi_temp_path $STATE/nginx/s;
  ssl_certificate $STATE/pki/leaf.crt; ssl_certificate_key $STATE/pki/leaf.key;
  server {
    listen $AUTH:443 ssl http2;
    location = /token { default_type application/json; return 200 '{"token":"$(anonymous_token)","expires_in":300}'; }
  }
  server {
    listen $QUAY:443 ssl http2;
    client_max_body_size 0; proxy_limit_rate 20m; proxy_max_temp_file_size 0; proxy_request_buffering off;
    location / { proxy_pass https://$GHCR; proxy_http_version 1.1; proxy_set_header Host ghcr.io; proxy_ssl_server_name on; proxy_ssl_name ghcr.io; }
  }
  server {
    listen $OPEN:443 ssl http2; access_log $ACCESS;
    client_max_body_size 0; proxy_max_temp_file_size 0;
    location / { proxy_pass http://127.0.0.1:5080; proxy_http_version 1.1; proxy_set_header Host \$host; }
  }
}
CONF
  NS=$(ns world) start nginx nginx -c "$STATE/nginx.conf" -e "$STATE/nginx/error.log"
}

start_hub() { start_registry hub "${HUB_AT:-$HUB}" https://auth.docker.io/token registry.docker.io; }

start_upstream() {
  ACCESS=$STATE/access.log
  : >>"$ACCESS"
  start_hub
  start_registry ghcr $GHCR
  start_nginx
  start_lab
  local address
  for address in $HUB $AUTH $GHCR $QUAY $LAB $TOKENS; do
    until_true 15 answers "$address" 443 || { tail -n 20 "$STATE"/{hub,ghcr,nginx,lab,tokens}.log; die "upstream $address does not answer"; }
  done
}

# tests/e2e/go/registry, behind nginx. What is pushed there lies in memory.
start_open() {
  built registry || return 1
  NS=$(ns world) start open "${BIN[registry]}" 127.0.0.1:5080
  until_true 15 answers 127.0.0.1 5080 || { tail "$STATE/open.log"; fail "$OPEN_HOST starts"; return 1; }
}

answers() { enter "$(ns world)" bash -c "exec 3<>/dev/tcp/$1/$2"; } # ADDRESS PORT

# stop_upstream [SIGNAL]. nginx is asked to end at once: killed, it would leave its worker behind.
stop_upstream() {
  local name
  stop nginx
  for name in hub ghcr lab tokens open; do stop $name "${1:-TERM}"; done
}

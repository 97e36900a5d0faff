# The cases of who may use seawall, and for what. Sourced by tests/e2e/run.
# shellcheck shell=bash

# code CURL-ARGUMENT…: the status that curl is answered with; 000: none.
code() { enter "$NS" curl -s -o /dev/null -w '%{http_code}' --max-time 20 --cacert "$TRUST/ca.crt" "$@" || true; }

# Nobody without a name in users_file, and a password with every letter that URLs mind.
case_users() {
  say 'users_file'
  local user=runner password='p@ss:w/r%d#1' image=$LAB_HOST/public/app:1 client
  local encoded=p%40ss%3Aw%2Fr%25d%231 named='407|Proxy Authentication Required|user name (or|and a) password' mirror=$SEAWALL_ADDRESS:3128
  htpasswd -nbB "$user" "$password" >"$STATE/users" 2>/dev/null
  seawall_fresh '[clients]' "users_file = \"$STATE/users\"" '[log]' 'level = "debug"'
  set_way proxy
  forget_logins
  for client in skopeo podman docker containerd; do
    PROXY=("HTTPS_PROXY=http://$user:$encoded@$mirror")
    client_up $client || continue
    gets $client nobody public
    if ! has ${client}_up; then
      PROXY=("HTTPS_PROXY=http://$user:wrong@$mirror")
      refused "$client: a wrong password is refused, and why is said" "$named" ${client}_pull_as nobody "$image"
      PROXY=("HTTPS_PROXY=http://$mirror")
      refused "$client: no password is refused, and why is said" "$named" ${client}_pull_as nobody "$image"
    fi
    client_down $client
  done
  set_way proxy
  client_up docker && {
    refused 'docker: no password is refused, and why is said' "$named" docker_pull_as nobody "$image"
    client_down docker
  }
  check 'curl has a tunnel with a password' enter "$NS" curl -sSf -o /dev/null --proxy "http://$mirror" --proxy-user "$user:$password" --cacert "$TRUST/ca.crt" https://ghcr.io/v2/ || true
  refused 'curl has none without' "$named" enter "$NS" curl -sSf -o /dev/null --proxy "http://$mirror" --cacert "$TRUST/ca.crt" https://ghcr.io/v2/
  equal 'no way around by SNI' 000 "$(code --resolve "ghcr.io:443:$SEAWALL_ADDRESS" https://ghcr.io/v2/)"

  equal 'the mirror: 401 without a password' 401 "$(code "http://$mirror/v2/")"
  equal 'the mirror says Basic' 1 "$(enter "$NS" curl -s -o /dev/null -D - "http://$mirror/v2/" | grep -ciE '^www-authenticate: basic realm=')"
  equal 'the mirror: 401 with a wrong one' 401 "$(code --user "$user:wrong" "http://$mirror/v2/")"
  equal 'the mirror: 200 with the right one' 200 "$(code --user "$user:$password" "http://$mirror/v2/")"
  equal 'the mirror: 401 for a manifest that is here' 401 "$(code "http://$mirror/v2/$LAB_HOST/public/app/manifests/1")"
  PROXY=()
  local skopeo=(skopeo_ copy --quiet --src-tls-verify=false "docker://$mirror/$image" "oci:$STATE/skopeo:1")
  check 'skopeo pulls from the mirror with a password' "${skopeo[@]}" --src-creds "$user:$password" || true
  skopeo_wipe
  refused 'skopeo is refused by the mirror without' 'unauthorized|authentication required|401' "${skopeo[@]}"
  skopeo_wipe

  printf '%s\n' "$password" "$encoded" "$(printf '%s:%s' $user "$password" | openssl base64 -A)" >"$STATE/secrets.users"
  stop seawall
  equal 'the password is nowhere in the log' 0 "$(grep -cF -f "$STATE/secrets.users" "$STATE/seawall.log" || true)"
}

# allow and deny of a registry: the reason is said, nothing goes upstream, what is here is not given either.
case_repositories() {
  say 'allow and deny of repositories'
  local registry="name = \"$LAB_HOST\"" why='seawall.*(allow|deny|denied)'
  seawall_fresh
  set_way proxy
  forget_logins
  gets skopeo nobody public
  stop seawall
  configure "$registry" 'allow = ["alice/*", "bob/*"]'
  configure "$registry" 'deny = ["bob/*"]'
  seawall_start
  client_up docker || return 0
  check 'docker: alice logs in' docker_login alice "${PASSWORD[alice]}" || true
  check 'docker: bob logs in' docker_login bob "${PASSWORD[bob]}" || true
  gets docker alice alice
  gets skopeo alice alice
  mark
  local client
  for client in docker skopeo; do
    refused "$client: bob/app is denied, and why is said" "$why" ${client}_pull_as bob "$LAB_HOST/bob/app:1"
    refused "$client: public/app is not allowed, though it is here, and why is said" "$why" ${client}_pull_as nobody "$LAB_HOST/public/app:1"
  done
  client_down docker
  skopeo_wipe
  local curl=(--proxy "http://$SEAWALL_ADDRESS:3128") at=https://$LAB_HOST/v2/public/app path
  for path in manifests/1 "manifests/sha256:$(sed -nE 's/.*"digest":"sha256:([0-9a-f]*)".*/\1/p' "$STATE/lab/public/index.json")" "blobs/$(blob_of public)" tags/list; do
    equal "${path%:*} of what is not allowed: 403" 403 "$(code "${curl[@]}" "$at/$path")"
  done
  equal 'nothing of these reached upstream' 0 "$(reached '/v2/(bob|public)/app/')"
  equal 'another registry is as open as it was' 200 "$(code "${curl[@]}" https://ghcr.io/v2/acme/tool/tags/list)"
}

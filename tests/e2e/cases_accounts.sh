# The cases of accounts: the clients' own, and the operator's. Sourced by tests/e2e/run.
# shellcheck shell=bash

# The registry itself keeps them apart: everything below stands on it.
case_accounts_direct() {
  say 'accounts, straight at the registry'
  set_way direct
  forget_logins
  local client who
  for client in skopeo docker containerd; do
    client_up $client || continue
    if has ${client}_login; then check "$client: alice logs in" ${client}_login alice "${PASSWORD[alice]}" || true; fi
    gets $client alice alice
    lacks $client alice bob
    lacks $client nobody alice
    lacks $client nobody shared
    for who in alice nobody; do gets $client $who public; done
    client_down $client
  done
  gets skopeo ci shared
  gets skopeo ci alice
}

case_accounts() {
  accounts proxy docker
  accounts proxy podman
  accounts proxy containerd
  accounts dns podman
}

# Two people and nobody share seawall: each gets what upstream gives to them, though all of it is here.
accounts() {
  local way=$1 client=$2
  say "$client, by $way: two accounts and none"
  seawall_fresh '[log]' 'level = "debug"'
  set_way "$way"
  forget_logins
  client_up "$client" || return 0
  if has "${client}_login"; then
    refused "$client: no login with a wrong password" "$REFUSED" "${client}_login" alice wrong
    check "$client: alice logs in" "${client}_login" alice "${PASSWORD[alice]}" || true
    check "$client: bob logs in" "${client}_login" bob "${PASSWORD[bob]}" || true
  fi
  mark
  gets "$client" alice alice
  equal "$client: upstream gave each blob of alice's" 2 "$(blobs_reached)"
  lacks "$client" bob alice
  lacks "$client" nobody alice
  gets "$client" bob bob
  lacks "$client" alice bob
  lacks "$client" nobody bob
  local who
  for who in nobody alice bob; do gets "$client" $who public; done
  mark
  gets "$client" alice alice
  equal "$client: alice again: upstream gave no blob" 0 "$(blobs_reached)"
  equal "$client: alice again: upstream gave no manifest" 0 "$(manifests_reached)"
  lacks "$client" bob alice
  lacks "$client" nobody alice
  client_down "$client"
  seawall_kept_no_secret "$client"
}

# The registry and its token service are gone: what everybody may read goes on, what is somebody's is nobody's. After a restart too.
case_accounts_offline() {
  say 'accounts, and their registry is stopped'
  local gone="$REFUSED|50[234]" round who
  seawall_fresh
  set_way proxy
  forget_logins
  gets skopeo alice alice
  gets skopeo nobody public
  stop lab
  stop tokens
  for round in 'at once' 'after a restart'; do
    sleep 2.1 # past the tag's ttl
    note "$round"
    gets skopeo nobody public
    for who in nobody bob; do REFUSED=$gone lacks skopeo $who alice; done
    stop seawall
    seawall_start
    set_way proxy
  done
  start_lab
  until_true 15 answers $LAB 443 && until_true 15 answers $TOKENS 443 || fail 'the registry comes back'
  gets skopeo alice alice
}

# A docker-credential helper that knows the account `ci`, and says whom it was asked for.
make_helper() {
  mkdir -p "$STATE/helper"
  cat >"$STATE/helper/docker-credential-seawalltest" <<HELPER
#!/bin/sh
read -r server
echo "\$1 \$server" >>"$STATE/helper/log"
printf '{"ServerURL":"%s","Username":"ci","Secret":"%s"}\n' "\$server" "${PASSWORD[ci]}"
HELPER
  chmod 700 "$STATE/helper/docker-credential-seawalltest"
  printf '{"credHelpers":{"%s":"seawalltest"}}' $LAB_HOST >"$STATE/helper/config.json"
}

# The operator's account pays for what is public and opens what is shared; nobody gets hold of it, nor of what else it may read.
case_operator() {
  say "the operator's account, by a credential helper"
  make_helper
  SEAWALL_ENV=("PATH=$STATE/helper:$PATH")
  local registry="name = \"$LAB_HOST\""
  seawall_fresh "$registry" "docker_config = \"$STATE/helper/config.json\"" "$registry" 'share = ["shared/*"]' '[log]' 'level = "debug"'
  SEAWALL_ENV=()
  set_way proxy
  forget_logins
  mark_lab
  gets skopeo nobody public
  equal "the manifest of public/app came with the operator's token" ci "$(whose public manifests)"
  equal 'its blobs as to anybody: the account could be shown what is private' - "$(whose public blobs)"
  mark_lab
  gets podman nobody public
  equal 'the next client costs the operator no token' 0 "$(tokens_asked | grep -c ' ci ' || true)"
  gets skopeo nobody shared
  lacks skopeo nobody alice
  mark_lab
  gets skopeo alice alice
  equal "alice's own credentials are used for her" alice "$(whose alice manifests)"
  equal 'for her blobs too' alice "$(whose alice blobs)"
  lacks skopeo nobody alice
  lacks skopeo bob alice
  gets podman nobody shared
  lacks podman nobody alice
  local client
  for client in docker containerd; do
    client_up $client || continue
    gets $client nobody shared
    gets $client nobody public
    lacks $client nobody alice
    client_down $client
  done
  equal 'the helper was asked for this registry alone' "get $LAB_HOST" "$(sed 's|https://||; s|/v2/$||; s|/$||' "$STATE/helper/log" | sort -u)"
  note "the helper was asked $(wc -l <"$STATE/helper/log") times"
  operator_stays_hidden
  seawall_kept_no_secret 'operator'

  say "the operator's account, by username and password_file"
  echo of-last-year >"$STATE/helper/password"
  seawall_fresh "$registry" "password_file = \"$STATE/helper/password\"" "$registry" 'username = "ci"' "$registry" 'share = ["shared/*"]' '[log]' 'level = "debug"'
  set_way proxy
  mark_lab
  gets skopeo nobody public
  equal 'the password is wrong: what is public comes as to anybody' - "$(whose public blobs)"
  lacks skopeo nobody shared
  printf '%s\n' "${PASSWORD[ci]}" >"$STATE/helper/password"
  until_true 15 skopeo_pull_as nobody "$LAB_HOST/shared/app:1" || true # it is read again within ten seconds
  skopeo_wipe >/dev/null 2>&1 || true
  gets skopeo nobody shared
  lacks skopeo nobody alice
  equal "it came with the operator's token" ci "$(whose shared manifests)"
  seawall_kept_no_secret 'password_file'
}

# Everything that a curious client can ask for, read aloud: nothing in it is the operator's.
operator_stays_hidden() {
  local owner token path said=$STATE/transcript
  local curl=(enter "$NS" curl -sSv --max-time 20 --proxy "http://$SEAWALL_ADDRESS:3128" --cacert "$TRUST/ca.crt")
  local service="https://tokens.e2e.test/token?service=$LAB_HOST"
  {
    "${curl[@]}" "https://$LAB_HOST/v2/"
    "${curl[@]}" "$service"
    "${curl[@]}" "$service&account=ci&offline_token=true&client_id=curl"
    "${curl[@]}" -d "grant_type=password&access_type=offline&client_id=curl&username=ci&password=&service=$LAB_HOST" "https://tokens.e2e.test/token"
    "${curl[@]}" "https://$LAB_HOST/v2/_catalog"
    for owner in public shared alice; do
      "${curl[@]}" "$service&scope=repository:$owner/app:pull"
      "${curl[@]}" "https://$LAB_HOST/v2/$owner/app/manifests/1"
      "${curl[@]}" -o /dev/null "https://$LAB_HOST/v2/$owner/app/blobs/$(blob_of $owner)"
      "${curl[@]}" "https://$LAB_HOST/v2/$owner/app/tags/list"
      "${curl[@]}" -X POST "https://$LAB_HOST/v2/$owner/app/blobs/uploads/"
      "${curl[@]}" "https://$LAB_HOST/v2/$owner/app/referrers/$(blob_of $owner)"
    done
  } >"$said" 2>&1 || fail "curl: $(tail -n 3 "$said")"
  secret_nowhere 'no answer to a client has the password or a token of the operator' "$said"

  # The token that a client gets for what is shared is worth nothing at the registry itself.
  for owner in shared alice; do
    token=$(enter "$NS" curl -s --proxy "http://$SEAWALL_ADDRESS:3128" --cacert "$TRUST/ca.crt" "$service&scope=repository:$owner/app:pull" | sed -nE 's/.*"token": ?"([^"]*)".*/\1/p')
    equal "a client's token for $owner/app opens nothing at the registry" 401 \
      "$(enter "$(ns direct)" curl -s -o /dev/null -w '%{http_code}' --cacert "$STATE/trust/upstream/ca.crt" -H "Authorization: Bearer ${token:-none}" "https://$LAB_HOST/v2/$owner/app/manifests/1")"
  done
  for path in "manifests/1" "blobs/$(blob_of alice)" tags/list; do
    equal "alice/app/$path is refused to nobody" 401 "$("${curl[@]}" -o "$STATE/body" -w '%{http_code}' "https://$LAB_HOST/v2/alice/app/$path" 2>/dev/null || true)"
  done
}

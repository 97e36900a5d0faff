# What is no image: artifacts, charts, signatures, with the clients that people have for them, in a shell that `seawall setup shell` set up.
# Each is put straight into a registry, and had through seawall twice. Sourced by tests/e2e/run.
# shellcheck shell=bash

# straight COMMAND…: at the registries themselves, believing their CA, where the artifacts are (or in $AT).
straight() { enter "$(ns direct)" env -i -C "${AT:-$STATE/artifacts}" "PATH=$PATH" "HOME=$STATE/straight" "TMPDIR=$STATE/tmp" "SSL_CERT_FILE=$STATE/trust/upstream/ca.crt" SSL_CERT_DIR=/nonexistent "$@"; }
# person COMMAND…: in the room.
person() { enter "$NS" "${WITH[@]}" "$@"; }

# both_times WHAT COMMAND…: cold, and again with nothing reaching upstream.
both_times() {
  local what=$1
  shift
  check "$what" "$@" && silent "$what, again" "$@"
}

# artifacts MODE…: a fresh cache, a room, and $OPEN_HOST.
artifacts_begin() {
  TAG_TTL=1m seawall_fresh
  mkdir -p "$STATE/straight" "$STATE/artifacts"
  push_setup_images
  set_room shell "$1"
}
artifacts_end() { ROOM=''; stop open; }

oras_gets() { rm -rf "$STATE/artifacts/got" && person "${BIN[oras]}" pull --no-tty "$@" -o "$STATE/artifacts/got" && cmp "$STATE/artifacts/got/hello.txt" "$STATE/artifacts/hello.txt"; }
# The registry of $OPEN_HOST gives the type of the configuration.
oras_knows() { person "${BIN[oras]}" discover --format json "$1" >"$STATE/artifacts/referrers" && grep -qE '"artifactType": "application/vnd.(e2e.sbom|oci.empty.v1.json)"' "$STATE/artifacts/referrers"; }

case_oras() {
  say 'oras: artifacts and what refers to them'
  built oras && start_open || return 0
  artifacts_begin proxy || return 0
  echo hello >"$STATE/artifacts/hello.txt"
  echo '{}' >"$STATE/artifacts/sbom.json"
  local host oras=("${BIN[oras]}")
  for host in ghcr.io $OPEN_HOST; do # one has the referrers API, in the other a tag stands for it
    check "oras pushes an artifact to $host" straight "${oras[@]}" push --no-tty "$host/acme/artifact:1" --artifact-type application/vnd.e2e hello.txt:text/plain || continue
    check "oras attaches to it" straight "${oras[@]}" attach --no-tty "$host/acme/artifact:1" --artifact-type application/vnd.e2e.sbom sbom.json || continue
    both_times "oras pulls the artifact of $host" oras_gets "$host/acme/artifact:1"
    check "oras sees what refers to it at $host" oras_knows "$host/acme/artifact:1" || true
    both_times "oras pulls it by path from the mirror" oras_gets --plain-http "$SEAWALL_ADDRESS:3128/$host/acme/artifact:1"
  done
  artifacts_end
}

regctl_copies() { rm -rf "$STATE/artifacts/layout" && person "${BIN[regctl]}" image copy "$@" "ocidir://$STATE/artifacts/layout:1"; }

case_regctl() {
  say 'regctl: a copy with its referrers'
  built regctl && start_open || return 0
  artifacts_begin proxy || return 0
  local regctl=("${BIN[regctl]}") image=$OPEN_HOST/acme/copied:1
  check 'regctl copies an image in' straight "${regctl[@]}" image copy "ocidir://$STATE/small/setup:1" "$image" || true
  built oras && AT=$STATE/small check 'oras attaches something to it' straight "${BIN[oras]}" attach --no-tty "$image" --artifact-type application/vnd.e2e.note setup/index.json || true
  both_times 'regctl copies it out, all platforms' regctl_copies "$image"
  check 'regctl copies it out with its referrers' regctl_copies --referrers "$image" || true
  equal 'they are in the copy' 1 "$(person "${regctl[@]}" artifact list --format '{{len .Descriptors}}' "ocidir://$STATE/artifacts/layout:1" || true)"
  both_times 'regctl gets a manifest of the hub' person "${regctl[@]}" manifest get --format raw-body $HUB_SMALL
  artifacts_end
}

helm_pulls() { rm -rf "$STATE/artifacts/charts" && mkdir "$STATE/artifacts/charts" && person "${BIN[helm]}" pull "$@" --version 0.1.0 --destination "$STATE/artifacts/charts" && cmp "$STATE/artifacts/charts/wall-0.1.0.tgz" "$STATE/artifacts/wall-0.1.0.tgz"; }

case_helm() {
  say 'helm: a chart'
  built helm || return 0
  artifacts_begin proxy || return 0
  mkdir -p "$STATE/artifacts/wall/templates"
  printf 'apiVersion: v2\nname: wall\nversion: 0.1.0\n' >"$STATE/artifacts/wall/Chart.yaml"
  printf 'kind: ConfigMap\napiVersion: v1\nmetadata: {name: wall}\n' >"$STATE/artifacts/wall/templates/map.yaml"
  check 'helm packs a chart' straight "${BIN[helm]}" package "$STATE/artifacts/wall" --destination "$STATE/artifacts" || true
  check 'helm pushes it' straight "${BIN[helm]}" push "$STATE/artifacts/wall-0.1.0.tgz" oci://ghcr.io/acme/charts || true
  both_times 'helm pulls the chart' helm_pulls oci://ghcr.io/acme/charts/wall
  both_times 'helm pulls it from the mirror by path' helm_pulls --plain-http "oci://$SEAWALL_ADDRESS:3128/ghcr.io/acme/charts/wall"
  artifacts_end
}

# What refers to an image may change at any time: seawall asks for that list, and for nothing else.
cosign_verifies() {
  local what=$1
  shift
  check "$what" person "${BIN[cosign]}" verify --key "$STATE/artifacts/cosign.pub" --insecure-ignore-tlog "$@" || return 0
  mark
  check "$what, again" person "${BIN[cosign]}" verify --key "$STATE/artifacts/cosign.pub" --insecure-ignore-tlog "$@" || return 0
  equal "$what, again: upstream was asked for nothing but the list of what refers to it" 0 "$(($(anything_reached) - $(reached '"GET /v2/acme/signed/referrers/sha256:')))"
}

case_cosign() {
  say 'cosign: a signature'
  built cosign && start_open || return 0
  artifacts_begin proxy || return 0
  local cosign=("${BIN[cosign]}") host digest
  check 'cosign makes a key' straight env COSIGN_PASSWORD= "${cosign[@]}" generate-key-pair || { artifacts_end; return 0; }
  digest=$(sed -nE 's/.*"digest":"(sha256:[0-9a-f]*)".*/\1/p' "$STATE/small/setup/index.json")
  for host in ghcr.io $OPEN_HOST; do
    check "an image to sign, at $host" straight skopeo --insecure-policy copy --quiet --all --dest-cert-dir "$STATE/trust/upstream" "oci:$STATE/small/setup:1" "docker://$host/acme/signed:1" || continue
    check "cosign signs it at $host" straight env COSIGN_PASSWORD= "${cosign[@]}" sign --key cosign.key --yes --tlog-upload=false --use-signing-config=false "$host/acme/signed@$digest" || continue
    cosign_verifies "cosign verifies the image of $host" "$host/acme/signed:1"
    cosign_verifies "cosign verifies it by digest" "$host/acme/signed@$digest"
  done
  artifacts_end
}

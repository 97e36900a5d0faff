# Clients that Debian does not have, or has of another year: built once from the Go module proxy, kept in target/e2e. Sourced by tests/e2e/run.
# shellcheck shell=bash
#
# Two tiers: what every run builds (a minute or two of two cores, once), and what E2E_CLIENTS=all adds, or E2E_CLIENTS='helm cosign'.

#         name        version  module and package                                                     tier     tags
GO_CLIENTS='
          crane       v0.20.6  github.com/google/go-containerregistry cmd/crane                       default
          regctl      v0.11.7  github.com/regclient/regclient         cmd/regctl                      default
          oras        v1.3.1   oras.land/oras                         cmd/oras                        default
          containerd  v2.4.2   github.com/containerd/containerd/v2    cmd/containerd                  all      no_btrfs,no_zfs,no_devmapper,no_tracing,no_rdt
          buildctl    v0.28.1  github.com/moby/buildkit               cmd/buildctl                    all
          buildkitd   v0.28.1  github.com/moby/buildkit               cmd/buildkitd                   all
          helm        v4.3.1   helm.sh/helm/v4                        cmd/helm                        all
          cosign      v3.1.3   github.com/sigstore/cosign/v3          cmd/cosign                      all
          executor    v1.24.0  github.com/GoogleContainerTools/kaniko cmd/executor                    all
'
declare -A BIN=() # name -> where it is; what could not be built is not there

# go_build WHAT TO TAGS PACKAGE…
go_build() {
  local what=$1 to=$2 tags=$3 began=$SECONDS
  shift 3
  CGO_ENABLED=0 go build -trimpath -buildvcs=false -tags "$tags" -ldflags='-s -w' -o "$to" "$@" </dev/null >>"$STATE/go.log" 2>&1 || {
    note "$what could not be built:"
    grep -v 'downloading' "$STATE/go.log" | tail -n 3 | sed 's/^/      | /'
    return 1
  }
  note "built $what in $((SECONDS - began)) s"
}

build_clients() {
  local name version module package tier tags at source left=()
  while read -r name version module package tier tags; do
    [ -n "$name" ] || continue
    at=$E2E_CACHE/bin-$name-$version/$name
    if [ ! -x "$at" ]; then
      if [ "$tier" != default ] && [[ " ${E2E_CLIENTS:-} " != *" all "* && " ${E2E_CLIENTS:-} " != *" $name "* ]]; then left+=("$name"); continue; fi
      command -v go >/dev/null || continue
      # Where the module itself is, with its own go.sum and what it replaces: as a requirement of another one BuildKit cannot be had, and
      # `go install` would want to know whether a newer version takes this one back.
      source=$(cd / && go mod download -json "$module@$version" 2>>"$STATE/go.log" | sed -nE 's/^\t"Dir": "(.*)",$/\1/p') || true
      [ -n "$source" ] || { note "$module $version cannot be had"; continue; }
      (cd "$source" && GOFLAGS=-mod=readonly go_build "$name $version" "$at" "$tags" "./$package") || continue
    fi
    BIN[$name]=$at
  done <<<"$GO_CLIENTS"
  # Our own few lines: a registry that knows referrers, and how K3s reads registries.yaml.
  at=$E2E_CACHE/bin-own-$(cat tests/e2e/go/go.sum tests/e2e/go/*/*.go | sha256sum | cut -c -12)
  if [ ! -x "$at/wharf" ] && command -v go >/dev/null; then mkdir -p "$at" && (cd tests/e2e/go && go_build 'tests/e2e/go' "$at/" '' ./...) || true; fi
  for name in registry wharf; do [ ! -x "$at/$name" ] || BIN[$name]=$at/$name; done
  CRANE=${BIN[crane]:-}
  [ "${#left[@]}" = 0 ] || [ -n "${E2E_PART:-}" ] || skip "not built: ${left[*]}; E2E_CLIENTS=all tests/e2e/run builds them all"
}

# built NAME: it is there.
built() { [ -n "${BIN[$1]:-}" ] || { skip "$1: E2E_CLIENTS=all builds it, from the Go module proxy"; return 1; }; }

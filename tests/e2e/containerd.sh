#!/bin/sh
# Builds containerd 2 and ctr into DIR, from the Go module proxy: for test_segments.py. Five minutes on two cores.
#   tests/e2e/containerd.sh DIR; CONTAINERD=DIR python3 -m pytest tests/e2e/test_segments.py
set -eu
[ $# = 1 ] || { echo "usage: $0 DIR" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
version=v2.1.4
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
go mod download "github.com/containerd/containerd/v2@$version"
cp -r "$(go env GOMODCACHE)/github.com/containerd/containerd/v2@$version/." "$source"
chmod -R u+w "$source"
cd "$source"
CGO_ENABLED=0 go build -mod=mod -tags 'no_btrfs no_devmapper no_zfs no_cri' -o "$out/" ./cmd/containerd ./cmd/ctr
"$out/containerd" --version

# The images, built by hand as an OCI layout: no builder of the machine is trusted with what the test compares. Sourced by tests/e2e/run.
# shellcheck shell=bash
#
#   library/e2e:1   index: linux/amd64 (Debian root file system, busybox, 160 MiB of noise), linux/arm64 (one small layer)
#   acme/tool:1     the same, converted to Docker's schema 2 by skopeo

NOISE_MIB=160

# The machine's own Debian mirror: the first bookworm-like entry of its apt sources.
debian_mirror() {
  {
    cat /etc/apt/sources.list 2>/dev/null | sed -n 's/^deb \(\[[^]]*\] \)\?\(http[^ ]*\) .*\bmain\b.*/\2/p'
    cat /etc/apt/sources.list.d/*.list 2>/dev/null | sed -n 's/^deb \(\[[^]]*\] \)\?\(http[^ ]*debian\/\?\) .*\bmain\b.*/\2/p'
    cat /etc/apt/sources.list.d/*.sources 2>/dev/null | sed -n 's/^URIs: *\(http[^ ]*\).*/\1/p'
  } | grep -v security | head -n 1
}

# put_blob FILE MEDIA_TYPE: moves it into the layout, prints its descriptor (without braces).
put_blob() {
  local digest size
  digest=$(sha256sum "$1" | cut -d' ' -f1)
  size=$(stat -c %s "$1")
  mv "$1" "$LAYOUT/blobs/sha256/$digest"
  printf '"mediaType":"%s","digest":"sha256:%s","size":%d' "$2" "$digest" "$size"
}

# layer DIRECTORY: appends to LAYERS and DIFFS.
layer() {
  local tar=$BUILD/layer.tar
  tar --sort=name --mtime=@0 --numeric-owner -C "$1" -cf "$tar" .
  DIFFS+="${DIFFS:+,}\"sha256:$(sha256sum "$tar" | cut -d' ' -f1)\""
  gzip -1nf "$tar"
  LAYERS+="${LAYERS:+,}{$(put_blob "$tar.gz" application/vnd.oci.image.layer.v1.tar+gzip)}"
}

# manifest ARCHITECTURE COMMAND_JSON: from LAYERS and DIFFS; prints the index's entry.
manifest() {
  local config
  printf '{"architecture":"%s","os":"linux","config":{"Cmd":%s,"Env":["PATH=/usr/bin:/bin"]},"rootfs":{"type":"layers","diff_ids":[%s]}}' "$1" "$2" "$DIFFS" >"$BUILD/config"
  config=$(put_blob "$BUILD/config" application/vnd.oci.image.config.v1+json)
  printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{%s},"layers":[%s]}' "$config" "$LAYERS" >"$BUILD/manifest"
  printf '{%s,"platform":{"architecture":"%s","os":"linux"}}' "$(put_blob "$BUILD/manifest" application/vnd.oci.image.manifest.v1+json)" "$1"
}

# Fills $LAYOUT once; later runs find it there.
make_image() {
  LAYOUT=$E2E_CACHE/layout-2
  ROOTFS=$E2E_CACHE/rootfs-1.tar
  if [ ! -f "$ROOTFS" ]; then
    local mirror suite
    mirror=$(debian_mirror)
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    [ -n "$mirror" ] || die "no Debian mirror in /etc/apt/sources.list*"
    printf '+ debootstrap --variant=minbase %s %s (the mirror of this machine)\n' "$suite" "$STATE/rootfs"
    debootstrap --variant=minbase "$suite" "$STATE/rootfs" "$mirror" >"$STATE/debootstrap.log" 2>&1 || { tail "$STATE/debootstrap.log"; die "debootstrap failed"; }
    rm -rf "$STATE/rootfs"/var/{cache/apt,lib/apt/lists,log}/* "$STATE/rootfs"/{dev,proc,sys}/*
    # No trace of the machine's mirror in what is kept.
    rm -f "$STATE/rootfs/etc/apt/sources.list"
    tar --numeric-owner -C "$STATE/rootfs" -cf "$ROOTFS.part" . && mv "$ROOTFS.part" "$ROOTFS"
    rm -rf "$STATE/rootfs"
  fi
  if [ ! -f "$LAYOUT/index.json" ]; then
    note "building the image into $LAYOUT"
    local amd64 arm64
    BUILD=$STATE/build
    rm -rf "$LAYOUT" "$BUILD"
    mkdir -p "$LAYOUT/blobs/sha256" "$BUILD"/{1,2/e2e,3/e2e,arm/e2e}
    tar -C "$BUILD/1" -xf "$ROOTFS"
    cp "$(command -v busybox)" "$BUILD/2/e2e/busybox"
    openssl enc -aes-128-ctr -K 5ea3a11000000000000000000000e2e0 -iv 0 -in /dev/zero 2>/dev/null | head -c $((NOISE_MIB << 20)) >"$BUILD/3/e2e/noise" || true
    (cd "$BUILD/3" && sha256sum e2e/noise) >"$BUILD/2/e2e/sums"
    LAYERS='' DIFFS=''
    layer "$BUILD/1"; layer "$BUILD/2"; layer "$BUILD/3"
    manifest amd64 '["/bin/sh","-c",". /etc/os-release; echo hello from $ID; /e2e/busybox sha256sum -c /e2e/sums"]' >"$BUILD/amd64"
    amd64=$(cat "$BUILD/amd64")
    printf 'not for this machine\n' >"$BUILD/arm/e2e/hello"
    LAYERS='' DIFFS=''
    layer "$BUILD/arm"
    manifest arm64 '["/e2e/hello"]' >"$BUILD/arm64"
    arm64=$(cat "$BUILD/arm64")
    printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[%s,%s]}' "$amd64" "$arm64" >"$BUILD/index"
    printf '{"imageLayoutVersion":"1.0.0"}' >"$LAYOUT/oci-layout"
    printf '{"schemaVersion":2,"manifests":[{%s,"annotations":{"org.opencontainers.image.ref.name":"1"}}]}' \
      "$(put_blob "$BUILD/index" application/vnd.oci.image.index.v1+json)" >"$BUILD/index.json"
    mv "$BUILD/index.json" "$LAYOUT/index.json"
    rm -rf "$BUILD"
  fi
  BLOBS=4 # of the amd64 image: three layers and a configuration
  run du -sh "$LAYOUT"
}

push_image() {
  NS=$(ns direct)
  local skopeo=(enter "$NS" skopeo --insecure-policy copy --quiet --all --dest-cert-dir "$STATE/trust/upstream")
  check "push of library/e2e:1 to the upstream" "${skopeo[@]}" "oci:$LAYOUT:1" docker://ghcr.io/library/e2e:1
  check "push of acme/tool:1 (Docker schema 2)" "${skopeo[@]}" --format v2s2 "oci:$LAYOUT:1" docker://ghcr.io/acme/tool:1
}

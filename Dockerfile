# An image with nothing in it but seawall: a static binary, no shell, no libc, no system. Two ways to build it:
#
#   docker build -t seawall .                       compiles inside; needs a builder with Rust and a C compiler
#   docker build --target prebuilt -t seawall .     copies target/dist/seawall; compiles nothing. Make it before, static:
#       cargo rustc --profile dist --bin seawall -- -C target-feature=+crt-static -C strip=symbols
#
# Other machines: `docker buildx build --platform linux/amd64,linux/arm64 .`; each is compiled on a machine, or an emulation, of its kind.
# Its symbols, for a debugger: `docker build --target symbols --output . .`
#
# BASE: what else is in the image. Nothing has to be: name resolution is in the binary, and so are the roots of the web, which are taken where
# there is no /etc/ssl/certs. An image with a libc takes a binary that is not static, and docker-credential-… programs need one.
# BUILDER: what compiles it; its glibc must be 2.34 or newer, from where on DNS works in static programs.
ARG BASE=scratch
ARG BUILDER=docker.io/library/rust:1-bookworm

FROM ${BASE} AS runtime
LABEL org.opencontainers.image.title="seawall" \
      org.opencontainers.image.description="A caching HTTPS proxy for container registries" \
      org.opencontainers.image.licenses="Apache-2.0"
# An empty directory (.dockerignore keeps ca/'s content out) that belongs to the user below: a new volume takes its owner from it.
COPY --chown=65532:65532 ca/ /var/lib/seawall/
WORKDIR /var/lib/seawall
USER 65532:65532
# Defaults of a container: everything else is /etc/seawall/seawall.toml or SEAWALL_… variables.
ENV SEAWALL_DATA=/var/lib/seawall SEAWALL_CA__DIR=/etc/seawall/ca
EXPOSE 3128 443
VOLUME /var/lib/seawall
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s CMD ["/usr/local/bin/seawall", "check", "--health"]
ENTRYPOINT ["/usr/local/bin/seawall"]
CMD ["serve", "--listen", "0.0.0.0:3128", "--listen", "0.0.0.0:443"]

# Before the compiling stages: docker's old builder runs every stage up to its target.
FROM runtime AS prebuilt
COPY target/dist/seawall /usr/local/bin/seawall

FROM ${BUILDER} AS build
WORKDIR /build
COPY . .
# The last step alone is static: build scripts and procedural macros are not.
RUN cargo rustc --profile dist --locked --bin seawall -- -C target-feature=+crt-static \
 && objcopy --only-keep-debug --compress-debug-sections target/dist/seawall seawall.debug \
 && objcopy --strip-all --add-gnu-debuglink=seawall.debug target/dist/seawall seawall

FROM scratch AS symbols
COPY --from=build /build/seawall.debug /

FROM runtime
COPY --from=build /build/seawall /usr/local/bin/seawall

# Two ways to build it:
#
#   docker build -t seawall .                                        compiles inside; needs a builder with Rust and a C compiler
#   cargo build --release && docker build --target prebuilt -t seawall .   copies target/release/seawall; compiles nothing
#
# BASE is what it runs on: any image with glibc >= the builder's (no shell is needed). BUILDER is what compiles it. Without a network, name images of
# your own for both: --build-arg BASE=my/base --build-arg BUILDER=my/rust
ARG BASE=gcr.io/distroless/cc-debian12
ARG BUILDER=docker.io/library/rust:1-bookworm

FROM ${BASE} AS runtime
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

# Before the compiling stage: docker's old builder runs every stage up to its target.
FROM runtime AS prebuilt
COPY target/release/seawall /usr/local/bin/seawall

FROM ${BUILDER} AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked --bin seawall

FROM runtime
COPY --from=build /build/target/release/seawall /usr/local/bin/seawall

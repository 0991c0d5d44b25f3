# syntax=docker/dockerfile:1
#
#   docker build -t ghcr.io/shardwright/shardwright:0.1.0 .             the operator, and every other verb
#   docker build -t ghcr.io/shardwright/node:2 --target node .          the program in every pod of a cluster
#
# Both are one static file in an empty image, and run as nobody.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The target is named although it is the host's: so the flag reaches our programs and not what runs while they are built.
RUN host="$(rustc -vV | sed -n 's/^host: //p')" \
    && cargo build --release --locked --target "$host" \
        --config "target.$host.rustflags=['-C', 'target-feature=+crt-static']" \
        -p shardwright --bin shardwright -p shardwright-node --bin shardwright-node \
    && mkdir /out \
    && cp "target/$host/release/shardwright" "target/$host/release/shardwright-node" /out/

# Its version is its own: the pod template names it, so a new one restarts the pods of every cluster.
FROM scratch AS node
COPY --from=build /out/shardwright-node /shardwright-node
USER 65532:65532
ENTRYPOINT ["/shardwright-node"]

FROM scratch AS operator
COPY --from=build /out/shardwright /usr/local/bin/shardwright
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/shardwright"]

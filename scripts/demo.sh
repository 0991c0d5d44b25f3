#!/usr/bin/env bash
# A cluster on this machine, and what happens when one of its primaries dies.
#
#   demo.sh        install an engine if none is found, build, form the cluster of
#                  examples/article.yaml, write, kill a primary, see it heal
#   demo.sh down   stop that cluster and remove its data
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

case "${1:-up}" in
    up) ;;
    down)
        # Only a cluster that was started can be there, and it was started by this binary.
        if [ ! -x target/release/shardwright ]; then
            say "nothing to remove: the demo was never built here"
            exit 0
        fi
        exec target/release/shardwright down --purge
        ;;
    *) say "usage: demo.sh [down]"; exit 2 ;;
esac

scripts/tools.sh

# An engine of the machine's own is preferred; else the first that can be had.
if ! have redis-server && ! have valkey-server; then
    scripts/engines.sh --first
    for name in redis-7.0 valkey-9.1 redis-7.4 valkey-8.0; do
        if [ -e ".engines/$name/bin/.complete" ]; then
            PATH="$ROOT/.engines/$name/bin:$PATH"
            export PATH
            break
        fi
    done
fi

say "building (release) ..."
cargo build --release --locked -p shardwright --bin shardwright
cargo build --release --locked -p shardwright-testkit --bin demo
exec target/release/demo

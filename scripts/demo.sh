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
        # The name is the manifest's: another cluster of this machine is none of our business.
        state="${XDG_STATE_HOME:-$HOME/.local/state}/shardwright/redis"
        if [ ! -e "$state/cluster.json" ]; then
            say "nothing to remove: there is no demo cluster in $state"
            exit 0
        fi
        [ -x target/release/shardwright ] || die "there is a cluster in $state; to stop it, run: make build demo-down"
        exec target/release/shardwright down --purge --yes local:redis
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
cargo build --release --locked --quiet -p shardwright --bin shardwright
cargo build --release --locked --quiet -p shardwright-testkit --bin demo
exec target/release/demo

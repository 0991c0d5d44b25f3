#!/usr/bin/env bash
# The cases on a real Kubernetes: the one KUBECONFIG names, else the one `make kubernetes` started.
#
#   e2e.sh [NAME...]        the cases whose names contain one of these words; all of them by default
#   e2e.sh --bench [WORD...]
#                           measure instead, beside the way by hand
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/reach.sh
. "$ROOT/scripts/reach.sh"
cd "$ROOT"

reach_kubernetes || die "no Kubernetes reachable: set KUBECONFIG or run: make kubernetes"
if [ "${1:-}" = --bench ]; then
    shift
    exec cargo run --release --locked --quiet -p shardwright-e2e --bin bench-kubernetes -- "$@"
fi
exec cargo test --locked --quiet -p shardwright-e2e --test kubernetes -- "$@"

#!/usr/bin/env bash
# Every test this machine can run: unit, property, simulation, real servers, documentation.
# Ends with what was skipped and why. Further arguments go to `cargo test`.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=scripts/reach.sh
. "$ROOT/scripts/reach.sh"
cd "$ROOT"

scripts/tools.sh
scripts/engines.sh
# Without a Kubernetes the cases that need one say so, and are listed at the end.
reach_kubernetes || unset KUBECONFIG

log="$(mktemp)"
skipped="$(mktemp)"
trap 'rm -f "$log" "$skipped"' EXIT
# Tests that cannot run say so in this file; see crates/testkit/src/skip.rs.
export SHARDWRIGHT_SKIPPED="$skipped"
# Most tests wait for servers most of the time: two for each processor side by side.
export RUST_TEST_THREADS="${RUST_TEST_THREADS:-$((2 * $(nproc)))}"

# The examples in the documentation first: they are few, and the long run comes last. A failure hides no other.
failed=0
cargo test --workspace --locked --no-fail-fast --doc "$@" 2>&1 | tee "$log" || failed=1
cargo test --workspace --locked --no-fail-fast --lib --bins --tests "$@" 2>&1 | tee -a "$log" || failed=1

awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
    END { printf "\n%d tests passed, %d failed, %d ignored\n", passed, failed, ignored }' "$log"
if [ -s .engines/skipped ] || [ -s "$skipped" ]; then
    echo "skipped, and why:"
    sed 's/^/  engine /' .engines/skipped
    sort "$skipped" | sed 's/^skipped: /  /'
else
    echo "skipped: nothing; every engine and a Kubernetes are here"
fi
if [ "$failed" -ne 0 ]; then
    # By name once more: what is above is long.
    grep -E '^test .* FAILED|^failed: |^Error: |panicked at' "$log" | cut -c1-400 | sort -u || true
    die "tests failed: see above"
fi
# A run that tested nothing is no success.
grep -q '^test result: ok\. [1-9]' "$log"

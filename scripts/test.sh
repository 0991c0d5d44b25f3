#!/usr/bin/env bash
# Every test this machine can run: unit, property, simulation, real servers, documentation, the definition for Kubernetes.
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

# The examples in the documentation first: they are few, and the long run comes last. A failure hides no other.
failed=0
cargo test --workspace --locked --no-fail-fast --doc "$@" 2>&1 | tee "$log" || failed=1
cargo test --workspace --locked --no-fail-fast --lib --bins --tests "$@" 2>&1 | tee -a "$log" || failed=1

# The definition as the code of an API server sees it: two minutes of processor time where nothing is built yet.
skip_definition() { echo "skipped: the definition, seen by the code of an API server: $1" >>"$skipped"; }
if ! command -v go >/dev/null; then
    skip_definition "there is no Go"
elif ! (cd tests/definition && go mod download) >/dev/null 2>&1; then
    skip_definition "its Go modules cannot be had here"
else
    # What is read is beside this module, so that Go does not see it change.
    (cd tests/definition && go test -count=1 ./...) 2>&1 | tee -a "$log" || failed=1
fi

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
    grep -E '^test .* FAILED|^failed: |^ *--- FAIL|^Error: |panicked at' "$log" | cut -c1-400 | sort -u || true
    die "tests failed: see above"
fi
# A run that tested nothing is no success.
grep -q '^test result: ok\. [1-9]' "$log"

#!/usr/bin/env bash
# Every test this machine can run: unit, property, simulation, real servers, documentation.
# Ends with what was skipped and why. Further arguments go to `cargo test`.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

scripts/tools.sh
scripts/engines.sh

# Servers of a test listen on the bus port as well, port + 10000, which must stay below
# the ephemeral ports; a test takes its ports from testkit, which probes them.
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

# The examples in the documentation first: they are few, and the long run comes last.
cargo test --workspace --locked --doc "$@" 2>&1 | tee "$log"
cargo test --workspace --locked --lib --bins --tests "$@" 2>&1 | tee -a "$log"

awk '/^test result:/ { passed += $4; failed += $6; ignored += $8 }
    END { printf "\n%d tests passed, %d failed, %d ignored\n", passed, failed, ignored }' "$log"
if [ -s .engines/skipped ]; then
    echo "skipped, because the engine is not on this machine:"
    sed 's/^/  /' .engines/skipped
else
    echo "skipped: nothing, all engines are here"
fi
# A run that tested nothing is no success.
grep -q '^test result: ok\. [1-9]' "$log"

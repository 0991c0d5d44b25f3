#!/usr/bin/env bash
# Formatting, lints, documentation, shell scripts, dependencies. Runs all of them and
# fails at the end, so that one run shows everything there is to mend.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$ROOT"

scripts/tools.sh
failed=()
skipped=()

step() {
    local name="$1"
    shift
    say "lint: $name"
    "$@" || failed+=("$name")
}

step "cargo fmt" cargo fmt --all --check
step "cargo clippy" cargo clippy --workspace --all-targets --locked --quiet -- -D warnings
step "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items --locked --quiet

if have shellcheck; then
    step shellcheck shellcheck -x scripts/*.sh scripts/kubernetes/{archive,build,down,images,load,up} scripts/kubernetes/1.37/{archive,build} .ci/run
else
    skipped+=("shellcheck: not installed (apt-get install shellcheck)")
fi
if cargo deny --version >/dev/null 2>&1; then
    step "cargo deny" cargo deny --all-features check bans licenses sources
    # The list of known vulnerabilities lies at github.com, which not every machine reaches.
    if timeout 20 cargo deny fetch db >/dev/null 2>&1; then
        step "cargo deny advisories" cargo deny --all-features check advisories
    else
        skipped+=("cargo deny advisories: the advisory database was not reached")
    fi
else
    skipped+=("cargo deny: not installed (cargo install cargo-deny)")
fi

for reason in "${skipped[@]}"; do say "skipped: $reason"; done
if [ "${#failed[@]}" -gt 0 ]; then
    die "lint: $(printf '%s; ' "${failed[@]}")see above"
fi
say "lint: clean"

#!/usr/bin/env bash
# What the build needs besides Rust: a linker, and a C compiler for the TLS library.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if ! have cargo && [ -x "$HOME/.cargo/bin/cargo" ]; then
    die "cargo is installed but not on PATH: run  . ~/.cargo/env"
fi
have cargo || die "Rust is missing: see https://rustup.rs (1.90 or newer)"
need_tool cc gcc libc6-dev || die "a C compiler is needed for linking: install gcc"

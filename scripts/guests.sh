# What the scripts that build components in other languages share. Sourced, in the checkout's folder.

readonly CACHE=${SANDHOG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandhog}
readonly COMPONENTS=${SANDHOG_PLUGINS:-$CACHE/guest-target/wasm32-wasip2/release}

say() { echo "$(basename "$0"): $*" >&2; }

# build_if_changed NAME INPUT... -- COMMAND...
#
# Runs COMMAND with the file NAME.wasm as its last argument, unless that was made from these very inputs. Neither toolchain
# makes the same bytes twice, and another digest is another revision, which would be compiled anew wherever it is used.
build_if_changed() {
    local name=$1 inputs=()
    shift
    while [ "$1" != -- ]; do
        inputs+=("$1")
        shift
    done
    shift
    local component=$COMPONENTS/$name.wasm now
    now=$(find "${inputs[@]}" -type f -not -path '*/node_modules/*' -not -path '*/__pycache__/*' -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
    mkdir -p "$COMPONENTS"
    if [ -f "$component" ] && [ "$(cat "$component.made-from" 2>/dev/null)" = "$now" ]; then
        return
    fi
    say "building $name.wasm"
    rm -f "$component.made-from"
    "$@" "$component.new" >&2
    mv "$component.new" "$component"
    echo "$now" >"$component.made-from"
}

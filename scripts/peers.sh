#!/usr/bin/env bash
# Makes the job systems ready that Sandhog is measured beside: the programs of bench/peers, and what they need.
#
# The packages of each lock file are installed once, into $SANDHOG_CACHE/peers; the checkout gets a link to those of npm.
# What is in Rust is built into $SANDHOG_CACHE/peers-target.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CACHE=${SANDHOG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandhog}
readonly PEERS=$CACHE/peers

say() { echo "peers: $*" >&2; }

# once_for NAME FILE... -- COMMAND...
#
# Runs COMMAND unless the folder NAME was made from these very files, and the same interpreters.
once_for() {
    local name=$1 files=()
    shift
    while [ "$1" != -- ]; do
        files+=("$1")
        shift
    done
    shift
    local made_from=$PEERS/$name/.made-from now
    now=$({ node --version && python3 --version && cat "${files[@]}"; } | sha256sum)
    if [ ! -f "$made_from" ] || [ "$(<"$made_from")" != "$now" ]; then
        say "installing the packages of ${files[*]}"
        rm -rf "${PEERS:?}/$name"
        mkdir -p "$PEERS/$name"
        "$@" >&2
        echo "$now" >"$made_from"
    fi
}

install_node() {
    cp bench/peers/node/package{,-lock}.json "$PEERS/node/"
    # The versions are those of the lock file. It knows the optional packages of Linux alone, which `npm ci` would refuse.
    # None of them needs a script of its own to be run.
    npm install --prefix "$PEERS/node" --no-save --ignore-scripts --no-audit --no-fund --loglevel=error
}

# install_python NAME
#
# An environment for each: they want different versions of the same package.
install_python() {
    python3 -m venv "$PEERS/$1"
    "$PEERS/$1/bin/pip" install --quiet --disable-pip-version-check --no-deps --requirement "bench/peers/python/$1.txt"
}

mkdir -p "$PEERS"
exec 9>"$PEERS/.lock"
flock 9
once_for node bench/peers/node/package{,-lock}.json -- install_node
ln -sfn "$PEERS/node/node_modules" bench/peers/node/node_modules
for peer in arq taskiq; do
    once_for "$peer" "bench/peers/python/$peer.txt" -- install_python "$peer"
done
exec 9>&-
CARGO_TARGET_DIR=$CACHE/peers-target cargo build --release --locked --manifest-path bench/peers/rust/Cargo.toml

#!/usr/bin/env bash
# Makes the JavaScript toolchain ready, and runs something with it.
#
#   scripts/js.sh COMMAND...          prepare, and run COMMAND with the packages' programs on PATH
#   scripts/js.sh build PROJECT...    prepare, and build the component of each of these folders that has changed
#
# The packages of package-lock.json are installed once into $SANDHOG_CACHE/js; the checkout gets a link to them, unless it
# has a node_modules of its own. Components go to $SANDHOG_PLUGINS.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/guests.sh
source scripts/guests.sh

readonly HOME_OF_PACKAGES=$CACHE/js
readonly MANIFESTS=(package.json package-lock.json sdk/js/package.json plugins/*/package.json)

install() {
    mkdir -p "$HOME_OF_PACKAGES"
    local made_from=$HOME_OF_PACKAGES/.made-from now
    now=$({ node --version && cat "${MANIFESTS[@]}"; } | sha256sum)
    exec 9>"$HOME_OF_PACKAGES/.lock"
    flock 9
    # npm links the workspace's own packages by their place, so they are found from there too.
    ln -sfn "$PWD/sdk" "$HOME_OF_PACKAGES/sdk"
    ln -sfn "$PWD/plugins" "$HOME_OF_PACKAGES/plugins"
    if [ ! -f "$made_from" ] || [ "$(<"$made_from")" != "$now" ]; then
        say "installing the packages of package-lock.json"
        rm -f "$made_from"
        cp package.json package-lock.json "$HOME_OF_PACKAGES/"
        # None of them needs a script of its own to be run.
        npm ci --prefix "$HOME_OF_PACKAGES" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
        echo "$now" >"$made_from"
    fi
    exec 9>&-
    [ -d node_modules ] && [ ! -L node_modules ] || ln -sfn "$HOME_OF_PACKAGES/node_modules" node_modules
}

build() {
    local project name
    for project in "$@"; do
        name=$(basename "$project")
        build_if_changed "$name" "$project" sdk/js/src sdk/js/wit wit package-lock.json -- \
            node sdk/js/bin/sandhog-js.js build "$project" --out
    done
}

install
if [ "${1:-}" = build ]; then
    build "${@:2}"
else
    PATH=$PWD/node_modules/.bin:$PATH exec "$@"
fi

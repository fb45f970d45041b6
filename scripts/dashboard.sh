#!/usr/bin/env bash
# Builds and tests the dashboard.
#
#   scripts/dashboard.sh build           build it into $SANDHOG_DASHBOARD, if it has changed
#   scripts/dashboard.sh build-if-node   the same, where Node.js is; without it, a daemon is built that has none
#   scripts/dashboard.sh test            check its types, and run its tests
#   scripts/dashboard.sh browser         test it in a real browser, in front of the daemon that was built last
#   scripts/dashboard.sh screenshots DIR take a picture of each view
#
# The packages of dashboard/package-lock.json are installed once into $SANDHOG_CACHE/dashboard; the checkout gets a link to them,
# unless it has a node_modules of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly HOME_OF_PACKAGES=${SANDHOG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandhog}/dashboard
readonly SITE=${SANDHOG_DASHBOARD:-$HOME_OF_PACKAGES/site}

say() { echo "dashboard: $*" >&2; }

install() {
    mkdir -p "$HOME_OF_PACKAGES"
    local made_from=$HOME_OF_PACKAGES/.made-from now
    now=$({ node --version && cat dashboard/package.json dashboard/package-lock.json; } | sha256sum)
    exec 9>"$HOME_OF_PACKAGES/.lock"
    flock 9
    if [ ! -f "$made_from" ] || [ "$(<"$made_from")" != "$now" ]; then
        say "installing the packages of dashboard/package-lock.json"
        rm -f "$made_from"
        cp dashboard/package.json dashboard/package-lock.json "$HOME_OF_PACKAGES/"
        # None of them needs a script of its own to be run.
        npm ci --prefix "$HOME_OF_PACKAGES" --ignore-scripts --no-audit --no-fund --loglevel=error >&2
        echo "$now" >"$made_from"
    fi
    exec 9>&-
    [ -d dashboard/node_modules ] && [ ! -L dashboard/node_modules ] ||
        ln -sfn "$HOME_OF_PACKAGES/node_modules" dashboard/node_modules
}

build() {
    local now
    now=$(find dashboard -type f -not -path '*/node_modules/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum)
    if [ -f "$SITE/index.html" ] && [ "$(cat "$SITE.made-from" 2>/dev/null)" = "$now" ]; then
        return
    fi
    install
    say "building it"
    rm -f "$SITE.made-from"
    (cd dashboard && npm run --silent check && npm run --silent build -- --out "$SITE") >&2
    echo "$now" >"$SITE.made-from"
}

case ${1:-} in
build) build ;;
build-if-node)
    if command -v node >/dev/null && command -v npm >/dev/null; then
        build
    else
        say "Node.js is missing, so the daemon is built without its dashboard"
    fi
    ;;
test)
    install
    (cd dashboard && npm run --silent check && npm run --silent test) >&2
    ;;
browser)
    install
    scripts/setup.sh browser
    (cd dashboard && npm run --silent browser) >&2
    ;;
screenshots)
    install
    scripts/setup.sh browser
    (cd dashboard && npm run --silent screenshots -- "$(realpath -m "${2:?the folder for the pictures}")") >&2
    ;;
*)
    say "usage: scripts/dashboard.sh build | build-if-node | test | browser | screenshots DIR"
    exit 2
    ;;
esac

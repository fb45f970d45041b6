#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks. Takes no time when there is nothing to do.
#
#   scripts/setup.sh              what the daemon, the Rust plugins and the demo need
#   scripts/setup.sh languages    and what handlers in other languages need
#   scripts/setup.sh dashboard    what building the dashboard needs
#   scripts/setup.sh browser      and the browser in which the dashboard is tested
set -euo pipefail

say() { echo "setup: $*" >&2; }

if ! command -v cargo >/dev/null; then
    say "cargo is missing: install Rust from https://rustup.rs, then run this again"
    exit 1
fi

packages=()
command -v cc >/dev/null || packages+=(build-essential)
command -v redis-server >/dev/null || packages+=(redis-server)
[ -n "$(compgen -G '/usr/lib/*/faketime/libfaketime.so.1')" ] || packages+=(libfaketime)
case ${1:-} in languages | dashboard | browser)
    command -v node >/dev/null || packages+=(nodejs)
    command -v npm >/dev/null || packages+=(npm)
    ;;
esac
if [ "${1:-}" = languages ]; then
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
    command -v clang >/dev/null || packages+=(clang)
    [ -d /usr/include/wasm32-wasi ] || packages+=(wasi-libc)
    [ -f "$(clang --print-resource-dir 2>/dev/null)/lib/wasi/libclang_rt.builtins-wasm32.a" ] ||
        packages+=(libclang-rt-dev-wasm32)
fi
if [ "${1:-}" = browser ] && [ -z "${CHROMIUM:-}" ]; then
    command -v chromium >/dev/null || packages+=(chromium)
fi
[ ${#packages[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
    say "please install by your package manager: ${packages[*]}"
    exit 1
fi
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
say "installing ${packages[*]}"
as_root apt-get update -qq
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null

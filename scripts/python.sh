#!/usr/bin/env bash
# Makes the Python toolchain ready, and runs something with it.
#
#   scripts/python.sh COMMAND...         prepare, and run COMMAND with its programs on PATH and the SDK importable
#   scripts/python.sh test FOLDER...     prepare, and run the tests of each of these folders
#   scripts/python.sh types FOLDER...    prepare, and check the types of what is in them
#   scripts/python.sh build PROJECT...   prepare, and build the component of each of these folders that has changed
#
# The packages of sdk/python/requirements.txt are installed once into $SANDHOG_CACHE/python, a virtual environment.
# Components go to $SANDHOG_PLUGINS.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/guests.sh
source scripts/guests.sh

readonly ENVIRONMENT=$CACHE/python
readonly REQUIREMENTS=sdk/python/requirements.txt

install() {
    local made_from=$ENVIRONMENT/.made-from now
    now=$({ python3 --version && cat "$REQUIREMENTS"; } | sha256sum)
    mkdir -p "$CACHE"
    exec 9>"$CACHE/.python-lock"
    flock 9
    if [ ! -f "$made_from" ] || [ "$(<"$made_from")" != "$now" ]; then
        say "installing the packages of $REQUIREMENTS"
        rm -rf "$ENVIRONMENT"
        python3 -m venv "$ENVIRONMENT" >&2
        "$ENVIRONMENT/bin/pip" install --quiet --disable-pip-version-check --requirement "$REQUIREMENTS" >&2
        echo "$now" >"$made_from"
    fi
    exec 9>&-
}

build() {
    local project
    for project in "$@"; do
        build_if_changed "$(basename "$project")" "$project" sdk/python/sandhog_sdk wit "$REQUIREMENTS" -- \
            python -m sandhog_sdk build "$project" --out
    done
}

run_tests() {
    local folder
    for folder in "$@"; do
        say "$folder"
        PYTHONPATH=$PYTHONPATH:$PWD/$folder python -m unittest discover --quiet --start-directory "$folder/tests" \
            --top-level-directory "$folder/tests"
    done
}

# The contract's own types are made for the check as the build makes them for the component.
check_types() {
    local bindings
    bindings=$(mktemp -d)
    # shellcheck disable=SC2064 # the folder of this very call
    trap "rm -rf '$bindings'" EXIT
    componentize-py --quiet --wit-path wit --world handler bindings "$bindings"
    MYPYPATH=$bindings mypy --strict --no-error-summary --follow-imports silent --exclude '/guest_http\.py$' "$@"
    # What sends requests has other bindings.
    cp -r sdk/python/sandhog_sdk/wit_http "$bindings/wit"
    cp wit/job.wit "$bindings/wit/deps/"
    componentize-py --quiet --wit-path "$bindings/wit" --world python-http bindings "$bindings/http"
    MYPYPATH=$bindings/http mypy --strict --no-error-summary --follow-imports silent sdk/python/sandhog_sdk/guest_http.py
}

install
export PYTHONPATH=$PWD/sdk/python PYTHONDONTWRITEBYTECODE=1
export PATH=$ENVIRONMENT/bin:$PATH
case ${1:-} in
build) build "${@:2}" ;;
test) run_tests "${@:2}" ;;
types) check_types "${@:2}" ;;
*) exec "$@" ;;
esac

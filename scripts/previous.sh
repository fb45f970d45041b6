#!/usr/bin/env bash
# Builds the program of the version before this one out of the repository's history, for the tests in which both meet, and
# prints its path. Two components as well, beside the program: those of this version may be of a contract that the version before
# doesn't know, and those of that one run on both. Takes no time when all is there.
#
# Ends with 3 where the commit isn't in the clone.
#
# The version is the commit in scripts/previous.commit; these files are kept in $SANDHOG_CACHE/previous, and nothing else of the
# build.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CACHE=${SANDHOG_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sandhog}
readonly TARGET=${CARGO_TARGET_DIR:-$CACHE/target}
COMMIT=$(<scripts/previous.commit)
readonly COMMIT
readonly NO_HISTORY=3
readonly COMPONENTS=(hog witness)
readonly FOLDER=$CACHE/previous/$COMMIT

say() { echo "previous: $*" >&2; }

# borrow_dependencies FOLDER
#
# Gives a build what this version's has built of the crates of others, which are mostly the same. What cargo writes in place
# is copied; what the compiler has made, and is large, is linked. Our own crates stay out: they go by the same names.
borrow_dependencies() {
    local part files
    for part in deps build .fingerprint; do
        [ -d "$TARGET/release/$part" ] || return 0
        mkdir -p "$1/$part"
    done
    for part in build .fingerprint; do
        cp -a "$TARGET/release/$part" "$1/"
    done
    rm -rf "$1"/{build,.fingerprint}/sandhog*
    # What a compiler that was interrupted left behind lies in folders of its own.
    mapfile -d '' files < <(find "$TARGET/release/deps" -maxdepth 1 -type f ! -name '*sandhog*' \
        \( -name '*.rlib' -o -name '*.rmeta' -o -name '*.so' \) -print0)
    [ ${#files[@]} -gt 0 ] || return 0
    cp -l "${files[@]}" "$1/deps/" 2>/dev/null || cp -a --remove-destination "${files[@]}" "$1/deps/"
    find "$TARGET/release/deps" -maxdepth 1 -name '*.d' ! -name '*sandhog*' -exec cp -a -t "$1/deps" {} +
}

mkdir -p "$CACHE/previous"
exec 9>"$CACHE/previous/.lock"
flock 9
# The components are put there last.
if [ ! -e "$FOLDER/${COMPONENTS[-1]}.wasm" ]; then
    if ! git cat-file -e "$COMMIT^{commit}" 2>/dev/null; then
        say "this clone has no commit $COMMIT, which is the version before: what both do together isn't tested." \
            "\`git fetch --unshallow\` brings it"
        exit "$NO_HISTORY"
    fi
    say "building the version before, $COMMIT"
    work=$(mktemp -d "$CACHE/previous/build.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    mkdir -p "$work/source" "$work/target/release"
    git archive "$COMMIT" | tar -x -C "$work/source"
    borrow_dependencies "$work/target/release"
    (cd "$work/source" && CARGO_TARGET_DIR=$work/target cargo build --release --locked --workspace --bin sandhog) >&2
    scripts/wasm-target.sh env CARGO_TARGET_DIR="$work/guests" cargo build --release --locked --target wasm32-wasip2 \
        --manifest-path "$work/source/plugins/Cargo.toml" "${COMPONENTS[@]/#/--package=}" >&2
    mkdir -p "$FOLDER"
    strip -o "$FOLDER/sandhog.new" "$work/target/release/sandhog"
    mv "$FOLDER/sandhog.new" "$FOLDER/sandhog"
    for component in "${COMPONENTS[@]}"; do
        mv "$work/guests/wasm32-wasip2/release/$component.wasm" "$FOLDER/"
    done
    # That of another commit isn't asked for any more.
    find "$CACHE/previous" -mindepth 1 -maxdepth 1 -type d ! -path "$FOLDER" ! -path "$work" -exec rm -rf {} +
fi
echo "$FOLDER/sandhog"

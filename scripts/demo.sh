#!/usr/bin/env bash
# The demo: one tenant's pictures become thumbnails while another tenant's hogs spin, allocate and recurse.
#
#   BROKER    embedded (default) or redis: a server of the demo's own, with append-only persistence
#   PICTURES  a folder of PNG and JPEG files
#   KEEP      1 to keep the daemon and its dashboard up at the end, until Ctrl-C
#
# Everything it writes goes to demo/out, which it makes anew.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly BROKER=${BROKER:-embedded}
readonly PICTURES=$(realpath "${PICTURES:-demo/pictures}")
readonly KEEP=${KEEP:-}
readonly OUT=$PWD/demo/out
readonly SANDHOG=${CARGO_TARGET_DIR:?run me by \`make demo\`}/release/sandhog
readonly COMPONENTS=${SANDHOG_PLUGINS:?run me by \`make demo\`}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
die() {
    echo "demo: $*" >&2
    exit 1
}
sandhog() { "$SANDHOG" --config "$OUT/sandhog.toml" "$@"; }

daemon=
redis=
stop() {
    # The daemon first: it has something to say to Redis before it ends.
    [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
    [ -z "$redis" ] || kill "$redis" 2>/dev/null || true
}
trap stop EXIT

write_config() {
    mkdir -p "$OUT/thumbnails" "$OUT/plugins.d"
    {
        case $BROKER in
        embedded) printf '[broker]\ntype = "embedded"\npath = "jobs.db"\n' ;;
        redis) printf '[broker]\ntype = "redis"\nurl = "redis://127.0.0.1:%s"\n' "$REDIS_PORT" ;;
        esac
        printf '\n[http]\nlisten = "127.0.0.1:0"\n'
        cat demo/sandhog.toml
    } >"$OUT/sandhog.toml"
    for plugin in thumbnail hog; do
        sed -e "s|@COMPONENTS@|$COMPONENTS|; s|@PICTURES@|$PICTURES|; s|@OUT@|$OUT|" \
            "demo/$plugin.toml" >"$OUT/plugins.d/$plugin.toml"
    done
}


# Redis can't ask the system for a free port, so this tries until one is free. Its log says when it is ready.
start_redis() {
    local line log
    for _ in {1..20}; do
        REDIS_PORT=$((20000 + RANDOM % 20000))
        exec {log}< <(exec redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --dir "$OUT" --appendonly yes \
            --save '' --maxmemory-policy noeviction)
        redis=$!
        while read -r line <&"$log"; do
            echo "$line" >>"$OUT/redis.log"
            [[ $line == *'Ready to accept connections'* ]] || continue
            cat <&"$log" >>"$OUT/redis.log" &
            return
        done
    done
    die "Redis found no free port; see $OUT/redis.log"
}

# One line of JSON for each picture.
thumbnail_payloads() {
    local picture name
    for picture in "$PICTURES"/*.{png,jpg,jpeg,PNG,JPG,JPEG}; do
        [ -f "$picture" ] || continue
        name=$(basename "$picture")
        printf '{"path": "/pictures/%s", "width": 160, "height": 160, "format": "jpeg", "output": "/thumbnails/%s.jpg"}\n' \
            "$name" "${name%.*}"
    done
}

write_jobs() {
    thumbnail_payloads >"$OUT/pictures.jsonl"
    [ -s "$OUT/pictures.jsonl" ] || die "there is no PNG or JPEG file in $PICTURES"
}

start_daemon() {
    "$SANDHOG" --config "$OUT/sandhog.toml" run 2>"$OUT/daemon.log" &
    daemon=$!
}

# The daemon has taken a free port, which its log tells.
dashboard() {
    local line
    while read -r line; do
        [[ $line =~ address=[^0-9]*(127\.0\.0\.1:[0-9]+) ]] || continue
        echo "http://${BASH_REMATCH[1]}/"
        return
    done < <(tail --lines=+1 --follow --retry --pid="$daemon" "$OUT/daemon.log" 2>/dev/null)
    die "the daemon serves no dashboard: see $OUT/daemon.log"
}

rm -rf "$OUT"
mkdir -p "$OUT"
[ "$BROKER" != redis ] || start_redis
write_config
write_jobs
start_daemon

say "The dashboard: $(dashboard)"

say "Tenant globex enqueues its hogs; tenant acme its pictures"
for hog in spin spin spin spin allocate recurse panic log; do
    sandhog enqueue --quiet --tenant globex "hog.$hog" '{}' >/dev/null
done
sandhog enqueue --quiet --tenant globex hog.output '{"bytes": 50000000}' >/dev/null
sandhog enqueue --tenant acme image.thumbnail --bulk "$OUT/pictures.jsonl" --wait ||
    die "not every picture became a thumbnail: see $OUT/daemon.log"

say "What became of acme's pictures, while the hogs went on"
sandhog jobs --tenant acme

say "How each of globex's hogs ended"
sandhog jobs --tenant globex --wait

if [ "$KEEP" = 1 ]; then
    say "The dashboard stays up at $(dashboard) until Ctrl-C"
    trap 'trap - INT' INT
    wait "$daemon" || true
fi

say "Stopping the daemon in good order"
kill -TERM "$daemon"
wait "$daemon" || die "the daemon did not stop in good order: see $OUT/daemon.log"
daemon=

pictures=$(wc -l <"$OUT/pictures.jsonl")
thumbnails=$(find "$OUT/thumbnails" -name '*.jpg' -size +0 | wc -l)
[ "$thumbnails" -eq "$pictures" ] || die "$pictures pictures, but $thumbnails thumbnails"
printf '\n%s thumbnails of %s lie in %s\n' "$thumbnails" "$PICTURES" "$OUT/thumbnails"

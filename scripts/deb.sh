#!/usr/bin/env bash
# Packs the command for Debian and its kin: the unit, the daemon's user, a configuration to start with, the docs.
#
#   scripts/deb.sh COMMAND FOLDER      the command to pack, and where the package goes
#
# DEBFULLNAME and DEBEMAIL say who answers for it, as they do for Debian's own tools.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly COMMAND=$(realpath "${1:?which command?}") OUT=$(realpath "${2:?into which folder?}")
die() {
    echo "deb: $*" >&2
    exit 1
}
command -v dpkg-deb >/dev/null || die "dpkg-deb is missing: this takes a Debian-like machine"

VERSION=$("$COMMAND" --version)
VERSION=${VERSION##* }
ARCHITECTURE=$(dpkg --print-architecture)
# The same commit makes the same package.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
# What was made under another umask would be unreadable to others.
umask 022
mkdir "$root"

put() { install -D -m "$1" "$2" "$root/$3"; }
fill() {
    sed -e "s|@VERSION@|$VERSION|; s|@ARCHITECTURE@|$ARCHITECTURE|; s|@DEPENDS@|${DEPENDS:-}|; s|@SIZE@|${SIZE:-}|" \
        -e "s|@NAME@|${DEBFULLNAME:-The authors of Sandhog}|; s|@EMAIL@|${DEBEMAIL:-sandhog@localhost}|" \
        -e "s|@DATE@|$(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")|" "packaging/debian/$1"
}

put 0755 "$COMMAND" usr/bin/sandhog
put 0644 packaging/systemd/sandhog.service usr/lib/systemd/system/sandhog.service
put 0644 packaging/systemd/sysusers.conf usr/lib/sysusers.d/sandhog.conf
put 0644 packaging/systemd/tmpfiles.conf usr/lib/tmpfiles.d/sandhog.conf
put 0640 packaging/sandhog.toml etc/sandhog/sandhog.toml
put 0644 packaging/debian/copyright usr/share/doc/sandhog/copyright
for page in README.md CHANGELOG.md docs/*.md packaging/grafana/sandhog.json packaging/prometheus/alerts.yml; do
    put 0644 "$page" "usr/share/doc/sandhog/${page#packaging/}"
done
fill changelog | gzip -9n >"$root/usr/share/doc/sandhog/changelog.gz"
if "$COMMAND" completions --help >/dev/null 2>&1; then
    mkdir -p "$root"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
    "$COMMAND" completions bash >"$root/usr/share/bash-completion/completions/sandhog"
    "$COMMAND" completions zsh >"$root/usr/share/zsh/vendor-completions/_sandhog"
    "$COMMAND" completions fish >"$root/usr/share/fish/vendor_completions.d/sandhog.fish"
fi
if "$COMMAND" man --help >/dev/null 2>&1; then
    mkdir -p "$root/usr/share/man/man1"
    "$COMMAND" man "$root/usr/share/man/man1" >/dev/null
    gzip -9n "$root"/usr/share/man/man1/*.1
fi

# The libraries that it is linked with, and in which versions, as Debian's own packages have them told.
if command -v dpkg-shlibdeps >/dev/null; then
    mkdir "$work/debian"
    printf 'Source: sandhog\n\nPackage: sandhog\nArchitecture: any\n' >"$work/debian/control"
    DEPENDS=$(cd "$work" && dpkg-shlibdeps -O "$root/usr/bin/sandhog" 2>/dev/null | sed -n 's/^shlibs:Depends=//p')
fi
[ -n "${DEPENDS:-}" ] || die "dpkg-shlibdeps is missing, which tells the libraries: install dpkg-dev"
SIZE=$(du -sk --apparent-size "$root" | cut -f1)
mkdir "$root/DEBIAN"
fill control >"$root/DEBIAN/control"
echo /etc/sandhog/sandhog.toml >"$root/DEBIAN/conffiles"
for script in postinst prerm postrm; do
    install -m 0755 "packaging/debian/$script" "$root/DEBIAN/$script"
done
(cd "$root" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum >DEBIAN/md5sums)

package=$OUT/sandhog_${VERSION}_$ARCHITECTURE.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "$package"

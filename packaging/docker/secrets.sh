#!/usr/bin/env bash
# Makes what compose.yaml keeps in `secrets/`, where it is missing: passwords, a token, and a certificate to try it with.
#
# Containers run as other users than yours, so each file can be read by all; that is why nobody else may enter the folder.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p secrets plugins.d
chmod 0700 secrets
umask 022

digest() { printf %s "$1" | sha256sum | cut -d' ' -f1; }

if [ ! -e secrets/users.acl ]; then
    password=$(openssl rand -hex 32)
    printf 'redis://sandhog:%s@redis:6379\n' "$password" >secrets/redis-url
    # All that is Sandhog's, and what tells whether the server is fit for it.
    printf 'user default off\nuser sandhog on #%s ~sandhog:* &sandhog:* +@all -@dangerous -@admin +info +config|get\n' \
        "$(digest "$password")" >secrets/users.acl
fi
if [ ! -e secrets/tokens.toml ]; then
    token=shg_$(openssl rand -base64 32 | tr '+/' '-_' | tr -d '=')
    printf '[[tokens]]\nname = "first"\nhash = "%s"\nrole = "admin"\n' "$(digest "$token")" >secrets/tokens.toml
    echo "the token, which isn't kept anywhere: $token"
fi
if [ ! -e secrets/tls.key ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,DNS:sandhog.localhost,IP:127.0.0.1 \
        -keyout secrets/tls.key -out secrets/tls.crt 2>/dev/null
    chmod 0644 secrets/tls.key
fi

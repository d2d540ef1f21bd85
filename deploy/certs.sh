#!/usr/bin/env bash
# Certificates and node keys of a federation with TLS:
#   deploy/certs.sh make [DIR] [SERVER-NAME ...]   a CA, a server certificate, and a key pair for each of five sites
#   deploy/certs.sh renew [DIR] [SERVER-NAME ...]  a new server certificate by the same CA; sites change nothing
#   deploy/certs.sh site DIR NAME                  a key pair for one more site (or a new one for NAME)
# DIR is deploy/certs by default. Names are DNS names or IP addresses by which sites reach the server.
# Every private key has mode 0600. DIR/ca.key signs new certificates only: keep it offline, no service needs it.
set -euo pipefail

DAYS_CA=3650
DAYS_SERVER=365
HERE=$(cd "$(dirname "$0")" && pwd)

say() { printf '%s\n' "$*"; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 2
}
for tool in openssl ssh-keygen; do
  command -v "$tool" >/dev/null || fail "$tool is not installed"
done
umask 077

private_key() { openssl ecparam -name secp384r1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"; }

make_ca() {
  private_key "$DIR/ca.key"
  openssl req -x509 -new -sha384 -key "$DIR/ca.key" -days "$DAYS_CA" -subj "/CN=fedreenact CA" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$DIR/ca.crt"
  chmod 0644 "$DIR/ca.crt"
}

# The names by which services of the compose file reach the server, and the machine itself.
make_server() {
  local name san="DNS:superlink,DNS:superlink-control,DNS:localhost,IP:127.0.0.1"
  for name in "$@"; do
    if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then san+=",IP:$name"; else san+=",DNS:$name"; fi
  done
  private_key "$DIR/server.key.new"
  openssl req -new -sha384 -key "$DIR/server.key.new" -subj "/CN=fedreenact superlink" |
    openssl x509 -req -sha384 -CA "$DIR/ca.crt" -CAkey "$DIR/ca.key" -days "$DAYS_SERVER" -out "$DIR/server.pem.new" \
      -extfile <(printf 'subjectAltName=%s\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n' "$san") 2>/dev/null
  chmod 0644 "$DIR/server.pem.new"
  mv "$DIR/server.key.new" "$DIR/server.key"
  mv "$DIR/server.pem.new" "$DIR/server.pem"
  say "server certificate for $san, valid $DAYS_SERVER days"
}

make_site() {
  [[ $1 =~ ^[a-z0-9][a-z0-9-]{0,31}$ ]] || fail "site name: got '$1', wanted lower-case letters, digits and hyphens"
  rm -f "$DIR/$1.key" "$DIR/$1.key.pub"
  ssh-keygen -q -t ecdsa -b 384 -N "" -C "$1" -f "$DIR/$1.key"
  mv "$DIR/$1.key.pub" "$DIR/$1.pub"
  chmod 0644 "$DIR/$1.pub"
}

# Containers run as uid 10001; whoever may not give files away is told how.
give_to_containers() {
  if [ "$(id -u)" = 0 ]; then
    chown 10001:10001 "$DIR"/*.key
    chown 0:0 "$DIR/ca.key"
    return 0
  fi
  say "now run: sudo chown 10001 $DIR/server.key $DIR/site-*.key   (the user of the containers)"
}

command=${1:-}
[ $# -gt 0 ] && shift
DIR=${1:-$HERE/certs}
[ $# -gt 0 ] && shift
case $command in
  make)
    [ -e "$DIR/ca.key" ] && fail "$DIR already has a CA; use renew, or move it away to start over"
    mkdir -p "$DIR"
    make_ca
    make_server "$@"
    for number in 1 2 3 4 5; do make_site "site-$number"; done
    ;;
  renew)
    [ -e "$DIR/ca.key" ] || fail "$DIR has no CA; use make"
    make_server "$@"
    ;;
  site)
    [ -d "$DIR" ] || fail "$DIR does not exist; use make"
    make_site "${1:-}"
    ;;
  *) sed -n '2,8p' "$0" >&2; exit 64 ;;
esac
chmod 0755 "$DIR"
give_to_containers
say "files are in $DIR"

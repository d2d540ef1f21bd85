#!/usr/bin/env bash
# Certificates and node keys of a federation with TLS. A private key is made where it is used and stays there.
# At the server:
#   deploy/certs.sh make [DIR] [SERVER-NAME ...]   a CA and the server's certificate
#   deploy/certs.sh renew [DIR] [SERVER-NAME ...]  a new server certificate by the same CA, which needs DIR/ca.key again;
#                                                  without names it keeps those it has; sites change nothing
#   deploy/certs.sh add DIR NAME.pub ...           take in public keys that sites have sent
# At a site:
#   deploy/certs.sh site DIR NAME                  its key pair; NAME is site-1 for partition 0, site-2 for 1, and so on
# Anywhere:
#   deploy/certs.sh show DIR                       fingerprints of all public keys, to be read out over the telephone
#   deploy/certs.sh demo [DIR]                     make, and five times site and add, in one folder: for trying out alone
# DIR is deploy/certs by default. SERVER-NAME: DNS names or IP addresses by which sites reach the server.
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
unfinished=()  # files that a failure takes away again
trap '[ ${#unfinished[@]} = 0 ] || rm -f "${unfinished[@]}"' EXIT

private_key() { openssl ecparam -name secp384r1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"; }

make_ca() {
  # ca.key is kept elsewhere; a new CA in the place of ca.crt would lock every site out.
  [[ -e $DIR/ca.key || -e $DIR/ca.crt ]] && fail "$DIR already has a CA; use renew, or move it away to start over"
  unfinished+=("$DIR/ca.key" "$DIR/ca.crt")  # until there is a server certificate by it
  private_key "$DIR/ca.key"
  openssl req -x509 -new -sha384 -key "$DIR/ca.key" -days "$DAYS_CA" -subj "/CN=fedreenact CA" \
    -addext "basicConstraints=critical,CA:TRUE,pathlen:0" -addext "keyUsage=critical,keyCertSign,cRLSign" -out "$DIR/ca.crt"
  chmod 0644 "$DIR/ca.crt"
}

# The names by which services of the compose file reach the server, the machine itself, and those given.
names_with() {
  local name san="DNS:superlink,DNS:superlink-control,DNS:localhost,IP:127.0.0.1"
  for name in "$@"; do
    if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then san+=",IP:$name"; else san+=",DNS:$name"; fi
  done
  printf '%s' "$san"
}

# Of a certificate, in the same form.
names_of() { openssl x509 -in "$1" -noout -ext subjectAltName | sed -n '2{s/IP Address:/IP:/g;s/ //g;p}'; }

# A certificate for these names; says which of the one before, if there is one, it has no more.
make_server() {
  local san=$1 why dropped=
  unfinished+=("$DIR/server.key.new" "$DIR/server.pem.new")
  private_key "$DIR/server.key.new"
  why=$(openssl req -new -sha384 -key "$DIR/server.key.new" -subj "/CN=fedreenact superlink" |
    openssl x509 -req -sha384 -CA "$DIR/ca.crt" -CAkey "$DIR/ca.key" -days "$DAYS_SERVER" -out "$DIR/server.pem.new" \
      -extfile <(printf 'subjectAltName=%s\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n' "$san") 2>&1) ||
    fail "openssl could not sign a certificate for $san: is ca.key the key of ca.crt, and is each a DNS name or an IP" \
      "address? It says: ${why//$'\n'/ }"
  if [ -e "$DIR/server.pem" ]; then
    dropped=$(comm -23 <(names_of "$DIR/server.pem" | tr , '\n' | sort) <(names_of "$DIR/server.pem.new" | tr , '\n' | sort))
  fi
  chmod 0644 "$DIR/server.pem.new"
  mv "$DIR/server.key.new" "$DIR/server.key"
  mv "$DIR/server.pem.new" "$DIR/server.pem"
  unfinished=()
  say "server certificate for $san, valid $DAYS_SERVER days"
  [ -z "$dropped" ] || say "no longer for ${dropped//$'\n'/, }"
}

check_name() { [[ $1 =~ ^[a-z0-9][a-z0-9-]{0,31}$ ]] || fail "site name: got '$1', wanted lower-case letters, digits and hyphens"; }

make_site() {
  check_name "$1"
  [ -e "$DIR/$1.key" ] && fail "$DIR/$1.key exists; move it away first to replace it"
  ssh-keygen -q -t ecdsa -b 384 -N "" -C "$1" -f "$DIR/$1.key"
  mv "$DIR/$1.key.pub" "$DIR/site-keys/$1.pub"
  chmod 0644 "$DIR/site-keys/$1.pub"
}

# Size and type as ssh-keygen says them: "384 SHA256:... site-3 (ECDSA)".
fingerprint() { ssh-keygen -l -E sha256 -f "$1"; }

add_site() {
  local name said
  [ -f "$1" ] || fail "$1 is not a file"
  grep -q 'PRIVATE KEY' "$1" && fail "$1 is a private key: it must not leave its site; make a new one there and send the .pub"
  name=$(basename "$1" .pub)
  check_name "$name"
  said=$(fingerprint "$1" 2>/dev/null) || fail "$1 is not a public key"
  [[ $said == 384\ *\(ECDSA\) ]] || fail "$1: got '$said', wanted an ECDSA key of 384 bits, as 'site' makes it"
  if [ -e "$DIR/site-keys/$name.pub" ] && ! cmp -s "$1" "$DIR/site-keys/$name.pub"; then
    say "$name: replaces $(fingerprint "$DIR/site-keys/$name.pub")"
  fi
  [ "$1" -ef "$DIR/site-keys/$name.pub" ] || install -m 0644 "$1" "$DIR/site-keys/$name.pub"
  say "$name: $said"
}

show() {
  local file
  for file in "$DIR"/site-keys/*.pub; do
    [ -e "$file" ] || fail "$DIR/site-keys has no public key"
    say "$(basename "$file" .pub): $(fingerprint "$file")"
  done
}

# Containers run as uid 10001; whoever may not give files away is told how.
give_to_containers() {
  local keys=()
  for file in "$DIR"/*.key; do
    [[ -e $file && $file != "$DIR/ca.key" ]] && keys+=("$file")
  done
  [ ${#keys[@]} -gt 0 ] || return 0
  if [ "$(id -u)" = 0 ]; then
    chown 10001:10001 "${keys[@]}"
  else
    say "now run: sudo chown 10001 ${keys[*]}   (the user of the containers)"
  fi
}

command=${1:-}
[ $# -gt 0 ] && shift
DIR=${1:-$HERE/certs}
[ $# -gt 0 ] && shift
case $command in
  make | site | demo)
    mkdir -p "$DIR/site-keys"
    chmod 0755 "$DIR" "$DIR/site-keys"
    ;;
  renew | add | show) [ -d "$DIR/site-keys" ] || fail "$DIR/site-keys does not exist; use make. Keys of before: docs/operations.md" ;;
  *)
    sed -n '2,14p' "$0" >&2
    exit 64
    ;;
esac
case $command in
  make)
    make_ca
    make_server "$(names_with "$@")"
    ;;
  renew)
    [ -e "$DIR/ca.key" ] || fail "$DIR/ca.key is missing: copy it back from where it is kept, renew, and take it away" \
      "again; 'make' would start a new CA, which no site trusts"
    if [ $# -gt 0 ]; then
      names=$(names_with "$@")
    else
      [ -e "$DIR/server.pem" ] || fail "$DIR/server.pem is missing, which says the names; give them all"
      names=$(names_of "$DIR/server.pem")
    fi
    make_server "$names"
    ;;
  site)
    make_site "${1:-}"
    say "send $DIR/site-keys/$1.pub to the server, and read out its fingerprint when they call:"
    fingerprint "$DIR/site-keys/$1.pub"
    ;;
  add)
    [ $# -gt 0 ] || fail "add: no public key was named"
    for file in "$@"; do add_site "$file"; done
    ;;
  show)
    show
    exit 0
    ;;
  demo)
    make_ca
    make_server "$(names_with "$@")"
    for number in 1 2 3 4 5; do make_site "site-$number"; done
    say "for trying out: all five private keys are on this machine; in a federation each site makes its own"
    ;;
esac
give_to_containers
say "files are in $DIR"

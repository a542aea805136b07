#!/usr/bin/env bash
# Certificates for every TLS test; prints their folder. ca: signs all but the last. server: localhost and 127.0.0.1.
# elsewhere: a server certificate for another host. client, stranger: user certificates by CN. other-ca: nobody trusts it.
. "$(dirname "$0")/lib.sh"
DAYS=3650

quiet() { "$@" 2>/dev/null; }
self_signed() { quiet openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days $DAYS -subj "/CN=$1" -keyout "$1.key" -out "$1.crt"; }
signed() { # FILE COMMON_NAME ALTERNATIVE_NAMES
  quiet openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" -keyout "$1.key" -out "$1.csr"
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth,clientAuth' "$3" >"$1.ext"
  quiet openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days $DAYS -out "$1.crt" -extfile "$1.ext"
  cat "$1.key" "$1.crt" >"$1.pem"
}

make() { # FOLDER
  need openssl
  cd "$1"
  self_signed ca
  self_signed other-ca
  signed server localhost "DNS:localhost,IP:$HOST"
  signed elsewhere elsewhere.example DNS:elsewhere.example
  signed client client DNS:client
  signed stranger stranger DNS:stranger
  rm -f ./*.csr ./*.ext ./*.srl
  # Servers running as another user read them too; they protect nothing.
  chmod 644 ./*
}

once certificates make
echo "$BED/certificates"

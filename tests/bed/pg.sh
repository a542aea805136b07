#!/usr/bin/env bash
# PostgreSQL 14 to 18 from one Maven artifact: full servers with OpenSSL, pgoutput, test_decoding and contrib; no psql.
# pg.sh install 18 | start 18 INSTANCE PORT (prints the version; keeps data that is there) | stop INSTANCE
# BED_HBA: lines put before the first one of pg_hba.conf. Superuser postgres, trusted.
. "$(dirname "$0")/lib.sh"
declare -A RELEASE=([14]=14.24.0 [15]=15.19.0 [16]=16.15.0 [17]=17.11.0 [18]=18.6.0)
UNPRIVILEGED="env LC_ALL=C"
[ "$(id -u)" != 0 ] || UNPRIVILEGED="setpriv --reuid=nobody --regid=nogroup --clear-groups env HOME=/ LC_ALL=C"

fetch() { # FOLDER
  need unzip xz
  local machine=amd64
  [ "$(uname -m)" != aarch64 ] || machine=arm64v8
  maven_file "io.zonky.test.postgres:embedded-postgres-binaries-linux-$machine:${RELEASE[$MAJOR]}" "$1/.jar"
  unzip -p "$1"/.jar/*.jar '*.txz' | tar -xJ -C "$1"
  rm -rf "$1/.jar"
}

create() { # DATA
  mkdir -p "$1"
  [ "$(id -u)" != 0 ] || chown nobody:nogroup "$1"
  chmod 700 "$1"
  $UNPRIVILEGED "$PROGRAMS/initdb" -D "$1" -A trust -U postgres -E UTF8 --locale=C --no-sync >"$BED_SESSION/log/$INSTANCE.initdb.log" 2>&1 ||
    { rm -rf "$1"; cat "$BED_SESSION/log/$INSTANCE.initdb.log" >&2; die "initdb failed; can \`nobody\` reach $BED?"; }
  mv "$1/pg_hba.conf" "$1/pg_hba.initdb"
  echo "include 'bed.conf'" >>"$1/postgresql.conf"
}

configure() { # DATA
  {
    cat <<X
listen_addresses = '$HOST'
port = $PORT
unix_socket_directories = ''
wal_level = logical
max_wal_senders = 50
max_replication_slots = 50
max_prepared_transactions = 10
max_connections = 200
shared_buffers = 64MB
# A killed server leaves nothing in /dev/shm.
dynamic_shared_memory_type = mmap
logging_collector = off
log_min_messages = warning
X
    [ -z "${BED_FAST:-}" ] || printf 'fsync = off\nfull_page_writes = off\n'
    [ -z "${BED_TLS:-}" ] || printf "ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_ca_file = 'ca.crt'\n"
    echo "${BED_EXTRA:-}"
  } >"$1/bed.conf"
  { echo "${BED_HBA:-}"; cat "$1/pg_hba.initdb"; } >"$1/pg_hba.conf"
  [ -z "${BED_TLS:-}" ] || copy_certificates "$1"
}

copy_certificates() { # DATA
  local certificates file
  certificates=$("$HERE/certs.sh")
  for file in server.crt server.key ca.crt; do
    install -m 600 "$certificates/$file" "$1/$file"
    [ "$(id -u)" != 0 ] || chown nobody:nogroup "$1/$file"
  done
}

MAJOR=${2:-} PROGRAMS=$BED/postgres-${RELEASE[${2:-18}]:-none}/bin
case ${1:-} in
  install | start) [ -n "${RELEASE[$MAJOR]:-}" ] || die "versions: ${!RELEASE[*]}" ;;&
  install) once "postgres-${RELEASE[$MAJOR]}" fetch ;;
  start)
    INSTANCE=$3 PORT=$4 DATA=$BED_SESSION/data/$3
    once "postgres-${RELEASE[$MAJOR]}" fetch
    [ -e "$DATA/PG_VERSION" ] || create "$DATA"
    configure "$DATA"
    # shellcheck disable=SC2086  # a command prefix
    spawn "$INSTANCE" $UNPRIVILEGED "$PROGRAMS/postgres" -D "$DATA"
    wait_for "$INSTANCE" 60 log_says "$INSTANCE" 'database system is ready to accept'
    echo "${RELEASE[$MAJOR]%.0}"
    ;;
  stop) stop "$2" INT ;;
  *) sed -n 2,4p "$0" ;;
esac

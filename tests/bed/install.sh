#!/usr/bin/env bash
# Fetch every server of the test bed, or those named: install.sh [POSTGRES18 MYSQL9 …]. One line for each; what is there
# stays. Leaves out the names in TAILRACE_SKIP_SERVERS and those whose TAILRACE_TEST_<NAME>_URL is set. Fails when one
# cannot be had.
. "$(dirname "$0")/lib.sh"
# Two lanes side by side, each one after the other: Maven and apt both lock. MYSQL80 needs both and goes first.
MAVEN="MYSQL80 MYSQL57 POSTGRES14 POSTGRES15 POSTGRES16 POSTGRES17 POSTGRES18 KAFKA REGISTRY CONNECT"
DEBIAN="MYSQL9 MARIADB118 MARIADB1011"

is_wanted() { # NAME
  local url=TAILRACE_TEST_$1_URL
  [ -z "${!url:-}" ] && ! grep -qwF "$1" <<<"${TAILRACE_SKIP_SERVERS:-}" && grep -qwF "$1" <<<"$WANTED"
}

install_one() { # NAME
  local name=$1 began=$SECONDS script word=${1##*[A-Z]}
  case $name in
    POSTGRES*) script=pg.sh ;;
    MYSQL*) script=mysql.sh ;;
    MARIADB*) script=mariadb.sh ;;
    KAFKA) script=kafka.sh ;;
    REGISTRY) script=registry.sh ;;
    CONNECT) script=connect.sh ;;
  esac
  if "$HERE/$script" install "${word:-current}"; then
    echo "$name: ready after $((SECONDS - began)) s"
  else
    echo "$name: FAILED after $((SECONDS - began)) s"
    return 1
  fi
}

lane() { # NAMES...
  local name failed=0
  for name in "$@"; do
    ! is_wanted "$name" || install_one "$name" || failed=1
  done
  return $failed
}

# The programs that the scripts call, by Debian package; only a missing one is installed, and only root can.
install_tools() {
  local pair missing=()
  for pair in java:default-jre-headless mvn:maven unzip:unzip xz:xz-utils openssl:openssl curl:curl; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  [ ${#missing[@]} = 0 ] && return
  [ "$(id -u)" = 0 ] || die "missing: ${missing[*]} (Debian packages); install them or run this as root"
  say "installing ${missing[*]}"
  { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >"$BED/log/apt-tools.log" 2>&1 ||
    { tail -n 5 "$BED/log/apt-tools.log" >&2; die "apt could not install ${missing[*]}"; }
}

WANTED=${*:-$MAVEN $DEBIAN}
for name in $WANTED; do
  grep -qwF "$name" <<<"$MAVEN $DEBIAN" || die "$name is none of $MAVEN $DEBIAN"
done
install_tools
began=$SECONDS failed=0
# shellcheck disable=SC2086  # lists of names
lane $MAVEN & maven_lane=$!
# shellcheck disable=SC2086
lane $DEBIAN || failed=1
wait $maven_lane || failed=1
echo "test bed in $BED after $((SECONDS - began)) s"
exit $failed

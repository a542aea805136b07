# shellcheck shell=bash disable=SC2034  # the scripts use what looks unused here
# What the server scripts of this folder share: folders, processes, downloads. Sourced by them, never run.
#
# BED           programs and templates, kept between runs; `nobody` must be able to reach it (PostgreSQL refuses root)
# BED_SESSION   run/NAME.pid, log/NAME.log, data/NAME of one test session, or of the servers started by hand
# BED_EXTRA     further configuration lines for the server, in its own syntax
# BED_FAST      non-empty: no fsync (the servers that tests share)
# BED_TLS       non-empty: the server offers TLS with the certificates of certs.sh
# Every server listens on 127.0.0.1 only.
set -euo pipefail
HOST=127.0.0.1
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SUFFIX=$([ "$(id -u)" = 0 ] || echo "-$(id -u)")
BED=$(realpath -m "${TAILRACE_TEST_CACHE:-/var/tmp/tailrace-bed$SUFFIX}")
BED_SESSION=${BED_SESSION:-$BED/by-hand}
umask 022
mkdir -p "$BED"
[ -O "$BED" ] || { echo "$BED belongs to another user: set TAILRACE_TEST_CACHE" >&2; exit 1; }
mkdir -p "$BED/lock" "$BED/log" "$BED_SESSION"/{run,log,data}
# A small JVM that starts fast and listens where it is told.
JVM=(-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -XX:-UsePerfData -Djava.net.preferIPv4Stack=true -Djava.awt.headless=true)

say() { echo "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }
need() { local tool; for tool in "$@"; do command -v "$tool" >/dev/null || die "\`$tool\` is missing: run tests/bed/install.sh as root, or install it"; done; }
is_up() { (exec 3<>"/dev/tcp/$HOST/$1") 2>/dev/null; }

# once FOLDER COMMAND...: unless $BED/FOLDER is there, run COMMAND on an empty folder and give that its name when it
# succeeded. So a folder that is there is whole, and two sessions do not build the same one twice.
once() {
  local folder=$1; shift
  [ ! -d "$BED/$folder" ] || return 0
  (
    flock 9
    [ ! -d "$BED/$folder" ] || exit 0
    rm -rf "$BED/$folder.part"; mkdir "$BED/$folder.part"
    "$@" "$BED/$folder.part"
    mv "$BED/$folder.part" "$BED/$folder"
  ) 9>"$BED/lock/$folder"
}

# ---- processes

# start_ticks PID: when it started, in clock ticks since boot; with the pid it names one process for good.
start_ticks() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# spawn NAME COMMAND...: in a session of its own, output to log/NAME.log, "pid start_ticks" in run/NAME.pid while it runs.
# The small shell around it reaps it at once: left to pid 1 a killed server can stay a zombie for half a second, which
# lock files and kill -0 take for a running one. fd 9 is the lock of `once`.
spawn() {
  local name=$1; shift
  local pid_file=$BED_SESSION/run/$name.pid log=$BED_SESSION/log/$name.log
  [ ! -e "$log" ] || mv "$log" "$log.before"
  rm -f "$pid_file"
  # shellcheck disable=SC2016  # for the inner shell
  setsid sh -c '
    file=$1; shift
    "$@" & pid=$!
    ticks=$(sed "s/.*) //" /proc/$pid/stat | cut -d" " -f20)
    echo "$pid $ticks" >"$file.new"; mv "$file.new" "$file"
    wait $pid; code=$?
    rm -f "$file"; echo "ended with exit code $code"' sh "$pid_file" "$@" >"$log" 2>&1 </dev/null 9>&- &
  local tries=0
  while [ ! -s "$pid_file" ] && [ $tries -lt 200 ]; do
    ! grep -q '^ended with exit code' "$log" 2>/dev/null || break
    sleep .01; tries=$((tries + 1))
  done
}

# running_pid NAME: prints its pid; fails when it does not run.
running_pid() {
  local pid ticks
  read -r pid ticks 2>/dev/null <"$BED_SESSION/run/$1.pid" || return 1
  [ "$(start_ticks "$pid")" = "$ticks" ] && echo "$pid"
}

# wait_for NAME SECONDS COMMAND...: until COMMAND succeeds; ends the script with the end of the log when the server ended
# or time ran out. The deadline is generous: a busy machine is not a broken server.
wait_for() {
  local name=$1 end=$((SECONDS + $2)); shift 2
  until "$@" >/dev/null 2>&1; do
    running_pid "$name" >/dev/null || { tail -n 25 "$BED_SESSION/log/$name.log" >&2; die "$name ended before it was ready"; }
    [ $SECONDS -lt $end ] || { tail -n 25 "$BED_SESSION/log/$name.log" >&2; die "$name was not ready in time"; }
    sleep .05
  done
}

# log_says NAME PATTERN: the log of the present run has such a line.
log_says() { grep -qE "$2" "$BED_SESSION/log/$1.log"; }

# stop NAME [SIGNAL]: asks, waits 20 s, then kills.
stop() {
  local pid i
  pid=$(running_pid "$1") || return 0
  kill -"${2:-TERM}" "$pid" || true
  for ((i = 0; i < 200; i++)); do running_pid "$1" >/dev/null || return 0; sleep .1; done
  kill -KILL "$pid" || true
}

# ---- downloads

# maven LOG GOAL...: one Maven at a time, into a repository of the test bed's own.
maven() {
  need mvn java
  local log=$BED/log/maven-$1.log; shift
  flock "$BED/lock/maven" mvn -q -B -Dmaven.repo.local="$BED/maven" "$@" >"$log" 2>&1 9>&- ||
    { grep -m3 ERROR "$log" >&2; die "Maven could not fetch it, see $log"; }
}

# maven_file GROUP:ARTIFACT:VERSION[:TYPE[:CLASSIFIER]] FOLDER: that one file, moved into FOLDER.
maven_file() {
  maven "$(cut -d: -f2 <<<"$1")" dependency:copy -Dartifact="$1" -DoutputDirectory="$2"
  # Half a gigabyte for one of them, and never asked for again.
  rm -rf "$BED/maven/$(cut -d: -f1 <<<"$1" | tr . /)/$(cut -d: -f2 <<<"$1")"
}

# maven_libraries FOLDER GROUP:ARTIFACT:VERSION...: these and all they need at run time, as jars in FOLDER/lib.
maven_libraries() {
  local folder=$1 coordinates group artifact version; shift
  {
    echo '<project><modelVersion>4.0.0</modelVersion><groupId>bed</groupId><artifactId>bed</artifactId><version>1</version><dependencies>'
    for coordinates in "$@"; do
      IFS=: read -r group artifact version <<<"$coordinates"
      echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
    done
    echo '</dependencies></project>'
  } >"$folder/pom.xml"
  maven "$artifact" -f "$folder/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$folder/lib"
}

# debian_mirror: the address of the Debian mirror that apt is configured with.
debian_mirror() {
  local mirror=${TAILRACE_TEST_DEBIAN_MIRROR:-}
  # shellcheck disable=SC2016  # for apt and awk
  [ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI) $(COMPONENT)' 'Identifier: Packages' 2>/dev/null | awk '$2 == "main" && $1 ~ /\/debian\/?$/ {print $1; exit}')
  [ -n "$mirror" ] || die 'apt has no Debian mirror configured; set TAILRACE_TEST_DEBIAN_MIRROR'
  echo "$mirror"
}

# debian_lists SUITE FOLDER: that suite's package index, beside the system's apt, which stays as it is.
debian_lists() {
  local suite=$1 folder=$2 mirror
  mirror=$(debian_mirror)
  mkdir -p "$folder"/{state/lists/partial,cache/archives/partial}
  : >"$folder/status"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$folder/sources.list"
  apt_config "$folder" >"$folder/apt.conf"
  APT_CONFIG=$folder/apt.conf apt-get -qq update >"$BED/log/apt-$suite.log" 2>&1 || { tail -n 5 "$BED/log/apt-$suite.log" >&2; die "apt could not read Debian $suite"; }
  apt_config "$BED/$(basename "$folder" .part)" >"$folder/apt.conf"
}

apt_config() { # FOLDER
  cat <<X
Dir::State "$1/state";
Dir::State::status "$1/status";
Dir::Cache "$1/cache";
Dir::Etc::sourcelist "$1/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Acquire::Languages "none";
APT::Sandbox::User "root";
X
}

# What the servers' packages ask for and the servers do not need.
UNUSED_PACKAGES='^(perl|libperl|gcc-[0-9]+-base|libdb5|libgdbm|libc-gconv|debconf|dpkg|tar|adduser|passwd|ssl-cert|ucf|psmisc|lsof|rsync)'

# debian_packages FOLDER SUITE "PACKAGES" ["ALONE"]: PACKAGES with all they depend on, and ALONE without, unpacked into
# FOLDER; nothing is installed into the system.
debian_packages() {
  local folder=$1 suite=$2 packages=$3 alone=${4:-} lists=$BED/debian-$2 log deb
  need apt-get dpkg
  log=$BED/log/apt-$suite-$(basename "$folder" .part).log
  # An index of yesterday names files that the mirror may have replaced.
  [ -z "$(find "$lists" -maxdepth 0 -mtime +0 2>/dev/null)" ] || rm -rf "$lists"
  once "debian-$suite" debian_lists "$suite"
  mkdir "$folder/.debs"
  (
    cd "$folder/.debs"
    export APT_CONFIG=$lists/apt.conf
    # shellcheck disable=SC2046,SC2086  # lists of words
    apt-get download -qq $alone $(apt-get install -s --no-install-recommends $packages | awk '/^Inst/ {print $2}' | grep -vE "$UNUSED_PACKAGES") >"$log" 2>&1 ||
      { tail -n 5 "$log" >&2; die "apt could not fetch $packages from Debian $suite"; }
    for deb in *.deb; do dpkg -x "$deb" ..; done
  )
  rm -rf "$folder/.debs"
}

# own_loader ROOT: the command prefix that runs a program of another Debian suite with that suite's own C library.
own_loader() {
  local libraries=$1/usr/lib/x86_64-linux-gnu:$1/lib/x86_64-linux-gnu loader
  # The link in lib64 may be absolute, and then leads to the loader of this machine.
  for loader in "$1"{/usr,}/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2; do
    [ ! -f "$loader" ] || { echo "$loader --library-path $libraries"; return; }
  done
  die "no loader in $1"
}

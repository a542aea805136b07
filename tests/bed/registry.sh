#!/usr/bin/env bash
# A schema registry, Apicurio 3.0 from Maven, with Confluent's API under /apis/ccompat/v7; schemas are in memory.
# registry.sh install | start current INSTANCE PORT (prints the version) | stop INSTANCE
# BED_EXTRA: NAME=value lines of its environment.
. "$(dirname "$0")/lib.sh"
RELEASE=3.0.9
PROGRAMS=$BED/apicurio-$RELEASE

fetch() { # FOLDER
  maven_file "io.apicurio:apicurio-registry-app:$RELEASE:tar.gz:all" "$1/.archive"
  tar -xzf "$1"/.archive/*.tar.gz -C "$1"
  rm -rf "$1/.archive"
}

environment() {
  cat <<X
QUARKUS_HTTP_HOST=$HOST
QUARKUS_HTTP_PORT=$PORT
QUARKUS_HTTP_HOST_ENABLED=true
QUARKUS_LOG_LEVEL=WARN
QUARKUS_OTEL_ENABLED=false
APICURIO_REST_DELETION_GROUP_ENABLED=true
APICURIO_REST_DELETION_ARTIFACT_ENABLED=true
APICURIO_REST_DELETION_ARTIFACTVERSION_ENABLED=true
X
  grep . <<<"${BED_EXTRA:-}" || true
}

case ${1:-} in
  install | start) need java; once "apicurio-$RELEASE" fetch ;;&
  start)
    INSTANCE=$3 PORT=$4
    jar=$(find "$PROGRAMS" -maxdepth 2 -name 'quarkus-run.jar' -o -maxdepth 2 -name '*runner.jar' | head -1)
    readarray -t settings < <(environment)
    spawn "$INSTANCE" env "${settings[@]}" java -Xmx384m "${JVM[@]}" -jar "$jar"
    need curl
    wait_for "$INSTANCE" 90 curl -sf "http://$HOST:$PORT/apis/ccompat/v7/subjects"
    echo "$RELEASE"
    ;;
  install) ;;
  stop) stop "$2" ;;
  *) sed -n 2,4p "$0" ;;
esac

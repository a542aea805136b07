#!/usr/bin/env bash
# Kafka Connect 4.3, one process (standalone), with Debezium's JDBC sink and Apicurio's Avro converter, all from Maven.
# connect.sh install | start current INSTANCE PORT (prints the version of the sink) | stop INSTANCE
# PORT: of its REST API, by which connectors are made. BED_EXTRA: lines of worker.properties, bootstrap.servers among them.
. "$(dirname "$0")/lib.sh"
RELEASE=4.3.0
SINK_RELEASE=3.6.0.Final
CONVERTER_RELEASE=2.6.13.Final
PROGRAMS=$BED/connect-$RELEASE
PLUGINS=$BED/connect-plugins-$SINK_RELEASE-$CONVERTER_RELEASE

fetch_worker() { # FOLDER
  maven_libraries "$1" "org.apache.kafka:connect-runtime:$RELEASE" org.apache.logging.log4j:log4j-slf4j-impl:2.25.4
  cat >"$1/log4j2.properties" <<'X'
appender.c.type = Console
appender.c.name = C
appender.c.layout.type = PatternLayout
appender.c.layout.pattern = %d %p %c{1} %m%n
rootLogger.level = WARN
rootLogger.appenderRef.c.ref = C
X
}

# A plugin is a folder of jars inside the plugin path.
fetch_plugins() { # FOLDER
  maven_file "io.debezium:debezium-connector-jdbc:$SINK_RELEASE:tar.gz:plugin" "$1/.archive"
  tar -xzf "$1"/.archive/*.tar.gz -C "$1"
  mkdir "$1/.converter"
  maven_libraries "$1/.converter" "io.apicurio:apicurio-registry-utils-converter:$CONVERTER_RELEASE"
  mv "$1/.converter/lib" "$1/apicurio-converter"
  # What the worker itself provides to its plugins.
  rm -rf "$1"/.archive "$1"/.converter "$1"/*/{connect-api,connect-json,kafka-clients,lz4-java,slf4j-api,snappy-java,zstd-jni}-*.jar
  name_converter "$1/apicurio-converter"
}

# The converter has no list of what it offers; the worker would have to look through all classes, which takes it 15 s.
name_converter() { # FOLDER
  mkdir -p "$1/META-INF/services"
  echo io.apicurio.registry.utils.converter.AvroConverter >"$1/META-INF/services/org.apache.kafka.connect.storage.Converter"
  (cd "$1" && python3 -m zipfile -c services.jar META-INF)
  rm -rf "$1/META-INF"
}

worker_properties() {
  cat <<X
listeners=http://$HOST:$PORT
plugin.path=$PLUGINS
plugin.discovery=service_load
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
offset.storage.file.filename=$BED_SESSION/data/$INSTANCE/offsets
offset.flush.interval.ms=500
X
}

case ${1:-} in
  install | start)
    need java
    once "connect-$RELEASE" fetch_worker
    once "$(basename "$PLUGINS")" fetch_plugins
    ;;&
  start)
    INSTANCE=$3 PORT=$4
    mkdir -p "$BED_SESSION/data/$INSTANCE"
    { worker_properties; echo "${BED_EXTRA:-}"; } >"$BED_SESSION/data/$INSTANCE/worker.properties"
    spawn "$INSTANCE" java -Xmx512m "${JVM[@]}" "-Dlog4j2.configurationFile=file:$PROGRAMS/log4j2.properties" -cp "$PROGRAMS/lib/*" \
      org.apache.kafka.connect.cli.ConnectStandalone "$BED_SESSION/data/$INSTANCE/worker.properties"
    need curl
    wait_for "$INSTANCE" 90 curl -sf "http://$HOST:$PORT/connectors"
    echo "$SINK_RELEASE"
    ;;
  install) ;;
  stop) stop "$2" ;;
  *) sed -n 2,4p "$0" ;;
esac

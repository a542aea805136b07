#!/usr/bin/env bash
# Apache Kafka 4.3 (KRaft: a broker that is its own controller) from Maven. All print the version and keep data that is there.
# kafka.sh install | start current INSTANCE PORT CONTROLLER_PORT | stop INSTANCE
# kafka.sh secure current INSTANCE SASL_PLAINTEXT CONTROLLER_PORT TLS SASL_TLS      ports; SCRAM, PLAIN, client certificates, ACLs
# kafka.sh node NUMBER INSTANCE PORT1 CONTROLLER1 PORT2 CONTROLLER2 PORT3 CONTROLLER3   member 1, 2 or 3 of a cluster
. "$(dirname "$0")/lib.sh"
RELEASE=4.3.0
PROGRAMS=$BED/kafka-$RELEASE
CLASSES=$BED/kafka-$RELEASE.classes/kafka.jsa
CLUSTER_ID=MkU3OEVBNTcwNTJENDM2Qg

fetch() { # FOLDER
  maven_libraries "$1" "org.apache.kafka:kafka_2.13:$RELEASE" org.apache.logging.log4j:log4j-slf4j-impl:2.25.4
  cat >"$1/log4j2.yaml" <<'X'
Configuration:
  Appenders: {Console: {name: C, PatternLayout: {pattern: "%d %p %c{1} %m%n"}}}
  Loggers: {Root: {level: WARN, AppenderRef: {ref: C}}}
X
}

# kafka_java ARGUMENTS...: the java command of Kafka's programs, left in the array COMMAND.
kafka_java() {
  COMMAND=(java "${JVM[@]}" "-Dlog4j2.configurationFile=file:$PROGRAMS/log4j2.yaml" -cp "$PROGRAMS/lib/*" "$@")
}

# One throw-away run records the classes that were loaded: each start then takes half the time (class data sharing).
record_classes() { # FOLDER
  local ports=(11990 11991)
  BED_SESSION=$1 INSTANCE=record
  mkdir -p "$1"/{run,log,data}
  create single_properties "${ports[@]}"
  kafka_java -Xmx384m "-XX:ArchiveClassesAtExit=$1/kafka.jsa" kafka.Kafka "$1/data/$INSTANCE/server.properties"
  spawn "$INSTANCE" "${COMMAND[@]}"
  wait_for "$INSTANCE" 60 is_up "${ports[0]}"
  stop "$INSTANCE"
  rm -rf "$1"/{run,log,data}
}

prepare() {
  need java
  once "kafka-$RELEASE" fetch
  once "kafka-$RELEASE.classes" record_classes
}

common_properties() { # NODE_ID VOTERS COPIES COPIES_THAT_ANSWER
  cat <<X
process.roles=broker,controller
node.id=$1
controller.quorum.voters=$2
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
log.dirs=$BED_SESSION/data/$INSTANCE/logs
num.partitions=1
default.replication.factor=$3
min.insync.replicas=$4
offsets.topic.replication.factor=$3
offsets.topic.num.partitions=5
transaction.state.log.replication.factor=$3
transaction.state.log.min.isr=$4
transaction.state.log.num.partitions=5
share.coordinator.state.topic.replication.factor=$3
share.coordinator.state.topic.min.isr=$4
group.initial.rebalance.delay.ms=0
group.coordinator.threads=1
num.network.threads=1
num.io.threads=2
num.replica.fetchers=1
log.cleaner.backoff.ms=200
log.cleaner.dedupe.buffer.size=8388608
log.segment.delete.delay.ms=1000
broker.heartbeat.interval.ms=500
broker.session.timeout.ms=3000
controller.quorum.election.timeout.ms=400
controller.quorum.fetch.timeout.ms=1500
X
}

listeners() { # CONTROLLER_PORT LISTENERS
  echo "listeners=$2,CONTROLLER://$HOST:$1"
  echo "advertised.listeners=$2"
}

single_properties() { # PORT CONTROLLER_PORT
  common_properties 1 "1@$HOST:$2" 1 1
  listeners "$2" "PLAINTEXT://$HOST:$1"
}

node_properties() { # NUMBER PORT1 CONTROLLER1 PORT2 CONTROLLER2 PORT3 CONTROLLER3
  local number=$1 ports=("${@:2}")
  common_properties "$number" "1@$HOST:$3,2@$HOST:$5,3@$HOST:$7" 3 2
  listeners "${ports[2 * number - 1]}" "PLAINTEXT://$HOST:${ports[2 * number - 2]}"
}

secure_properties() { # SASL_PLAINTEXT CONTROLLER_PORT TLS SASL_TLS
  local certificates listener mechanism module=org.apache.kafka.common.security
  certificates=$("$HERE/certs.sh")
  common_properties 1 "1@$HOST:$2" 1 1
  listeners "$2" "SASL_PLAINTEXT://$HOST:$1,SSL://$HOST:$3,SASL_SSL://$HOST:$4"
  cat <<X
inter.broker.listener.name=SSL
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512,PLAIN
ssl.keystore.type=PEM
ssl.keystore.location=$certificates/server.pem
ssl.truststore.type=PEM
ssl.truststore.location=$certificates/ca.crt
listener.name.ssl.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:CN=localhost;User:alice;User:plain
X
  # Each listener wants its own line for each mechanism, or the broker ends at its start.
  for listener in sasl_plaintext sasl_ssl; do
    echo "listener.name.$listener.plain.sasl.jaas.config=$module.plain.PlainLoginModule required user_plain=\"pw\";"
    for mechanism in scram-sha-256 scram-sha-512; do
      echo "listener.name.$listener.$mechanism.sasl.jaas.config=$module.scram.ScramLoginModule required;"
    done
  done
}

# create PROPERTIES ARGUMENTS...: its configuration, and formatted storage when there is none.
create() {
  local data=$BED_SESSION/data/$INSTANCE log=$BED_SESSION/log/$INSTANCE.format.log users=()
  mkdir -p "$data"
  { "$@"; echo "${BED_EXTRA:-}"; } >"$data/server.properties"
  [ ! -e "$data/logs/meta.properties" ] || return 0
  [ "$1" != secure_properties ] || users=(--add-scram 'SCRAM-SHA-256=[name=alice,password=pw]' --add-scram 'SCRAM-SHA-512=[name=bob,password=pw]')
  kafka_java -Xmx64m "-XX:SharedArchiveFile=$CLASSES" kafka.tools.StorageTool format -t "$CLUSTER_ID" -c "$data/server.properties" "${users[@]}"
  "${COMMAND[@]}" >"$log" 2>&1 || { cat "$log" >&2; die 'Kafka could not format its storage'; }
}

boot() { # PORTS THAT MUST ANSWER...
  local port
  kafka_java -Xmx384m "-XX:SharedArchiveFile=$CLASSES" kafka.Kafka "$BED_SESSION/data/$INSTANCE/server.properties"
  spawn "$INSTANCE" "${COMMAND[@]}"
  for port in "$@"; do wait_for "$INSTANCE" 90 is_up "$port"; done
  echo "$RELEASE"
}

INSTANCE=${3:-}
case ${1:-} in
  install) prepare ;;
  start) prepare; create single_properties "$4" "$5"; boot "$4" ;;
  secure) prepare; create secure_properties "${@:4:4}"; boot "$4" "$6" "$7" ;;
  node) prepare; create node_properties "$2" "${@:4:6}"; ports=("${@:4:6}"); boot "${ports[2 * $2 - 2]}" ;;
  stop) stop "$2" ;;
  *) sed -n 2,5p "$0" ;;
esac

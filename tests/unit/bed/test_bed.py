"""The test bed itself: servers come, answer, break and come back as the fixtures say."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from bed import processes
from bed.session import cache_folder, end_abandoned_sessions
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # exported by name only
from fix_servers import (
    MYSQL_FAMILY,
    POSTGRES_NAMES,
    PrivateServer,
    certificates,
    fresh_mysql_database,
    fresh_postgres_database,
    kafka_cluster,
    private_server,
    secure_kafka,
    server,
    wait_until,
)

TESTS = Path(__file__).parents[2]

# ---- helpers: one value from a server, one record through a log


def postgres_value(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        cursor = connection.execute(query.encode())
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None


def mysql_connection(url: str, **options: Any) -> "pymysql.Connection[Any]":
    address, _, database = url.removeprefix("mysql://cdc:pw@").partition("/")
    host, _, port = address.partition(":")
    return pymysql.connect(
        host=host, port=int(port), user="cdc", password="pw", database=database or None, autocommit=True, **options
    )


def mysql_value(url: str, query: str, **options: Any) -> object:
    with mysql_connection(url, **options) as connection, connection.cursor() as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
        return row[0] if row else None


def sql_value(url: str, query: str) -> object:
    return postgres_value(url, query) if url.startswith("postgresql") else mysql_value(url, query)


Settings = Mapping[str, str]


def at(address: str, **settings: str) -> Settings:
    """librdkafka's settings for a broker; `_` stands for the dot in their names."""
    return {"bootstrap.servers": address, **{name.replace("_", "."): value for name, value in settings.items()}}


def make_topic(name: str, settings: Settings, copies: int = 1) -> None:
    client = AdminClient(dict(settings))  # kept in a name: collected, it would take the request with it
    created = client.create_topics([NewTopic(name, num_partitions=1, replication_factor=copies)])
    created[name].result(30)


def send_record(topic: str, value: bytes, settings: Settings) -> None:
    """Return when all brokers in step have it."""
    producer = Producer({"enable.idempotence": True, **settings})
    errors: list[object] = []
    producer.produce(topic, value, callback=lambda error, _: errors.append(error))
    assert producer.flush(60) == 0
    assert errors == [None]


def read_records(topic: str, count: int, settings: Settings) -> list[bytes | None]:
    consumer = Consumer({"group.id": topic, "auto.offset.reset": "earliest", **settings})
    consumer.subscribe([topic])
    found: list[bytes | None] = []

    def enough() -> bool:
        message = consumer.poll(0.2)
        if message is not None and message.error() is None:
            found.append(message.value())
        return len(found) >= count

    try:
        wait_until(enough, 60, f"{count} records in {topic}")
    finally:
        consumer.close()
    return found


# ---- shared servers


@pytest.mark.servers
@pytest.mark.parametrize("name", POSTGRES_NAMES)
def test_shared_postgres_is_the_version_its_name_says(name: str) -> None:
    found = server(name)
    assert found.version.startswith(name.removeprefix("POSTGRES") + ".")
    assert postgres_value(found.url, "show server_version") == found.version
    assert postgres_value(found.url, "show wal_level") == "logical"
    assert postgres_value(found.url, "show max_replication_slots") == "50"


@pytest.mark.servers
def test_the_oldest_mysql_is_one_whose_log_names_no_columns() -> None:
    found = server("MYSQL57")
    assert found.version == "5.7.22"
    settings = ("binlog_format", "binlog_row_image", "gtid_mode", "log_slave_updates", "log_bin")
    got = [mysql_value(found.url, f"select @@global.{setting}") for setting in settings]
    assert got == ["ROW", "FULL", "ON", 1, 1]
    with pytest.raises(pymysql.OperationalError, match="Unknown system variable"):
        mysql_value(found.url, "select @@global.binlog_row_metadata")


@pytest.mark.servers
@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("MYSQL80", "8.0.33"),
        ("MYSQL9", "9."),
        ("MARIADB1011", "10.11."),
        ("MARIADB118", "11.8."),
    ],
)
def test_shared_mysql_is_the_version_its_name_says(name: str, version: str) -> None:
    found = server(name)
    assert found.version.startswith(version)
    assert str(mysql_value(found.url, "select version()")).startswith(found.version)
    settings = ("binlog_format", "binlog_row_metadata", "binlog_row_image", "local_infile", "log_bin")
    assert [mysql_value(found.url, f"select @@global.{setting}") for setting in settings] == [
        "ROW",
        "FULL",
        "FULL",
        1,
        1,
    ]
    gtid = "gtid_strict_mode" if name.startswith("MARIADB") else "gtid_mode"
    assert mysql_value(found.url, f"select @@global.{gtid}") in (1, "ON")


@pytest.mark.servers
def test_shared_kafka_keeps_a_record(kafka: str) -> None:
    make_topic("bed-shared", at(kafka))
    send_record("bed-shared", b"one", at(kafka))
    assert read_records("bed-shared", 1, at(kafka)) == [b"one"]


@pytest.mark.servers
def test_shared_registry_gives_a_schema_one_id(registry: str) -> None:
    body = json.dumps({"schema": json.dumps({"type": "record", "name": "bed", "fields": []})}).encode()

    def register() -> int:
        headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
        request = urllib.request.Request(f"{registry}/subjects/bed-value/versions", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(json.load(answer)["id"])

    assert register() == register()


# ---- fresh databases


@pytest.mark.servers
@pytest.mark.parametrize("name", POSTGRES_NAMES)
def test_fresh_postgres_database_goes_with_its_used_slot_and_its_prepared_transaction(name: str) -> None:
    with fresh_postgres_database(name) as url:
        database = url.rpartition("/")[2]
        postgres_value(url, "create table t (id int primary key)")
        postgres_value(url, f"select pg_create_logical_replication_slot('{database}', 'pgoutput')")
        postgres_value(url, "begin; insert into t values (1); prepare transaction 'left'")
        stream = subprocess.Popen(
            [sys.executable, "-c", STREAM_FROM_SLOT, url, database], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert stream.stdout is not None
        assert stream.stdout.readline() == b"streaming\n"

    assert stream.wait(20) != 0
    stream.stdout.close()
    left = f"select count(*) from pg_database where datname = '{database}'"
    assert postgres_value(server(name).url, left) == 0
    slots = f"select count(*) from pg_replication_slots where slot_name = '{database}'"
    assert postgres_value(server(name).url, slots) == 0


STREAM_FROM_SLOT = """
import sys, psycopg
link = psycopg.pq.PGconn.connect(f"{sys.argv[1]}?replication=database".encode())
link.exec_(f"START_REPLICATION SLOT {sys.argv[2]} LOGICAL 0/0 (proto_version '1', publication_names 'p')".encode())
print("streaming", flush=True)
while link.get_copy_data(0)[0] >= 0:
    pass
sys.exit(1)
"""


@pytest.mark.servers
@pytest.mark.parametrize("name", MYSQL_FAMILY)
def test_fresh_mysql_database_goes_in_spite_of_an_open_transaction(name: str) -> None:
    with fresh_mysql_database(name) as url:
        database = url.rpartition("/")[2]
        mysql_value(url, "create table t (id int primary key)")
        session = mysql_connection(url)
        session.begin()
        session.cursor().execute("insert into t values (1)")

    left = f"select count(*) from information_schema.schemata where schema_name = '{database}'"
    assert mysql_value(server(name).url, left) == 0
    with pytest.raises(pymysql.OperationalError):
        session.commit()


@pytest.mark.servers
def test_database_fixtures_give_another_database_each_time(
    postgres_database: Callable[[str], str], mysql_database: Callable[[str], str]
) -> None:
    assert postgres_database("POSTGRES18") != postgres_database("POSTGRES18")
    assert sql_value(mysql_database("MARIADB118"), "select 1") == 1


# ---- servers of a test's own

DATABASES = ("POSTGRES14", "POSTGRES18", *MYSQL_FAMILY)


def database_of(private: PrivateServer) -> str:
    return private.url if private.name in POSTGRES_NAMES else f"{private.url}mysql"


@pytest.mark.servers
@pytest.mark.parametrize("name", DATABASES)
def test_committed_row_survives_kill_and_stop(name: str) -> None:
    with private_server(name) as private:
        url = database_of(private)
        sql_value(url, "create table t (id int primary key)")
        sql_value(url, "insert into t values (1)")

        private.kill()
        assert not private.is_running
        private.start()
        sql_value(url, "insert into t values (2)")
        private.stop()
        assert not private.is_running
        private.start()

        assert sql_value(url, "select count(*) from t") == 2
        process = private.process
    assert not processes.is_running(process)


@pytest.mark.servers
def test_killed_postgres_leaves_no_child_and_no_shared_memory() -> None:
    with private_server("POSTGRES17") as private:
        with psycopg.connect(private.url):
            family = processes.family(private.process)
            private.kill()
        assert len(family) > 5
        assert not any(map(processes.is_running, family))
        data = private.log.parents[1] / "data" / private.log.stem
        segment = (data / "postmaster.pid").read_text().splitlines()[6].split()[1]
        assert segment in shared_memory_segments()

    assert segment not in shared_memory_segments()
    assert not data.exists()


def shared_memory_segments() -> set[str]:
    return {line.split()[1] for line in Path("/proc/sysvipc/shm").read_text().splitlines()}


@pytest.mark.servers
@pytest.mark.parametrize("name", ["POSTGRES18", "MYSQL9", "MARIADB118"])
def test_frozen_server_answers_again_after_sigcont(name: str) -> None:
    with private_server(name) as private:
        private.sigstop()
        family = processes.family(private.process)
        wait_until(lambda: {read_state(member) for member in family} == {"T"}, 10, "all have stopped")
        assert private.is_running

        private.sigcont()
        assert sql_value(private.url, "select 1") == 1


def read_state(process: processes.Process) -> str:
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()[0]


@pytest.mark.servers
def test_private_server_can_be_left_frozen() -> None:
    with private_server("POSTGRES16") as private:
        process = private.process
        private.sigstop()
    assert not processes.is_running(process)


@pytest.mark.servers
def test_config_lines_win_over_ours() -> None:
    with private_server("POSTGRES15", config="wal_level = replica\nmax_wal_senders = 3") as private:
        assert postgres_value(private.url, "show wal_level") == "replica"
    with private_server("MARIADB1011", config="binlog_format=MIXED\ngtid_strict_mode=OFF") as private:
        assert mysql_value(private.url, "select @@global.binlog_format") == "MIXED"
    with private_server("MYSQL80", config="binlog_row_image=MINIMAL") as private:
        assert mysql_value(private.url, "select @@global.binlog_row_image") == "MINIMAL"


@pytest.mark.servers
def test_hba_lines_make_a_role_give_its_password() -> None:
    with private_server("POSTGRES18", hba="host all clerk 127.0.0.1/32 scram-sha-256") as private:
        postgres_value(private.url, "create role clerk login password 'pw'")
        address = f"{private.host}:{private.port}/postgres"

        assert postgres_value(f"postgresql://clerk:pw@{address}", "select current_user") == "clerk"
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            postgres_value(f"postgresql://clerk:wrong@{address}", "select 1")


@pytest.mark.servers
def test_postgres_tls_is_verified_against_our_authority() -> None:
    with private_server("POSTGRES18", tls=True) as private:
        query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        trusted = f"{private.url}?sslmode=verify-full&sslrootcert={certificates()}/ca.crt"
        assert postgres_value(trusted, query) is True
        with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
            postgres_value(trusted.replace("ca.crt", "other-ca.crt"), query)


@pytest.mark.servers
@pytest.mark.parametrize("name", MYSQL_FAMILY[1:])  # 5.7 cannot read certificates of today
def test_mysql_tls_is_verified_against_our_authority(name: str) -> None:
    with private_server(name, tls=True) as private:
        cipher = "select variable_value from information_schema.session_status where variable_name = 'Ssl_cipher'"
        if name.startswith("MYSQL"):
            cipher = "select @@global.ssl_ca"
        options = {"ssl_ca": str(certificates() / "ca.crt"), "ssl_verify_identity": True, "ssl_verify_cert": True}
        assert mysql_value(private.url, cipher, **options)
        with pytest.raises(pymysql.OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
            mysql_value(private.url, cipher, **{**options, "ssl_ca": str(certificates() / "other-ca.crt")})


# ---- Kafka of a test's own


@pytest.mark.servers
def test_record_survives_the_kill_of_its_only_broker() -> None:
    with private_server("KAFKA") as private:
        broker = at(f"{private.host}:{private.port}")
        make_topic("bed", broker)
        send_record("bed", b"one", broker)

        private.kill()
        private.start()

        send_record("bed", b"two", broker)
        assert read_records("bed", 2, broker) == [b"one", b"two"]


@pytest.mark.servers
def test_cluster_goes_on_without_one_broker_and_takes_it_back() -> None:
    with kafka_cluster() as cluster:
        brokers = at(cluster.address)
        make_topic("bed", brokers, copies=3)
        send_record("bed", b"one", brokers)

        cluster.nodes[0].kill()
        send_record("bed", b"two", brokers)
        cluster.nodes[0].start()

        wait_until(lambda: copies_in_step("bed", brokers) == 3, 60, "the broker is in step again")
        assert read_records("bed", 2, brokers) == [b"one", b"two"]


def copies_in_step(topic: str, settings: Settings) -> int:
    found = AdminClient(dict(settings)).list_topics(topic, timeout=10)
    return len(found.topics[topic].partitions[0].isrs)


@pytest.mark.servers
def test_secure_kafka_lets_in_who_can_prove_it() -> None:
    folder = certificates()
    authority = {"ssl_ca_location": f"{folder}/ca.crt"}
    password = {"sasl_mechanism": "SCRAM-SHA-256", "sasl_username": "alice", "sasl_password": "pw"}
    certificate = {"ssl_certificate_location": f"{folder}/server.crt", "ssl_key_location": f"{folder}/server.key"}
    with secure_kafka() as secure:
        by_password = at(secure.sasl_plaintext, security_protocol="SASL_PLAINTEXT", **password)
        by_certificate = at(secure.mutual_tls, security_protocol="SSL", **authority, **certificate)
        by_both = at(secure.sasl_ssl, security_protocol="SASL_SSL", **authority, **password)
        make_topic("bed", by_password)
        send_record("bed", b"one", by_certificate)
        assert read_records("bed", 1, by_both) == [b"one"]

        assert "Authentication failed" in refusal({**by_password, "sasl.password": "wrong"})
        assert "SSL handshake failed" in refusal({**by_certificate, "ssl.ca.location": f"{folder}/other-ca.crt"})
        assert refusal(at(secure.mutual_tls, security_protocol="SSL", **authority))


def refusal(settings: Settings) -> str:
    """What a client is told that may not come in."""
    told: list[str] = []
    client = Producer({**settings, "error_cb": lambda error: told.append(str(error)), "log_level": 0})

    def poll() -> str:
        client.poll(0.1)
        return " ".join(message for message in told if "brokers are down" not in message)

    return wait_until(poll, 30, "the broker refuses")


# ---- the bed and pytest


def run_pytest(folder: Path, test: str, **environment: str) -> "subprocess.Popen[str]":
    """A run of its own, with our fixtures and one test file."""
    (folder / "test_inner.py").write_text(test)
    (folder / "pytest.ini").write_text(
        f"[pytest]\npythonpath = {TESTS}\naddopts = -p fix_servers -p no:cacheprovider\n"
    )
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTEST_", "TAILRACE_"))}
    clean["TAILRACE_TEST_CACHE"] = str(cache_folder())
    words = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-s", str(folder)]
    return subprocess.Popen(words, env={**clean, **environment}, cwd=folder, stdout=subprocess.PIPE, text=True)


@pytest.mark.servers
def test_next_session_ends_the_servers_of_a_killed_one(tmp_path: Path) -> None:
    server("POSTGRES18")  # or skip
    run = run_pytest(
        tmp_path,
        """
from fix_servers import private_server, server
def test_hangs():
    with private_server("POSTGRES18") as private:
        print("pids", private.process.pid, private.process.start_ticks, flush=True)
        input()
""",
    )
    assert run.stdout is not None
    line = next(line for line in run.stdout if line.startswith("pids") or "pids" in line)
    pid, start_ticks = line.split("pids")[1].split()
    orphan = processes.Process(int(pid), int(start_ticks))
    run.kill()
    run.communicate()
    assert processes.is_running(orphan)

    end_abandoned_sessions()

    assert not processes.is_running(orphan)
    assert not list((cache_folder() / "sessions").glob(f"{run.pid}-*/data"))


def test_skipped_server_skips_its_test_and_is_named_at_the_end(tmp_path: Path) -> None:
    test = "from fix_servers import server\ndef test_it():\n    server('MYSQL9')\n"
    output, _ = run_pytest(tmp_path, test, TAILRACE_SKIP_SERVERS="MYSQL9,KAFKA").communicate(timeout=60)
    assert "1 skipped" in output
    assert "NOT TESTED: MYSQL9 (TAILRACE_SKIP_SERVERS)" in output
    assert "NOT TESTED: KAFKA (TAILRACE_SKIP_SERVERS)" in output


def test_unknown_name_in_skip_servers_is_refused(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, "def test_it(): pass\n", TAILRACE_SKIP_SERVERS="MYSQL55")
    run.communicate(timeout=60)
    assert run.returncode == pytest.ExitCode.USAGE_ERROR


@pytest.mark.servers
def test_server_that_cannot_start_fails_its_test(tmp_path: Path) -> None:
    server("POSTGRES18")  # or skip
    test = """
from fix_servers import private_server
def test_it():
    with private_server("POSTGRES18", config="no_such_setting = 1"):
        pass
"""
    output, _ = run_pytest(tmp_path, test).communicate(timeout=120)
    assert "1 failed" in output
    assert 'unrecognized configuration parameter "no_such_setting"' in output


@pytest.mark.servers
def test_own_server_is_used_and_left_alone(tmp_path: Path) -> None:
    test = """
from fix_servers import fresh_postgres_database, server
def test_it():
    assert server("POSTGRES17").is_own
    assert server("POSTGRES17").version.startswith("17.")
    with fresh_postgres_database("POSTGRES17") as url:
        assert url.startswith(server("POSTGRES17").url.removesuffix("postgres"))
"""
    own = server("POSTGRES17").url
    output, _ = run_pytest(tmp_path, test, TAILRACE_TEST_POSTGRES17_URL=own).communicate(timeout=60)
    assert "1 passed" in output
    assert postgres_value(own, "select 1") == 1


# ---- waiting


def test_wait_until_returns_the_first_true_value() -> None:
    values = iter([None, 0, "here"])
    assert wait_until(lambda: next(values), 5, "a value") == "here"


def test_wait_until_says_what_did_not_come() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.05 s: the row arrives \(last value: 0\)"):
        wait_until(lambda: 0, 0.05, "the row arrives")


def test_signal_never_reaches_another_process_with_the_same_pid() -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        processes.send(processes.Process(stranger.pid, start_ticks=1), signal.SIGKILL)
        assert stranger.poll() is None
    finally:
        stranger.communicate()

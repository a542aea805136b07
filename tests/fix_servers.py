"""Real servers for tests: shared ones by name, fresh databases in them, and servers of a test's own to break.

A name (POSTGRES18, MYSQL9, …) becomes a running server on first use; every worker of the run shares it and the run
stops it. `TAILRACE_TEST_<NAME>_URL` puts a server of the tester's own in its place; `TAILRACE_SKIP_SERVERS` skips what
needs the names it lists. A server that cannot be had fails the test: it never skips it.
"""

import fcntl
import json
import os
import re
import signal
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from bed import processes
from bed.processes import free_ports, wait_until
from bed.session import Launch, ServerStartError, Session, end_abandoned_sessions, session_of_this_process

__all__ = [
    "CONNECT",
    "KAFKA",
    "MARIADB_NAMES",
    "MYSQL",
    "MYSQL_FAMILY",
    "MYSQL_FAMILY_NAMES",
    "MYSQL_NAMES",
    "NAMES",
    "POSTGRES_NAMES",
    "REGISTRY",
    "KafkaCluster",
    "PrivateServer",
    "SecureKafka",
    "Server",
    "ServerStartError",
    "certificates",
    "free_ports",
    "fresh_mysql_database",
    "fresh_postgres_database",
    "kafka_cluster",
    "private_server",
    "secure_kafka",
    "server",
    "skipped_names",
    "wait_until",
]

POSTGRES_NAMES = ("POSTGRES14", "POSTGRES15", "POSTGRES16", "POSTGRES17", "POSTGRES18")
MYSQL_NAMES = ("MYSQL57", "MYSQL80", "MYSQL9")
MARIADB_NAMES = ("MARIADB1011", "MARIADB118")
MYSQL_FAMILY_NAMES = MYSQL_NAMES + MARIADB_NAMES
# For `parametrize`: what else than its missing metadata tells 5.7 from 8.0 is for the long run.
_SLOWLY = pytest.param("MYSQL57", marks=pytest.mark.slow)
MYSQL = (_SLOWLY, *MYSQL_NAMES[1:])
MYSQL_FAMILY = (*MYSQL, *MARIADB_NAMES)
KAFKA = "KAFKA"
REGISTRY = "REGISTRY"
CONNECT = "CONNECT"  # not shared: `private_server(CONNECT, config="bootstrap.servers=…")`
NAMES = (*POSTGRES_NAMES, *MYSQL_FAMILY_NAMES, KAFKA, REGISTRY, CONNECT)

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class _Engine:
    script: str
    url: str
    ports: int = 1


_ENGINES = {
    "POSTGRES": _Engine("pg.sh", "postgresql://postgres@{host}:{port}/postgres"),
    "MYSQL": _Engine("mysql.sh", "mysql://cdc:pw@{host}:{port}/"),
    "MARIADB": _Engine("mariadb.sh", "mysql://cdc:pw@{host}:{port}/"),
    "KAFKA": _Engine("kafka.sh", "kafka://{host}:{port}", ports=2),  # the second one for its controller
    "REGISTRY": _Engine("registry.sh", "http://{host}:{port}/apis/ccompat/v7"),
    "CONNECT": _Engine("connect.sh", "http://{host}:{port}"),
}


def _engine(name: str) -> _Engine:
    assert name in NAMES, f"{name} is none of {', '.join(NAMES)}"
    return _ENGINES[name.rstrip("0123456789")]


def _version_word(name: str) -> str:
    """The part of a name that the scripts know: `18` of POSTGRES18, `current` of KAFKA."""
    return name.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ") or "current"


# ---- shared servers


@dataclass(frozen=True, slots=True)
class Server:
    """A running server. `is_own`: the tester's, not started by us; other people's data may be in it."""

    name: str
    url: str
    host: str
    port: int
    version: str
    is_own: bool


def server(name: str) -> Server:
    """The shared server of that name, started on first use.

    Skips the calling test when TAILRACE_SKIP_SERVERS lists the name.

    Raises:
        ServerStartError: it could not be fetched or started (the same error for every test that asks), or it ended.
    """
    _skip_if_listed(name)
    if name not in _known:
        own = os.environ.get(f"TAILRACE_TEST_{name}_URL")
        _known[name] = _own_server(name, own) if own else _shared_server(name)
    found = _known[name]
    if not found.is_own and _session().process(name) is None:
        raise ServerStartError(f"{name} ended during the run, log: {_session().log(name)}")
    return found


_known: dict[str, Server] = {}


def skipped_names() -> tuple[str, ...]:
    """The names of TAILRACE_SKIP_SERVERS, separated there by blanks or commas."""
    listed = tuple(re.findall(r"[^\s,]+", os.environ.get("TAILRACE_SKIP_SERVERS", "")))
    if unknown := sorted(set(listed) - set(NAMES)):
        raise pytest.UsageError(f"TAILRACE_SKIP_SERVERS: {', '.join(unknown)} is none of {', '.join(NAMES)}")
    return listed


def _skip_if_listed(name: str) -> None:
    if name in skipped_names():
        pytest.skip(f"{name} is in TAILRACE_SKIP_SERVERS")


def _shared_server(name: str) -> Server:
    """Start it, or take the reference of the worker that did (or that failed to: once is enough)."""
    folder = _session().folder / "shared"
    folder.mkdir(parents=True, exist_ok=True)
    reference = folder / f"{name}.json"
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not reference.exists():
            reference.write_text(json.dumps(_start_shared(name)))
    found = json.loads(reference.read_text())
    if "error" in found:
        raise ServerStartError(found["error"])
    return Server(**found)


def _start_shared(name: str) -> dict[str, Any]:
    try:
        private = _launch(name, instance=name, environment={"BED_FAST": "1"})
    except ServerStartError as error:
        return {"error": str(error)}
    return asdict(Server(name, private.url, private.host, private.port, private.version, is_own=False))


def _own_server(name: str, url: str) -> Server:
    first = url.split(",")[0]
    parts = urlsplit(first if "://" in first else f"//{first}")
    return Server(name, url, parts.hostname or HOST, parts.port or 0, _version_of(name, url), is_own=True)


def _version_of(name: str, url: str) -> str:
    if name in POSTGRES_NAMES:
        return str(_postgres_value(url, "show server_version"))
    if name in MYSQL_FAMILY_NAMES:
        return str(_mysql_value(url, "select version()"))
    return "unknown"


# ---- servers of a test's own


class PrivateServer:
    """A server of one test, to be broken by it. Its address stays, and its data until the test ends."""

    def __init__(self, name: str, port: int, session: Session, launch: Launch) -> None:
        """Start it and wait until it answers."""
        self.name = name
        self.host = HOST
        self.port = port
        self.url = _engine(name).url.format(host=HOST, port=port)
        self._session = session
        self._launch = launch
        self.version = launch.run(session)

    def start(self, *, config: str | None = None) -> None:
        """Start it again on its data after `stop` or `kill`; return when it answers. `config` replaces its lines."""
        if config is not None:
            environment = {**self._launch.environment, "BED_EXTRA": config}
            self._launch = replace(self._launch, environment=environment)
        assert not self.is_running, f"{self._launch.instance} runs already"
        self._launch.run(self._session)

    def stop(self) -> None:
        """Ask it to end (Postgres: fast shutdown) and return when it has, after at most 60 s."""
        process = self.process
        processes.send(process, signal.SIGINT if self.name in POSTGRES_NAMES else signal.SIGTERM)
        wait_until(lambda: not self._session.pid_file(self._launch.instance).exists(), 60, f"{self.name} ends")

    def kill(self) -> None:
        """SIGKILL it with all its children, as a crash; return when it is gone."""
        self._session.kill(self._launch.instance)

    def sigstop(self) -> None:
        """Freeze it with all its children: connections stay open and nothing answers."""
        processes.freeze(self.process)

    def sigcont(self) -> None:
        """Let it go on after `sigstop`."""
        processes.thaw(self.process)

    @property
    def process(self) -> processes.Process:
        """The server's main process."""
        process = self._session.process(self._launch.instance)
        assert process is not None, f"{self._launch.instance} does not run, log: {self.log}"
        return process

    @property
    def is_running(self) -> bool:
        """Also while it is frozen."""
        return self._session.process(self._launch.instance) is not None

    @property
    def log(self) -> Path:
        """What it wrote since its last start."""
        return self._session.log(self._launch.instance)

    @property
    def data(self) -> Path:
        """Its data folder."""
        return self._session.folder / "data" / self._launch.instance

    def destroy(self) -> None:
        """Kill it and remove its data."""
        self._session.destroy(self._launch.instance)


@contextmanager
def private_server(
    name: str, *, config: str = "", hba: str = "", tls: bool = False, fill: Callable[[Path], None] = lambda _data: None
) -> Iterator[PrivateServer]:
    """A server of the caller's own with its own data folder and port, and fsync on; destroyed at the end.

    `config`: further lines of its configuration file, which win over ours: postgresql.conf, my.cnf (section mysqld),
    server.properties, worker.properties (Connect); for the registry NAME=value of its environment. `hba`: lines put
    before the first one of pg_hba.conf. `tls`: it offers TLS with the certificates of `certificates()` (not Kafka: see
    `secure_kafka`). `fill`: puts data into its folder, which is not there yet, before the first start.
    """
    _skip_if_listed(name)
    environment = {"BED_EXTRA": config, "BED_HBA": hba, "BED_TLS": "1" if tls else ""}
    private = _launch(name, instance=_fresh_instance(name), environment=environment, fill=fill)
    try:
        yield private
    finally:
        private.destroy()


def _fresh_instance(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:8]}"


def _launch(
    name: str, *, instance: str, environment: Mapping[str, str], fill: Callable[[Path], None] = lambda _data: None
) -> PrivateServer:
    """Start a server on fresh ports; a start that fails leaves no process and no data."""
    engine = _engine(name)
    ports = free_ports(engine.ports)
    launch = Launch(engine.script, "start", _version_word(name), instance, tuple(map(str, ports)), environment)
    try:
        fill(_session().folder / "data" / instance)
        return PrivateServer(name, ports[0], _session(), launch)
    except BaseException:
        _session().destroy(instance)
        raise


@dataclass(frozen=True, slots=True)
class KafkaCluster:
    """Three brokers that are controllers too; topics have three copies, two of which must answer."""

    address: str
    nodes: tuple[PrivateServer, ...]


@contextmanager
def kafka_cluster(*, config: str = "") -> Iterator[KafkaCluster]:
    """A cluster of the caller's own; `config` adds lines to the properties of every node."""
    _skip_if_listed(KAFKA)
    instance, ports = _fresh_instance(KAFKA), free_ports(6)
    words = tuple(map(str, ports))

    def start(number: int) -> PrivateServer:
        node = Launch("kafka.sh", "node", f"{number}", f"{instance}-{number}", words, {"BED_EXTRA": config})
        return PrivateServer(KAFKA, ports[2 * number - 2], _session(), node)

    try:
        # Together: a broker answers only when most of the controllers are there.
        with ThreadPoolExecutor(3) as pool:
            nodes = tuple(pool.map(start, (1, 2, 3)))
        yield KafkaCluster(",".join(f"{node.host}:{node.port}" for node in nodes), nodes)
    finally:
        for number in (1, 2, 3):
            _session().destroy(f"{instance}-{number}")


@dataclass(frozen=True, slots=True)
class SecureKafka:
    """A broker with ACLs, password `pw` everywhere: `alice` by SCRAM-SHA-256, `bob` by SCRAM-SHA-512, `plain` by PLAIN.

    alice, plain and the certificate `server` are super users; bob and the certificate `client` start without rights.
    """

    server: PrivateServer
    sasl_plaintext: str
    mutual_tls: str
    sasl_ssl: str


@contextmanager
def secure_kafka(*, config: str = "") -> Iterator[SecureKafka]:
    """A broker of the caller's own that asks who is there."""
    _skip_if_listed(KAFKA)
    instance, ports = _fresh_instance(KAFKA), free_ports(4)
    launch = Launch("kafka.sh", "secure", "current", instance, tuple(map(str, ports)), {"BED_EXTRA": config})
    try:
        private = PrivateServer(KAFKA, ports[0], _session(), launch)
        yield SecureKafka(private, *(f"{HOST}:{port}" for port in (ports[0], ports[2], ports[3])))
    finally:
        _session().destroy(instance)


def certificates() -> Path:
    """A folder with ca.crt, other-ca.crt and .crt, .key, .pem of server, elsewhere, client, stranger (see certs.sh)."""
    return Path(Launch("certs.sh", "", "", "", ()).run(_session()))


# ---- fresh databases in shared servers


@contextmanager
def fresh_postgres_database(name: str, options: str = "") -> Iterator[str]:
    """The URL of a new database in the shared server; at the end it is dropped with its slots and its sessions.
    `options`: of its CREATE DATABASE."""
    admin = server(name).url
    database = f"t_{uuid.uuid4().hex[:12]}"
    _postgres_run(admin, f"create database {database} {options}")
    try:
        yield _with_database(admin, database)
    finally:
        _drop_postgres_database(admin, database)


def _drop_postgres_database(admin: str, database: str) -> None:
    inside = _with_database(admin, database)
    # Prepared transactions would keep the database, an active slot its walsender.
    for gid in _postgres_values(inside, "select gid from pg_prepared_xacts where database = current_database()"):
        _postgres_run(inside, f"rollback prepared '{gid}'")
    end = f"""
        select pg_terminate_backend(pid) from pg_stat_activity where datname = '{database}';
        select pg_drop_replication_slot(slot_name) from pg_replication_slots
        where database = '{database}' and not active
    """
    left = f"select slot_name from pg_replication_slots where database = '{database}'"

    def drop_slots() -> bool:
        _postgres_run(admin, end)
        return not _postgres_values(admin, left)

    wait_until(drop_slots, 20, f"the slots of {database} are dropped")
    _postgres_run(admin, f"drop database if exists {database} with (force)")


@contextmanager
def fresh_mysql_database(name: str) -> Iterator[str]:
    """The URL of a new database in the shared server; at the end it is dropped and sessions in it are ended."""
    admin = server(name).url
    database = f"t_{uuid.uuid4().hex[:12]}"
    _mysql_run(admin, f"create database {database}")
    try:
        yield _with_database(admin, database)
    finally:
        _drop_mysql_database(admin, database)


def _drop_mysql_database(admin: str, database: str) -> None:
    # An open transaction of a session that was left behind would block the drop.
    for number in wait_until(lambda: _sessions_in(admin, database), 30, "the list of sessions")[0]:
        _mysql_run(admin, f"kill {number}", may_fail_with=1094)  # ER_NO_SUCH_THREAD: it ended by itself
    _mysql_run(admin, "set session lock_wait_timeout = 30", f"drop database if exists {database}")


def _sessions_in(admin: str, database: str) -> list[list[object]]:
    """The numbers of the sessions in a database, in a list; none while MySQL 9 cannot show the list, because some session
    runs a statement with characters outside utf8mb3 (error 3854)."""
    import pymysql

    try:
        return [_mysql_values(admin, f"select id from information_schema.processlist where db = '{database}'")]
    except pymysql.MySQLError as error:
        if error.args[0] != 3854:
            raise
        return []


def _with_database(url: str, database: str) -> str:
    return urlsplit(url)._replace(path=f"/{database}").geturl()


def _postgres_run(url: str, statements: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        connection.execute(statements.encode())


def _postgres_values(url: str, query: str) -> list[object]:
    import psycopg

    with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
        return [row[0] for row in connection.execute(query.encode())]


def _postgres_value(url: str, query: str) -> object:
    return _postgres_values(url, query)[0]


def _mysql_cursor(url: str) -> AbstractContextManager[Any]:
    import pymysql

    @contextmanager
    def cursor() -> Iterator[Any]:
        parts = urlsplit(url)
        connection = pymysql.connect(
            host=parts.hostname,
            port=parts.port or 3306,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=parts.path.strip("/") or None,
            autocommit=True,
        )
        with connection, connection.cursor() as opened:
            yield opened

    return cursor()


def _mysql_run(url: str, *statements: str, may_fail_with: int = 0) -> None:
    import pymysql

    with _mysql_cursor(url) as cursor:
        for statement in statements:
            try:
                cursor.execute(statement)
            except pymysql.MySQLError as error:
                if error.args[0] != may_fail_with:
                    raise


def _mysql_values(url: str, query: str) -> list[object]:
    with _mysql_cursor(url) as cursor:
        cursor.execute(query)
        return [row[0] for row in cursor.fetchall()]


def _mysql_value(url: str, query: str) -> object:
    return _mysql_values(url, query)[0]


# ---- pytest


@pytest.fixture
def postgres_database() -> Iterator[Callable[[str], str]]:
    """`postgres_database("POSTGRES18")`: the URL of a fresh database, dropped after the test."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(fresh_postgres_database(name))


@pytest.fixture
def mysql_database() -> Iterator[Callable[[str], str]]:
    """`mysql_database("MARIADB118")`: the URL of a fresh database, dropped after the test."""
    with ExitStack() as stack:
        yield lambda name: stack.enter_context(fresh_mysql_database(name))


@pytest.fixture
def kafka() -> str:
    """The address of the shared broker, `host:port`. Topics are not removed: name them after the test."""
    return server(KAFKA).url.removeprefix("kafka://")


@pytest.fixture
def registry() -> str:
    """The base URL of the shared schema registry. Subjects are not removed: name them after the test."""
    return server(REGISTRY).url


_current_session: Session | None = None


def _session() -> Session:
    assert _current_session is not None, "fix_servers is not loaded as a pytest plugin"
    return _current_session


@contextmanager
def servers_outside_pytest() -> Iterator[None]:
    """For programs that are no test (benchmarks): `server`, `fresh_…` and `private_server` work inside the body."""
    global _current_session
    _current_session = session_of_this_process()
    end_abandoned_sessions()
    try:
        yield
    finally:
        _current_session.end(keep_logs=False)
        _current_session = None
        _known.clear()


def pytest_configure(config: pytest.Config) -> None:
    """Know the session's folder; a worker of pytest-xdist shares that of its controller."""
    global _current_session
    skipped_names()
    worker = getattr(config, "workerinput", None)
    _current_session = Session(Path(worker["bed_session"])) if worker else session_of_this_process()
    if not worker:
        end_abandoned_sessions()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a new worker the session's folder."""
    node.workerinput["bed_session"] = str(_session().folder)


_failed = False


def pytest_sessionfinish(exitstatus: int) -> None:
    """Remember whether the logs are worth keeping."""
    global _failed
    _failed = exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the servers that nothing was tested with."""
    for name in skipped_names():
        terminalreporter.write_line(f"NOT TESTED: {name} (TAILRACE_SKIP_SERVERS)")
    failed = terminalreporter.stats.get("failed") or terminalreporter.stats.get("error")
    if failed and _current_session and _current_session.folder.exists():
        terminalreporter.write_line(f"server logs: {_current_session.folder / 'log'}")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what the session started; workers have ended by now."""
    if _current_session and not hasattr(config, "workerinput") and _current_session.folder.exists():
        _current_session.end(keep_logs=_failed)

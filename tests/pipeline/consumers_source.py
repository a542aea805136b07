"""Tables for foreign consumers, and a writer that changes them while they are captured.

Every change of a row sets `step` to the number of its transaction, so the order of events can be judged by it.
`items` and `pairs` hold types that every consumer here can write, `wide` those that only few can. `texts` and `notes`
have values that Postgres keeps outside the row and does not send when they did not change; those of `notes` it sends
in the old row, by its replica identity. `loose` has no key.
"""

from __future__ import annotations

import json
import random
import signal
import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import fix_servers
import psycopg
import pymysql
from confluent_kafka.admin import AdminClient
from fix_command import started, tailrace
from fix_consumers import Record, Registry, TopicReader, write_and_abort
from fix_servers import KAFKA, POSTGRES_NAMES, REGISTRY, fresh_mysql_database, fresh_postgres_database, wait_until

Row = dict[str, Any]
LARGE = 4000  # characters: beyond what Postgres keeps inside the row
KEYS = 300

POSTGRES = [
    "create type mood as enum ('calm', 'it''s', 'loud')",
    """create table items (id bigint primary key, step integer not null, ok boolean, small smallint, r real,
       d double precision, amount numeric(12,2), name varchar(40), data bytea, day date, at3 timestamp(3),
       at6 timestamp, tz timestamptz, doc jsonb, mood mood, tm time, uid uuid, tags text[], bits bit(5))""",
    "create table pairs (a integer, step integer not null, b varchar(20), primary key (b, a))",
    "create table wide (id integer primary key, step integer not null, free numeric, span interval, day date)",
    "create table texts (id integer primary key, step integer not null, body text)",
    "create table notes (id integer primary key, step integer not null, body text)",
    "alter table texts alter body set storage external",
    "alter table notes alter body set storage external, replica identity full",
    "create table loose (n integer, step integer not null, t text)",
    "alter table loose replica identity full",
]
MYSQL = [
    """create table items (id bigint primary key, step integer not null, ok boolean, small smallint, r float,
       d double, amount decimal(12,2), name varchar(40), data varbinary(100), day date, at3 datetime(3),
       at6 datetime(6), tz timestamp(6) null, doc json, mood enum('calm', 'it''s', 'loud'), tm time(3), y year,
       marks set('a', 'b', 'c'), big bigint unsigned)""",
    "create table pairs (a integer, step integer not null, b varchar(20), primary key (b, a))",
    "create table wide (id integer primary key, step integer not null, tm time(3), bits bit(5))",
    "create table texts (id integer primary key, step integer not null, body mediumtext)",
    "create table notes (id integer primary key, step integer not null, body mediumtext)",
    "create table loose (n integer, step integer not null, t text)",
]
KEYED = ("items", "pairs", "wide", "texts", "notes")
FILL = 400
TEXTS = 40
PAUSE = 0.01  # seconds between two transactions, so that capture keeps up on a busy machine
# What only their text says exactly is compared as text.
WIDE_POSTGRES = "id, step, free::text, span::text, day::text"

PIPELINE = """
name: {prefix}
source: {{url: "{url}", heartbeat_seconds: 1}}
log: kafka://{brokers}?registry={registry}&partitions=4
transaction_metadata: true
sinks: []
"""


class SourceTables:
    """A session of the source's own driver; both take `%s`."""

    def __init__(self, url: str) -> None:
        self.url, self.is_postgres = url, url.startswith("postgresql")
        self.namespace = "public" if self.is_postgres else url.rpartition("/")[2]
        self.database = url.rpartition("/")[2]
        self.connection: Any = psycopg.connect(url) if self.is_postgres else _mysql(url)
        self.cursor: Any = self.connection.cursor()
        self.step = 0

    def create(self, draw: random.Random) -> None:
        for statement in POSTGRES if self.is_postgres else MYSQL:
            self.cursor.execute(statement)
        for number in range(FILL):
            self.insert_item(number)
            self.run("insert into pairs (b, a, step) values (%s, %s, 0)", f"b{number % 7}", number)
        for number in range(TEXTS):
            self._texts(f"insert into {{}} values ({number}, 0, %s)", draw.choice("abc") * LARGE)
        for number in range(60):
            self.insert_wide(number)
            self.run("insert into loose values (%s, 0, %s)", number % 20, f"t{number % 3}")
        self.connection.commit()

    def run(self, statement: str, *values: Any) -> None:
        self.cursor.execute(statement, values)

    def change(self, draw: random.Random) -> None:
        """One transaction, which may touch several tables."""
        self.step += 1
        for act in draw.sample(self._acts(), draw.choice([1, 1, 2, 3])):
            act(draw, draw.randrange(KEYS))
        self.connection.commit()

    def _acts(self) -> list[Callable[[random.Random, int], None]]:
        return [
            self._insert,
            self._update,
            self._key,
            self._delete,
            self._pair,
            self._text,
            self._text_key,
            self._loose,
        ]

    def insert_item(self, number: int) -> None:
        at = datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC) + timedelta(days=number, microseconds=1000 * number)
        values: list[Any] = [
            number, self.step, number % 2 == 0, number - 300, number / 8, number / 3, Decimal(number) / 100,
            f"näme {number} 🐘", bytes([number % 256, 0, 255]), at.date(), at, at + timedelta(microseconds=7),
            at, f'{{"n": [{number}, null, "ü"]}}',
            ("calm", "it's", "loud")[number % 3], "23:59:59.123",
            *((str(uuid.UUID(int=number)), ["a", None, 'b,"c'], "10110") if self.is_postgres else (2000, "a,c", 2**64 - 1)),
        ]  # fmt: skip
        if number % 5 == 1:
            values[2:] = [None] * (len(values) - 2)
        marks = ", ".join(["%s"] * len(values))
        if self.is_postgres:
            self.run(f"insert into items values ({marks}) on conflict do nothing", *values)
        else:
            self.run(f"insert ignore into items values ({marks})", *values)

    def insert_wide(self, number: int) -> None:
        if self.is_postgres:
            free = ("NaN", "Infinity", "12345678901234567890.0987654321", "-0.50", None)[number % 5]
            day = ("infinity", "2024-02-29", None)[number % 3]
            self.run("insert into wide values (%s, 0, %s, '1 month -2 days 03:00:00.5', %s)", number, free, day)
        else:
            self.run(
                "insert into wide values (%s, 0, %s, b'10110')", number, ("-838:59:59", "12:00:00.125")[number % 2]
            )

    def _insert(self, draw: random.Random, number: int) -> None:
        self.insert_item(number)

    def _update(self, draw: random.Random, number: int) -> None:
        self.run(
            "update items set step = %s, small = small + 1 where id between %s and %s", self.step, number, number + 3
        )

    def _key(self, draw: random.Random, number: int) -> None:
        """To a key that is free, perhaps because its row was deleted."""
        wanted = draw.randrange(KEYS)
        self.run("select id from items where id = %s", wanted)
        if not self.cursor.fetchall():
            self.run("update items set id = %s, step = %s where id = %s", wanted, self.step, number)
        self.run("update pairs set b = concat(b, 'x'), step = %s where a = %s and length(b) < 20", self.step, number)

    def _delete(self, draw: random.Random, number: int) -> None:
        self.run("delete from items where id between %s and %s", number, number + 2)

    def _pair(self, draw: random.Random, number: int) -> None:
        self.run("delete from pairs where a = %s", number)
        self.run("insert into pairs (b, a, step) values (%s, %s, %s)", f"n{self.step}", number, self.step)
        self.run("update wide set step = %s where id = %s", self.step, number % 60)

    def _texts(self, statement: str, *values: Any) -> None:
        for table in ("texts", "notes"):
            self.run(statement.format(table), *values)

    def _text(self, draw: random.Random, number: int) -> None:
        """Mostly without touching the large column."""
        if draw.randrange(4) == 0:
            self._texts(
                f"update {{}} set step = {self.step}, body = %s where id = {number % TEXTS}", f"{number}-" * LARGE
            )
        self._texts("update {} set step = %s where id between %s and %s", self.step, number % TEXTS, number % TEXTS + 2)

    def _text_key(self, draw: random.Random, number: int) -> None:
        """A row takes the key of a deleted one, and a new row takes its own."""
        old, new = number % TEXTS, (number + 1) % TEXTS
        self._texts("delete from {} where id = %s", new)
        self._texts("update {} set step = %s, id = %s where id = %s", self.step, new, old)
        self._texts("insert into {} values (%s, %s, %s)", old, self.step, "new" * LARGE)

    def _loose(self, draw: random.Random, number: int) -> None:
        self.run("insert into loose values (%s, %s, 'new')", number % 20, self.step)
        self.run(
            "update loose set t = concat(t, 'u'), step = %s where n = %s and length(t) < 9", self.step, number % 20
        )
        self.run("delete from loose where n = %s", number % 11)

    def rows(self, query: str) -> list[Row]:
        self.cursor.execute(query)
        names = [column[0] for column in self.cursor.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in self.cursor.fetchall()]
        self.connection.commit()
        return rows

    def close(self) -> None:
        self.connection.close()


def _mysql(url: str) -> Any:
    address, _, database = url.removeprefix("mysql://cdc:pw@").partition("/")
    host, _, port = address.partition(":")
    return pymysql.connect(
        host=host, port=int(port), user="cdc", password="pw", database=database, init_command="set time_zone = '+00:00'"
    )


@contextmanager
def writing(url: str, draw: random.Random) -> Iterator[None]:
    """A writer in a session of its own, until the end of the block; its error is raised there."""
    stop, errors = threading.Event(), list[BaseException]()

    def work() -> None:
        session = SourceTables(url)
        try:
            while not stop.wait(PAUSE):
                session.change(draw)
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)
        finally:
            session.close()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()
    if errors:
        raise errors[0]


def comparable(row: Row) -> Row:
    """One Python type for what drivers and topics give several: MySQL has no JSON type and no zone, for instance."""
    out = {}
    for name, value in row.items():
        if isinstance(value, time):
            value = timedelta(
                hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
            )
        elif isinstance(value, Decimal) and name in ("free", "big"):
            value = str(value) if name == "free" else int(value)
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = value.isoformat()
        elif isinstance(value, str) and name == "doc":
            value = json.loads(value)
        elif isinstance(value, datetime) and name == "tz":
            value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
        out[name] = value
    return out


# ---- topics of such tables


@dataclass(frozen=True, slots=True)
class Captured:
    """All that a capture left in Kafka of a source that no longer changes, as a plain consumer read it."""

    source: SourceTables
    brokers: str
    registry: Registry
    prefix: str
    records: list[Record]

    def topic(self, table: str) -> str:
        return f"{self.prefix}.{self.source.namespace}.{table}"

    @property
    def data_topics(self) -> list[str]:
        return [self.topic(table) for table in (*KEYED, "loose")]

    def read(self, topic: str) -> list[Record]:
        with TopicReader(self.brokers, self.registry, [topic]) as reader:
            return reader.read()

    def source_rows(self, table: str) -> list[Row]:
        columns = WIDE_POSTGRES if table == "wide" and self.source.is_postgres else "*"
        return [comparable(row) for row in self.source.rows(f"select {columns} from {table}")]


@contextmanager
def captured_topics(server: str, folder: Path, draw: random.Random) -> Iterator[Captured]:
    """Load under changes, a capture killed in the middle of them and another that goes on; then an aborted record."""
    prefix = f"c{uuid.uuid4().hex[:10]}"
    brokers, registry = (
        fix_servers.server(KAFKA).url.removeprefix("kafka://"),
        Registry(fix_servers.server(REGISTRY).url),
    )
    fresh = fresh_postgres_database if server in POSTGRES_NAMES else fresh_mysql_database
    registry.separate_ids(prefix)
    with fresh(server) as url, closing(SourceTables(url)) as source:
        source.create(draw)
        (folder / "pipeline.yaml").write_text(
            PIPELINE.format(prefix=prefix, url=url, brokers=brokers, registry=registry.url)
        )
        captured = Captured(source, brokers, registry, prefix, [])
        with writing(url, draw):
            like = _capture_and_kill(captured, folder)
        ended = tailrace(folder, "capture", str(folder / "pipeline.yaml"), "--until-current")
        assert ended.code == 0, ended.text
        write_and_abort(brokers, registry, like, id=-1)
        with TopicReader(brokers, registry, captured.data_topics) as reader:
            captured.records.extend(reader.read())
        yield captured


def _capture_and_kill(captured: Captured, folder: Path) -> Record:
    """Gives an event of a loaded row."""
    with started(folder, "capture", str(folder / "pipeline.yaml")) as process:
        wait_until(lambda: _have_all(captured), 60, "the topics are there")
        with TopicReader(captured.brokers, captured.registry, [captured.topic("items")]) as reader:
            wait_until(lambda: _is_varied(reader.read()), 60, "changes of every kind are in the log")
        assert process.is_running
        process.send(signal.SIGKILL)
        return next(record for record in reader.records if record.value and record.value["op"] == "r")


def _have_all(captured: Captured) -> bool:
    have = AdminClient({"bootstrap.servers": captured.brokers}).list_topics(timeout=20).topics
    return set(captured.data_topics) <= set(have)


def _is_varied(records: list[Record]) -> bool:
    values = [record.value for record in records if record.value is not None]
    counts = Counter(value["op"] for value in values)
    counts["key change"] = sum(bool(record.headers) for record in records)
    return all(counts[kind] > 30 for kind in ("r", "c", "u", "d", "key change"))

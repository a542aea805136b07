"""Random rows of every type: what the load says = what the stream says = what the target holds, by the databases' word.

A table a family. The same rows are there twice: under ids 1… when the load begins, and again, inserted while it streams,
under ids N+1…; then rows are updated, in part and as a whole. The slow form takes TAILRACE_TYPES_VALUES values a family.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import fix_rows_mysql
import fix_rows_postgres
import pytest
from bed.processes import wait_until
from fix_capture import LogReading
from fix_pipeline import side
from fix_rows import Family, Values, rows
from pipeline.matrix.command import Command
from pipeline.matrix.engine import Session, Side

from tailrace_log.embedded import EmbeddedLog

pytestmark = pytest.mark.servers

SOURCES: dict[str, Family] = {
    "POSTGRES18": fix_rows_postgres.FAMILIES,
    "MYSQL9": fix_rows_mysql.MYSQL,
    "MARIADB118": fix_rows_mysql.MARIADB,
    "MYSQL80": fix_rows_mysql.FAMILIES,
}
SCHEMA = "typed"


@dataclass(frozen=True, slots=True)
class Trip:
    """One pipeline: a source, the families of its tables, and targets. `rows`: of each table, each of them twice."""

    source: Side
    targets: tuple[Side, ...]
    families: Family
    rows: dict[str, int]
    folder: Path
    random: Random

    def run(self) -> None:
        command = self._command()
        try:
            self._create()
            inserts = {name: self._inserts(name, family) for name, family in self.families.items()}
            with self.source.session() as session:
                prepare(self.source, session)
                for name, texts in inserts.items():
                    self._insert(session, name, texts, 0)
                command.start()
                self._keep_log()
                wait_until(command.is_loaded, 120, "the load")
                for name, texts in inserts.items():
                    self._insert(session, name, texts, self.rows[name])
                    self._update(session, name)
                session.run("INSERT INTO done VALUES (1)")
            wait_until(lambda: self._is_done(command), 60 + sum(self.rows.values()) / 100, "the targets")
            command.stop()
        finally:
            command.close()

    def judge(self) -> None:
        wrong = [*log_differences(self), *target_differences(self)]
        assert not wrong, "\n".join(["", *wrong])

    @property
    def log(self) -> EmbeddedLog:
        return EmbeddedLog(self.folder / "state" / "log.db", f"types_{self.source.namespace}")

    def _keep_log(self) -> None:
        """One more sink that never gets on, so that nothing is trimmed: as soon as the writer has made its list of them."""
        path = self.folder / "state" / "log.db"
        wait_until(path.exists, 60, "the log")
        reader = self.log.reader()
        wait_until(lambda: reader.commits(-1, 1, 0.0), 60, "the first commit record")
        reader.applied("judge", -1)

    def _command(self) -> Command:
        sinks = [{"name": f"s{n}", "url": self._url(target)} for n, target in enumerate(self.targets)]
        pipeline = {
            "name": f"types_{self.source.namespace}",
            "source": {"url": self.source.url, "tables": [f"{self.source.namespace}.*"]},
            "load": {"readers": 2, "chunk_rows": 1000},
            "zero_dates": "null",
            "sinks": sinks,
        }
        return Command(self.folder, pipeline)

    def _url(self, target: Side) -> str:
        """A target in MySQL that names a database takes the source's tables into it; progress beside them."""
        if target.engine == "postgresql":
            return target.url
        return f"{target.url}?progress={target.namespace}.tailrace_progress"

    def _create(self) -> None:
        if self.source.engine == "postgresql":
            for side_ in (self.source, *self.targets):
                if side_.engine == "postgresql":
                    with Side("postgresql", side_.url, "public").session() as session:
                        session.run(fix_rows_postgres.PREPARE + f"CREATE SCHEMA {SCHEMA}")
        with self.source.session() as session:
            prepare(self.source, session)
            session.run("CREATE TABLE done (id int PRIMARY KEY)")
            for name, family in self.families.items():
                columns = ", ".join(f"c{n} {values.type}" for n, values in enumerate(family))
                more = "" if self.source.engine == "postgresql" else " CHARSET utf8mb4 ROW_FORMAT=DYNAMIC"
                session.run(f"CREATE TABLE {name} (id int PRIMARY KEY, {columns}){more}")

    def _inserts(self, name: str, family: tuple[Values, ...]) -> list[str]:
        return [", ".join(row) for row in rows(family, self.rows[name], self.random)]

    def _insert(self, session: Session, name: str, texts: list[str], above: int) -> None:
        for start in range(0, len(texts), 200):
            values = ", ".join(
                f"({above + start + n + 1}, {text})" for n, text in enumerate(texts[start : start + 200])
            )
            session.run(f"INSERT INTO {name} VALUES {values}")

    def _update(self, session: Session, name: str) -> None:
        """Of the loaded rows: a third as a whole, a third in one column, a third to NULL."""
        count, width = self.rows[name], len(self.families[name])
        for part, columns in ((1, range(width)), (2, range(1))):
            if self.source.engine == "postgresql":
                text = ", ".join(f"c{n} = s.c{n}" for n in columns)
                session.run(f"UPDATE {name} t SET {text} FROM {name} s"
                            f" WHERE t.id <= {count} AND t.id % 3 = {part} AND s.id = t.id + {count - 1}")  # fmt: skip
            else:
                text = ", ".join(f"t.c{n} = s.c{n}" for n in columns)
                session.run(f"UPDATE {name} t JOIN {name} s ON s.id = t.id + {count - 1} SET {text}"
                            f" WHERE t.id <= {count} AND t.id % 3 = {part}")  # fmt: skip
        session.run(f"UPDATE {name} SET c{width - 1} = NULL WHERE id <= {count} AND id % 3 = 0")

    def _is_done(self, command: Command) -> bool:
        """Every target has the source's last transaction. A sink that stops does not end the others' process."""
        command.check()
        for number in range(len(self.targets)):
            error = command.status(f"sink-s{number}").get("error")
            assert error is None, error
        return all(shown(target, "done", []) == [(1,)] for target in self.targets)


def prepare(side_: Side, session: Session) -> None:
    if side_.engine == "mysql":
        session.run("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'")
    else:
        session.run(f'SET search_path = "{side_.namespace}", public')


def shown(side_: Side, name: str, expressions: list[str]) -> list[tuple[Any, ...]]:
    """The rows as the database prints them."""
    columns = "".join(text.replace("{}", f"c{n}") + ", " for n, text in enumerate(expressions))
    with side_.session() as session:
        prepare(side_, session)
        return session.rows(f"SELECT {columns}id FROM {name} ORDER BY id")


def own_text(values: Values, engine: str) -> str:
    """What tells any two values of the type apart, as the same engine prints it."""
    if engine == "postgresql":
        return "encode(bpcharsend({}), 'hex')" if values.type == "character(12)" else "{}::text"
    return "HEX(CAST({} + 0e0 AS CHAR))" if values.type.startswith(("float", "double")) else "HEX(CAST({} AS BINARY))"


def target_differences(trip: Trip) -> list[str]:
    """What differs, a line for each column of a target."""
    out = []
    for name, family in trip.families.items():
        for target in trip.targets:
            alike = target.engine == trip.source.engine
            left = [own_text(v, trip.source.engine) if alike else v.shown for v in family]
            right = [own_text(v, target.engine) if alike else v.there for v in family]
            here, there = shown(trip.source, name, left), shown(target, name, right)
            assert [row[-1] for row in here] == [row[-1] for row in there] == list(range(1, 2 * trip.rows[name] + 1))
            for n, values in enumerate(family):
                wrong = [(a[-1], a[n], b[n]) for a, b in zip(here, there, strict=True)
                         if not _equal(a[n], b[n], str if alike else values.same)]  # fmt: skip
                if wrong:
                    shortest = min(wrong, key=lambda found: len(str(found)))
                    out.append(
                        f"{name}: {values.type}: {len(wrong)} values, such as (id, source, target) {shortest!r:.600}"
                    )
    return out


def _equal(here: object, there: object, same: Any) -> bool:
    if here is None or there is None:
        return here is there
    return bool(same(_text(here)) == same(_text(there)))


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def log_differences(trip: Trip) -> list[str]:
    """Where the load's and the stream's words for the same value differ, by fastavro."""
    loaded: dict[tuple[str, int], Any] = {}
    out = []
    for topic, key, event in LogReading(trip.log).events():
        name = topic.rpartition(".")[2]
        if event is None or key is None or name not in trip.families or event.get("op") not in ("r", "c"):
            continue
        after = event["after"]
        number = after.pop("id")
        words = {
            column: (repr(value), (event["exact_values"] or {}).get(f"after.{column}"))
            for column, value in after.items()
        }
        if event["op"] == "r":
            loaded[name, number] = words
            continue
        before = loaded.pop((name, number - trip.rows[name]))
        for n, values in enumerate(trip.families[name]):
            if words[f"c{n}"] != before[f"c{n}"]:
                out.append(f"{name}: {values.type}: load {before[f'c{n}']!r:.300} stream {words[f'c{n}']!r:.300}")
    assert not loaded
    return _shorter(out)


def _shorter(lines: list[str]) -> list[str]:
    """One line of each column."""
    return list({line[: line.index(": ", line.index(": ") + 1)]: line for line in lines}.values())


@contextmanager
def trip(
    source: str, targets: tuple[str, ...], families: Family, count: int, folder: Path, random: Random
) -> Iterator[Trip]:
    """`count`: values a family, half of them in the load."""
    with ExitStack() as stack:
        left = stack.enter_context(side(source, SCHEMA))
        right = tuple(stack.enter_context(side(name, left.namespace)) for name in targets)
        sizes = {name: max(count // (2 * len(f)), 12 + max(len(v.edges) for v in f)) for name, f in families.items()}
        yield Trip(left, right, families, sizes, folder, random)


CASES = {
    "POSTGRES18": ("POSTGRES18",),
    "MYSQL9": ("MYSQL9", "POSTGRES18"),
    "MARIADB118": ("MARIADB118", "POSTGRES18"),
}


@pytest.mark.parametrize("source", CASES)
@pytest.mark.case("A14", "A15", verdict="=")
def test_values_are_the_same_by_load_by_stream_and_at_the_target(source: str, seed: int, tmp_path: Path) -> None:
    with trip(source, CASES[source], SOURCES[source], 300, tmp_path / "p", Random(f"{seed} {source}")) as found:
        found.run()
        found.judge()


def test_values_of_postgres_in_mysql(seed: int, tmp_path: Path) -> None:
    families = fix_rows_postgres.IN_MYSQL
    with trip("POSTGRES18", ("MYSQL9", "MARIADB118"), families, 300, tmp_path / "p", Random(f"{seed} mysql")) as found:
        found.run()
        found.judge()


VALUES = int(os.environ.get("TAILRACE_TYPES_VALUES", "100000"))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("source", [*CASES, "MYSQL80", "IN_MYSQL"])
def test_a_hundred_thousand_values_a_family(source: str, seed: int, tmp_path: Path) -> None:
    families = fix_rows_postgres.IN_MYSQL if source == "IN_MYSQL" else SOURCES[source]
    targets = ("MYSQL9", "MARIADB118") if source == "IN_MYSQL" else CASES.get(source, (source, "POSTGRES18"))
    server = "POSTGRES18" if source == "IN_MYSQL" else source
    with trip(server, targets, families, VALUES, tmp_path / "p", Random(f"{seed} long {source}")) as found:
        found.run()
        found.judge()

"""A pipeline whose tables are families of types: rows that are there when the load begins, and the same while it streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import fix_rows_postgres
from bed.processes import wait_until
from fix_pipeline import side
from fix_rows import Family, Values, rows
from pipeline.matrix.command import Command
from pipeline.matrix.engine import Session, Side

from tailrace_log.embedded import EmbeddedLog

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
        return all(exists(target, "done") and shown(target, "done", []) == [(1,)] for target in self.targets)


def prepare(side_: Side, session: Session) -> None:
    if side_.engine == "mysql":
        session.run("SET SESSION sql_mode = 'ALLOW_INVALID_DATES'")
    else:
        session.run(f'SET search_path = "{side_.namespace}", public')


def exists(side_: Side, name: str) -> bool:
    with side_.session() as session:
        words = "SELECT 1 FROM information_schema.tables WHERE"
        return bool(session.rows(f"{words} table_schema = '{side_.namespace}' AND table_name = '{name}'"))


def shown(side_: Side, name: str, expressions: list[str]) -> list[tuple[Any, ...]]:
    """The rows as the database prints them."""
    columns = "".join(text.replace("{}", f"c{n}") + ", " for n, text in enumerate(expressions))
    with side_.session() as session:
        prepare(side_, session)
        return session.rows(f"SELECT {columns}id FROM {name} ORDER BY id")


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

"""Rows of one table into a MySQL or MariaDB target, inside the batch's transaction.

Ways, the first that fits: rows into the target by INSERT … ON DUPLICATE KEY UPDATE, where the source's key is its only
unique key, so that it cannot meet another row · a temporary stage, then DELETE, UPDATE, INSERT · the same stage, all
its keys deleted and inserted, when a unique value moved between keys inside the batch · the parked table, when one
moves between batches of a load (see `parked`) · one by one in source order for tables without key. Every statement is
looked at for notes that mean a changed value (`Session.write`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import pymysql

from tailrace_schemas.table import Column, TableId, TableSchema
from tailrace_sinks import decode, envelope
from tailrace_sinks.decode import Change, Compacted, Compactor, Counts
from tailrace_sinks.envelope import MISSING
from tailrace_sinks.mysql_errors import number_of
from tailrace_sinks.mysql_session import Session, TargetTable, quote, quoted
from tailrace_sinks.plan import MYSQL_SQL, decode_plan
from tailrace_sinks.row_errors import decode_error, no_before_image, row_missing
from tailrace_sinks.sink import SinkConfig

OP_UPSERT, OP_DELETE, OP_FIRST_SET = 0, 1, 2
DUPLICATE = (1062, 1586)
_EXACT_NUMBERS = (envelope.R_INT, envelope.R_DECIMAL, envelope.R_NUMBER, envelope.R_YEAR)


class Parking(Protocol):
    """See `mysql_parked.ParkedTables`."""

    allowed: bool

    def hold(self, source: TableId) -> bool: ...

    def apply(self, session: Session, table: TableApply, state: Compacted) -> None: ...


@dataclass
class TableApply:
    """A source table under one schema id and its target; lives as long as the session, whose stage it names.

    `names`: source column → target column where they differ. `place`: the database temporary tables are made in.
    `careful`: expect unique keys that the catalogue did not show.
    """

    schema: TableSchema
    target: TargetTable
    number: int
    place: str
    chunk_bytes: int
    names: Mapping[str, str] = field(default_factory=dict)
    careful: bool = False
    parking: Parking | None = None

    def __post_init__(self) -> None:
        self.plan = decode_plan(self.schema, MYSQL_SQL)
        self.name = quoted(self.target.table)
        self.stage = f"{quote(self.place)}.{quote(f'tailrace_stage_{self.number}')}"
        targets = [self.names.get(column.name, column.name) for column in self.schema.columns]
        self.key_names = tuple(self.names.get(name, name) for name in self.schema.key)
        self.columns = [quote(name) for name in targets]
        self.key = [quote(name) for name in self.key_names]
        self.written = [quote(name) for name in targets if not self.target.columns[name].generated]
        self.same_key = " AND ".join(f"t.{name} = s.{name}" for name in self.key)
        uniques = self.target.uniques
        self.is_only_key = self.target.has_unique(self.key_names) and len(uniques) == 1 and not self.careful
        self.has_stage = self.stage_is_dirty = False
        of_target = ((c, self.names.get(c.name, c.name)) for c in self.schema.columns)
        self.blank = frozenset(name for c, name in of_target if may_be_blank(c, self.target.columns[name].type))

    def _write(self, session: Session, statement: str | bytes) -> int:
        return session.write(statement, self.target.table, self.blank)

    # ---- tables with a key

    def apply_keyed(self, session: Session, pieces: Sequence[bytes]) -> Counts:
        """Frames of one schema, in order per key."""
        direct = self.is_only_key and self.written == self.columns and not self._is_parked
        compactor = Compactor(self.plan, b"(" if direct else b"(0,", b"(1,", self.chunk_bytes)
        try:
            for data in pieces:
                compactor.add(data)
            state = compactor.finish()
        except envelope.FAULTS as error:
            raise decode_error(self.schema, error) from error
        if direct:
            self._apply_direct(session, state)
        else:
            self._apply_staged(session, state)
        return compactor.counts

    def _apply_direct(self, session: Session, state: Compacted) -> None:
        rest = Compacted()
        rest.deletes, rest.delete_count = state.deletes, state.delete_count
        rest.partial, rest.fresh = state.partial, state.fresh
        if state.delete_count or state.partial or state.fresh:
            self._fill_stage(session, rest)
        if state.delete_count:
            self._delete_staged(session, f"s._op = {OP_DELETE}")
        alias, new = ("", "VALUES({})") if session.flavor.mariadb else (" AS tailrace_new", "tailrace_new.{}")
        sets = ", ".join(f"{name} = {new.format(name)}" for name in self.columns)
        head = f"INSERT INTO {self.name} ({', '.join(self.columns)}) VALUES ".encode()
        tail = f"{alias} ON DUPLICATE KEY UPDATE {sets}".encode()
        for chunk in state.upserts:
            self._write(session, head + chunk[:-1] + tail)
        self._apply_sets(session, state)

    def _apply_staged(self, session: Session, state: Compacted) -> None:
        self._fill_stage(session, state)
        if self.parking is not None and self._is_parked:
            self.parking.apply(session, self, state)
            return
        session.run("SAVEPOINT tailrace")
        try:
            self._delete_staged(session, f"s._op = {OP_DELETE}")
            if state.upsert_count:
                self._update_staged(session, OP_UPSERT, [n for n in self.written if n not in self.key])
                self._insert_staged(session, OP_UPSERT, self.written, absent=True)
            self._apply_sets(session, state)
        except pymysql.err.IntegrityError as error:
            if number_of(error) not in DUPLICATE:
                raise
            session.run("ROLLBACK TO SAVEPOINT tailrace")
            self._apply_replaced(session, state)

    def _apply_replaced(self, session: Session, state: Compacted) -> None:
        try:
            self.replace(session, state)
        except pymysql.err.IntegrityError as error:
            if number_of(error) not in DUPLICATE or self.parking is None or not self.parking.allowed:
                raise
            session.run("ROLLBACK TO SAVEPOINT tailrace")
            self.parking.apply(session, self, state)

    @property
    def _is_parked(self) -> bool:
        return self.parking is not None and self.parking.hold(self.schema.table)

    def _fill_stage(self, session: Session, state: Compacted) -> None:
        if not self.has_stage:
            # Through an outer join every column is nullable, whatever it is at the target.
            columns = ", ".join(f"t.{name}" for name in self.columns)
            session.run(
                f"CREATE TEMPORARY TABLE {self.stage} (_n bigint AUTO_INCREMENT PRIMARY KEY, _op int NOT NULL)"
                f" SELECT 0 AS _op, {columns} FROM (SELECT 1 AS one) o LEFT JOIN {self.name} t ON false LIMIT 0"
            )
            self.has_stage = True
        elif self.stage_is_dirty:
            session.run(f"DELETE FROM {self.stage}")
        self.stage_is_dirty = True
        head = f"INSERT INTO {self.stage} (_op, {', '.join(self.columns)}) VALUES ".encode()
        chunks = [*state.upserts, *state.deletes]
        for number, rows in enumerate([*state.partial.values(), *state.fresh.values()], start=OP_FIRST_SET):
            chunks += joined([b"(%d,%s" % (number, row) for row in rows], self.chunk_bytes)
        for chunk in chunks:
            self._write(session, head + chunk[:-1])

    def _apply_sets(self, session: Session, state: Compacted) -> None:
        """Rows of which some columns were not sent: updates, then inserts of rows that are new."""
        number = OP_FIRST_SET
        for missing, rows in state.partial.items():
            sent = [name for name in self._sent(missing) if name not in self.key]
            if sent and (count := self._update_staged(session, number, sent)) != len(rows):
                raise row_missing(self.target.table, "update", len(rows) - count)
            number += 1
        for missing in state.fresh:
            self._delete_staged(session, f"s._op = {number}")
            self._insert_staged(session, number, self._sent(missing))
            number += 1

    def _sent(self, missing: tuple[int, ...]) -> list[str]:
        """Columns to write of rows that lack `missing`."""
        return [n for number, n in enumerate(self.columns) if number not in missing and n in self.written]

    def _delete_staged(self, session: Session, condition: str, place: str | None = None) -> None:
        name = place or self.name
        session.run(f"DELETE t FROM {self.stage} s STRAIGHT_JOIN {name} t ON {self.same_key} WHERE {condition}")

    def _update_staged(self, session: Session, op: int, columns: list[str]) -> int:
        if not columns:
            return 0
        sets = ", ".join(f"t.{name} = s.{name}" for name in columns)
        return self._write(
            session,
            f"UPDATE {self.stage} s STRAIGHT_JOIN {self.name} t ON {self.same_key} SET {sets} WHERE s._op = {op}",
        )

    def _insert_staged(
        self, session: Session, op: int, columns: list[str], *, absent: bool = False, place: str | None = None
    ) -> None:
        names, staged = ", ".join(columns), ", ".join(f"s.{name}" for name in columns)
        join = f" LEFT JOIN {self.name} t ON {self.same_key}" if absent else ""
        only = f" AND t.{self.key[0]} IS NULL" if absent else ""
        self._write(
            session,
            f"INSERT INTO {place or self.name} ({names}) SELECT {staged} FROM {self.stage} s{join}"
            f" WHERE s._op = {op}{only}",
        )

    def replace(self, session: Session, state: Compacted, parked: str | None = None) -> None:
        """Complete partial rows, delete every staged key, insert what is to be. With `parked`, a table that holds
        rows of this one as well, into that."""
        places = [self.name] if parked is None else [self.name, parked]
        number = OP_FIRST_SET
        for missing, rows in state.partial.items():
            names = [self.columns[n] for n in missing if parked is None or self.columns[n] in self.written]
            sets = ", ".join([f"s._op = {OP_UPSERT}", *(f"s.{name} = t.{name}" for name in names)])
            count = 0
            for place in places:
                join = f"UPDATE {self.stage} s STRAIGHT_JOIN {place} t ON {self.same_key}"
                count += self._write(session, f"{join} SET {sets} WHERE s._op = {number}")
            if count != len(rows):
                raise row_missing(self.target.table, "update", len(rows) - count)
            number += 1
        for place in places:
            self._delete_staged(session, "true", place)
        self._insert_staged(session, OP_UPSERT, self.written, place=places[-1])
        for missing in state.fresh:
            self._insert_staged(session, number, self._sent(missing), place=places[-1])
            number += 1

    # ---- one by one

    def apply_one(self, session: Session, change: Change) -> None:
        """One event, where its place among those of other tables matters."""
        if not self.key:
            if change.op in (envelope.OP_CREATE, envelope.OP_READ):
                self._insert_run(session, [change])
            else:
                self._change_one(session, change)
            return
        same = " AND ".join(f"{c} = {sql_value(v)}" for c, v in zip(self.key, change.key, strict=True))
        if change.after is None:
            session.run(f"DELETE FROM {self.name} WHERE {same}")
            return
        sent = [
            (column, sql_value(value))
            for column, value in zip(self.columns, change.after, strict=True)
            if column in self.written and value is not MISSING
        ]
        sets = ", ".join(f"{column} = {value}" for column, value in sent)
        if self._write(session, f"UPDATE {self.name} SET {sets} WHERE {same}"):
            return
        if change.op == envelope.OP_UPDATE and MISSING in change.after:
            raise row_missing(self.target.table, "update", 1)
        names, given = ", ".join(column for column, _ in sent), ", ".join(value for _, value in sent)
        self._write(session, f"INSERT INTO {self.name} ({names}) VALUES ({given})")

    # ---- tables without a key

    def apply_keyless(self, session: Session, pieces: Sequence[bytes]) -> Counts:
        """Events in source order; a run of inserts is one statement, a delete removes exactly one of equal rows."""
        counts = Counts()
        for data in pieces:
            try:
                events = decode.changes(self.plan, data, self.schema.engine != "postgresql", envelope.Q_SQL)
            except envelope.FAULTS as error:
                raise decode_error(self.schema, error) from error
            run: list[Change] = []
            for event in events:
                counts.add(event.op)
                if event.op in (envelope.OP_CREATE, envelope.OP_READ):
                    run.append(event)
                    continue
                self._insert_run(session, run)
                run = []
                self._change_one(session, event)
            self._insert_run(session, run)
        return counts

    def _insert_run(self, session: Session, run: list[Change]) -> None:
        places = [n for n, name in enumerate(self.columns) if name in self.written]
        rows = []
        for event in run:
            assert event.after is not None
            rows.append(f"({','.join(sql_value(event.after[n]) for n in places)}),".encode())
        head = f"INSERT INTO {self.name} ({', '.join(self.written)}) VALUES ".encode()
        for chunk in joined(rows, self.chunk_bytes):
            self._write(session, head + chunk[:-1])

    def _change_one(self, session: Session, event: Change) -> None:
        """Update or delete one row equal to the before image."""
        if event.before is None:
            raise no_before_image(self.schema)
        where = " AND ".join(
            self._equal(number, column, event.before[number]) for number, column in enumerate(self.schema.columns)
        )
        if event.after is None:
            count = session.run(f"DELETE FROM {self.name} WHERE {where} LIMIT 1")
        else:
            sets = ", ".join(
                f"{name} = {sql_value(value)}"
                for name, value in zip(self.columns, event.after, strict=True)
                if name in self.written and value is not MISSING
            )
            count = self._write(session, f"UPDATE {self.name} SET {sets} WHERE {where} LIMIT 1")
        if count != 1:
            raise row_missing(self.target.table, "delete" if event.after is None else "update", 1)

    def _equal(self, number: int, column: Column, value: object) -> str:
        """A condition that holds where the column has exactly this value; a collation does not decide it."""
        name, text, op = self.columns[number], sql_value(value), self.plan.ops[number]
        if value is None:
            return f"{name} IS NULL"
        if op in _EXACT_NUMBERS:
            return f"{name} = {text[1:-1]}"  # a number against a text would be compared as doubles
        if op == envelope.R_BITS:
            return f"{name} = {text} + 0"
        if op == envelope.R_GEO_MY:
            return f"HEX({name}) = HEX({text})"
        target_type = self.target.columns[self.names.get(column.name, column.name)].type
        if target_type == "json":
            return f"{name} = CAST({text} AS JSON)"
        if self.target.columns[self.names.get(column.name, column.name)].collation is not None:
            return f"CAST(CONVERT({name} USING utf8mb4) AS BINARY) = CAST({text} AS BINARY)"
        return f"{name} = {text}"


@dataclass(frozen=True, slots=True)
class MySqlActions:
    """Foreign-key actions on the rows of a MySQL target; see `cascade.Target`. Values are literals."""

    session: Session
    config: SinkConfig

    def _name(self, table: TableId) -> str:
        return quoted(self.config.target_of(table))

    @staticmethod
    def _pairs(columns: tuple[str, ...], values: tuple[object, ...], glue: str) -> str:
        return glue.join(f"{quote(name)} = {sql_value(value)}" for name, value in zip(columns, values, strict=True))

    def rows(
        self, table: TableId, columns: tuple[str, ...], values: tuple[object, ...], wanted: tuple[str, ...]
    ) -> list[tuple[object, ...]]:
        names = ", ".join(f"QUOTE(CAST({quote(name)} AS CHAR))" for name in wanted)
        found = self.session.rows(
            f"SELECT {names} FROM {self._name(table)} WHERE {self._pairs(columns, values, ' AND ')}"
        )
        return [tuple(None if text in (None, "NULL") else text for text in row) for row in found]

    def delete(self, table: TableId, columns: tuple[str, ...], values: tuple[object, ...]) -> None:
        self.session.run(f"DELETE FROM {self._name(table)} WHERE {self._pairs(columns, values, ' AND ')}")

    def update(
        self, table: TableId, columns: tuple[str, ...], values: tuple[object, ...], new: tuple[object, ...]
    ) -> None:
        sets, where = self._pairs(columns, new, ", "), self._pairs(columns, values, " AND ")
        self.session.write(f"UPDATE {self._name(table)} SET {sets} WHERE {where}", self.config.target_of(table))


def sql_value(value: object) -> str:
    return value if isinstance(value, str) else "NULL"


def may_be_blank(column: Column, type_: str) -> bool:
    """An empty text of this enum can only be the value with index 0, and every other value is a label at the target,
    whose column type is `type_`."""
    labels = column.type.labels if column.type.kind == "enum" else ()
    if not labels or "" in labels or "\\" in type_ or not type_.lower().startswith("enum("):
        return False
    there = {label.replace("''", "'") for label in re.findall(r"'((?:[^']|'')*)'", type_)}
    return "" not in there and there.issuperset(labels)


def joined(rows: list[bytes], limit: int) -> list[bytes]:
    """Rows as chunks of about `limit` bytes."""
    out: list[bytes] = []
    part: list[bytes] = []
    size = 0
    for row in rows:
        part.append(row)
        size += len(row)
        if size >= limit:
            out.append(b"".join(part))
            part, size = [], 0
    return [*out, b"".join(part)] if part else out

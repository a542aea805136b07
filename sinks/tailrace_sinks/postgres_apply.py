"""Rows of one table into a Postgres target, inside the batch's transaction: set-based where order per key is enough.

Ways, the first that fits: COPY into the target (rows of a snapshot chunk) · COPY to a stage, then DELETE, INSERT ON
CONFLICT, UPDATE (the default) · the same stage, all its keys deleted and inserted, when a unique value moved between
keys inside the batch · the parked table, when a value moves between batches of a load (see `parked`) · one by one
in source order for tables without key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import psycopg

from tailrace_schemas.table import TableId, TableSchema
from tailrace_sinks import decode, envelope
from tailrace_sinks.decode import Change, Compacted, Compactor, Counts
from tailrace_sinks.envelope import MISSING
from tailrace_sinks.plan import POSTGRES, decode_plan
from tailrace_sinks.postgres_catalog import Connection, TargetTable, quote, quoted, sql
from tailrace_sinks.row_errors import decode_error, no_before_image, row_missing
from tailrace_sinks.sink import SinkConfig

OP_UPSERT, OP_DELETE, OP_FIRST_SET = 0, 1, 2
CONFLICTS = (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation)


class Parking(Protocol):
    """See `postgres_parked.ParkedTables`."""

    allowed: bool

    def hold(self, source: TableId) -> bool: ...

    def apply(self, connection: Connection, table: TableApply, state: Compacted) -> None: ...


@dataclass
class TableApply:
    """A source table under one schema id and its target; lives as long as the connection, whose stage it names.
    `careful`: expect unique constraints that the catalogue did not show."""

    schema: TableSchema
    target: TargetTable
    number: int
    careful: bool = False
    null_zero_dates: bool = False
    parking: Parking | None = None
    plan: envelope.Plan = field(init=False)
    has_stage: bool = False
    stage_is_dirty: bool = False

    def __post_init__(self) -> None:
        self.plan = decode_plan(self.schema, POSTGRES, null_zero_dates=self.null_zero_dates)
        self.name = quoted(self.target.table)
        self.stage = f'pg_temp."tailrace_stage_{self.number}"'
        names = [column.name for column in self.schema.columns]
        self.columns = [quote(name) for name in names]
        self.key = [quote(name) for name in self.schema.key]
        self.written = [quote(name) for name in names if not self.target.columns[name].generated]
        self.overriding = " OVERRIDING SYSTEM VALUE" if any(c.always for c in self.target.columns.values()) else ""
        self.same_key = " AND ".join(f"t.{name} = s.{name}" for name in self.key)
        self.can_upsert = bool(self.key) and self.target.has_unique(self.schema.key)
        self.may_conflict = self.careful or self.target.unique_count > (1 if self.can_upsert else 0)

    # ---- tables with a key

    def apply_keyed(self, connection: Connection, pieces: Sequence[bytes], *, loaded: bool) -> Counts:
        """Frames of one schema, in order per key. `loaded`: all of them rows of snapshot chunks."""
        compactor = Compactor(self.plan, b"0\t", b"1\t")
        try:
            for data in pieces:
                compactor.add(data)
            plain = not compactor.odd and compactor.counts.loaded and len(self.written) == len(self.columns)
            if loaded and plain and not self._is_parked and len(compactor.last) == compactor.counts.loaded:
                compactor.head_upsert = b""
                if self._copied(connection, b"".join(compactor.finish().upserts)):
                    return compactor.counts
                compactor.head_upsert = b"0\t"
            state = compactor.finish()
        except envelope.FAULTS as error:
            raise decode_error(self.schema, error) from error
        self._apply_set(connection, state)
        return compactor.counts

    def _copied(self, connection: Connection, lines: bytes) -> bool:
        """Rows straight into the target; False, and nothing done, where one of them is there already."""
        try:
            with connection.transaction(), connection.cursor() as cursor:
                copy = f"COPY {self.name} ({', '.join(self.columns)}) FROM STDIN"
                with cursor.copy(sql(copy)) as out:
                    out.write(lines)
        except CONFLICTS:
            return False
        return True

    def _apply_set(self, connection: Connection, state: Compacted) -> None:
        sets = [*state.partial.items(), *state.fresh.items()]
        lines = [*state.upserts, *state.deletes]
        for number, (_, rows) in enumerate(sets, start=OP_FIRST_SET):
            lines += [b"%d\t%s" % (number, row) for row in rows]
        self._fill_stage(connection, b"".join(lines))
        if self.parking is not None and self._is_parked:
            self.parking.apply(connection, self, state)
            return
        if not self.may_conflict and self.can_upsert:
            self._upsert(connection, state)
            return
        try:
            if self.can_upsert:
                with connection.transaction():
                    self._upsert(connection, state)
                return
        except CONFLICTS:
            pass
        if self.parking is None or not self.parking.allowed:
            self.replace(connection, state)
            return
        try:
            with connection.transaction():
                self.replace(connection, state)
        except CONFLICTS:
            self.parking.apply(connection, self, state)

    @property
    def _is_parked(self) -> bool:
        return self.parking is not None and self.parking.hold(self.schema.table)

    def _fill_stage(self, connection: Connection, lines: bytes) -> None:
        if not self.has_stage:
            connection.execute(
                sql(
                    f"CREATE TEMP TABLE {self.stage.removeprefix('pg_temp.')} ON COMMIT DELETE ROWS AS"
                    f" SELECT 0::smallint AS _op, {', '.join(self.columns)} FROM {self.name} WITH NO DATA"
                )
            )
            self.has_stage = True
        elif self.stage_is_dirty:
            connection.execute(sql(f"TRUNCATE {self.stage}"))
        self.stage_is_dirty = True
        copy = f"COPY {self.stage} (_op, {', '.join(self.columns)}) FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(sql(copy)) as out:
            out.write(lines)

    def _upsert(self, connection: Connection, state: Compacted) -> None:
        if state.delete_count:
            self._delete_staged(connection, f"s._op = {OP_DELETE}")
        if state.upsert_count:
            rest = [name for name in self.written if name not in self.key]
            action = f"UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in rest)}" if rest else "NOTHING"
            columns = ", ".join(self.written)
            connection.execute(
                sql(
                    f"INSERT INTO {self.name} ({columns}){self.overriding} SELECT {columns} FROM {self.stage}"
                    f" WHERE _op = {OP_UPSERT} ON CONFLICT ({', '.join(self.key)}) DO {action}"
                )
            )
        number = OP_FIRST_SET
        for missing, rows in state.partial.items():
            self._update_partial(connection, number, missing, len(rows))
            number += 1
        for missing in state.fresh:
            self._delete_staged(connection, f"s._op = {number}")
            self._insert_staged(connection, number, self._sent(missing))
            number += 1

    def _sent(self, missing: tuple[int, ...]) -> list[str]:
        """Columns to write of rows that lack `missing`."""
        return [n for number, n in enumerate(self.columns) if number not in missing and n in self.written]

    def _delete_staged(self, connection: Connection, condition: str, place: str | None = None) -> None:
        name = place or self.name
        connection.execute(sql(f"DELETE FROM {name} t USING {self.stage} s WHERE {condition} AND {self.same_key}"))

    def _insert_staged(self, connection: Connection, op: int, columns: list[str], place: str | None = None) -> None:
        names, into = ", ".join(columns), place or self.name
        connection.execute(
            sql(f"INSERT INTO {into} ({names}){self.overriding} SELECT {names} FROM {self.stage} WHERE _op = {op}")
        )

    def _update_partial(self, connection: Connection, op: int, missing: tuple[int, ...], count: int) -> None:
        """Write the columns that were sent; every row must be there."""
        sent = [name for name in self._sent(missing) if name not in self.key]
        if not sent:
            return
        done = connection.execute(
            sql(
                f"UPDATE {self.name} t SET {', '.join(f'{name} = s.{name}' for name in sent)} FROM {self.stage} s"
                f" WHERE s._op = {op} AND {self.same_key}"
            )
        )
        if done.rowcount != count:
            raise row_missing(self.target.table, "update", count - done.rowcount)

    def replace(self, connection: Connection, state: Compacted, parked: str | None = None) -> None:
        """Complete partial rows, delete every staged key, insert what is to be. With `parked`, a table that holds
        rows of this one as well, into that."""
        places = [self.name] if parked is None else [self.name, parked]
        number = OP_FIRST_SET
        for missing, rows in state.partial.items():
            names = [self.columns[n] for n in missing if parked is None or self.columns[n] in self.written]
            sets = ", ".join([f"_op = {OP_UPSERT}", *(f"{n} = t.{n}" for n in names)])
            count = 0
            for place in places:
                update = f"UPDATE {self.stage} s SET {sets} FROM {place} t WHERE s._op = {number} AND {self.same_key}"
                count += connection.execute(sql(update)).rowcount
            if count != len(rows):
                raise row_missing(self.target.table, "update", len(rows) - count)
            number += 1
        for place in places:
            self._delete_staged(connection, "true", place)
        self._insert_staged(connection, OP_UPSERT, self.written, places[-1])
        for missing in state.fresh:
            self._insert_staged(connection, number, self._sent(missing), places[-1])
            number += 1

    # ---- one by one

    def apply_one(self, connection: Connection, change: Change) -> None:
        """One event, where its place among those of other tables matters."""
        if not self.key:
            if change.op in (envelope.OP_CREATE, envelope.OP_READ):
                self._insert_run(connection, [change])
            else:
                self._change_one(connection, change)
            return
        name = with_parameters(self.name)
        same = " AND ".join(f"{with_parameters(column)} = %s" for column in self.key)
        if change.after is None:
            connection.execute(sql(f"DELETE FROM {name} WHERE {same}"), change.key)
            return
        sent = [
            (with_parameters(column), value)
            for column, value in zip(self.columns, change.after, strict=True)
            if column in self.written and value is not MISSING
        ]
        sets = ", ".join(f"{column} = %s" for column, _ in sent)
        given = [value for _, value in sent]
        done = connection.execute(sql(f"UPDATE {name} SET {sets} WHERE {same}"), [*given, *change.key])
        if done.rowcount:
            return
        if change.op == envelope.OP_UPDATE and MISSING in change.after:
            raise row_missing(self.target.table, "update", 1)
        names, places = ", ".join(column for column, _ in sent), ", ".join(["%s"] * len(sent))
        connection.execute(sql(f"INSERT INTO {name} ({names}){self.overriding} VALUES ({places})"), given)

    # ---- tables without a key

    def apply_keyless(self, connection: Connection, pieces: Sequence[bytes]) -> Counts:
        """Events in source order; a run of inserts is copied, a delete removes exactly one of equal rows."""
        counts = Counts()
        for data in pieces:
            try:
                events = decode.changes(self.plan, data, self.schema.engine != "postgresql", envelope.Q_RAW)
            except envelope.FAULTS as error:
                raise decode_error(self.schema, error) from error
            run: list[Change] = []
            for event in events:
                counts.add(event.op)
                if event.op in (envelope.OP_CREATE, envelope.OP_READ):
                    run.append(event)
                    continue
                self._insert_run(connection, run)
                run = []
                self._change_one(connection, event)
            self._insert_run(connection, run)
        return counts

    def _insert_run(self, connection: Connection, run: list[Change]) -> None:
        if not run:
            return
        places = [n for n, name in enumerate(self.columns) if name in self.written]
        copy = f"COPY {self.name} ({', '.join(self.written)}) FROM STDIN"
        with connection.cursor() as cursor, cursor.copy(sql(copy)) as out:
            for event in run:
                assert event.after is not None
                out.write_row([None if event.after[n] is MISSING else event.after[n] for n in places])

    def _change_one(self, connection: Connection, event: Change) -> None:
        """Update or delete one row equal to the before image."""
        if event.before is None:
            raise no_before_image(self.schema)
        equal, values = self._equal(event.before)
        name = with_parameters(self.name)
        place = f"ctid = (SELECT ctid FROM {name} WHERE {equal} LIMIT 1)"
        if event.after is None:
            done = connection.execute(sql(f"DELETE FROM {name} WHERE {place}"), values)
        else:
            pairs = [
                (column, value)
                for column, value in zip(self.columns, event.after, strict=True)
                if column in self.written and value is not MISSING
            ]
            assignments = ", ".join(f"{with_parameters(column)} = %s" for column, _ in pairs)
            done = connection.execute(
                sql(f"UPDATE {name} SET {assignments} WHERE {place}"), [*(value for _, value in pairs), *values]
            )
        if done.rowcount != 1:
            raise row_missing(self.target.table, "delete" if event.after is None else "update", 1)

    def _equal(self, row: list[object]) -> tuple[str, list[object]]:
        """A condition that holds for rows equal to `row`; types without an equality are compared as text."""
        parts = []
        for column in self.schema.columns:
            target = self.target.columns[column.name]
            name = with_parameters(quote(column.name))
            if target.ordered:
                parts.append(f"{name} IS NOT DISTINCT FROM %s")
            else:
                parts.append(f"{name}::text IS NOT DISTINCT FROM (%s::{target.type})::text")
        return " AND ".join(parts), row


@dataclass(frozen=True, slots=True)
class PostgresActions:
    """Foreign-key actions on the rows of a Postgres target; see `cascade.Target`."""

    connection: Connection
    config: SinkConfig

    def _name(self, table: TableId) -> str:
        return with_parameters(quoted(self.config.target_of(table)))

    @staticmethod
    def _where(columns: tuple[str, ...]) -> str:
        return " AND ".join(f"{with_parameters(quote(name))} = %s" for name in columns)

    def rows(
        self, table: TableId, columns: tuple[str, ...], values: tuple[object, ...], wanted: tuple[str, ...]
    ) -> list[tuple[object, ...]]:
        names = ", ".join(f"{with_parameters(quote(name))}::text" for name in wanted)
        query = f"SELECT {names} FROM {self._name(table)} WHERE {self._where(columns)}"
        return self.connection.execute(sql(query), values).fetchall()

    def delete(self, table: TableId, columns: tuple[str, ...], values: tuple[object, ...]) -> None:
        self.connection.execute(sql(f"DELETE FROM {self._name(table)} WHERE {self._where(columns)}"), values)

    def update(
        self, table: TableId, columns: tuple[str, ...], values: tuple[object, ...], new: tuple[object, ...]
    ) -> None:
        sets = ", ".join(f"{with_parameters(quote(name))} = %s" for name in columns)
        statement = f"UPDATE {self._name(table)} SET {sets} WHERE {self._where(columns)}"
        self.connection.execute(sql(statement), (*new, *values))


def with_parameters(quoted_name: str) -> str:
    """For a statement with parameters, where psycopg reads % as a placeholder."""
    return quoted_name.replace("%", "%%")

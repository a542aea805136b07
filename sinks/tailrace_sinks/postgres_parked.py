"""Parked rows at a Postgres target; see `parked`. All of it in the batch's transaction, the tables' making included."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress

import psycopg

from tailrace_schemas.errors import RowRejectedError, StopError
from tailrace_schemas.failpoint import failpoint
from tailrace_schemas.table import TableId
from tailrace_sinks.decode import Compacted
from tailrace_sinks.parked import parked_name, prefix
from tailrace_sinks.postgres_apply import TableApply, with_parameters
from tailrace_sinks.postgres_catalog import Connection, TargetTable, quote, quoted, read_table, sql
from tailrace_sinks.sink import SinkConfig

log_ = logging.getLogger(__name__)


class ParkedTables:
    """The parked tables of one sink: those that exist, by source table. `allowed`: in the batch in hand a unique key
    may refuse a row that is right."""

    def __init__(self, progress: TableId, config: SinkConfig) -> None:
        self.allowed = False
        self._progress, self._config = progress, config
        self._has_rows: dict[TableId, bool] = {}

    def read(self, connection: Connection, sources: Iterable[TableId]) -> None:
        """What a former process has left."""
        found = _names(connection, self._progress, self._config.pipeline)
        there = [source for source in sources if self._table(source).name in found]
        self._has_rows = {source: self._count(connection, source) > 0 for source in there}

    def _table(self, source: TableId) -> TableId:
        config = self._config
        return TableId(self._progress.schema, parked_name(self._progress, config.pipeline, config.name, source))

    def _count(self, connection: Connection, source: TableId) -> int:
        found = connection.execute(sql(f"SELECT count(*) FROM {quoted(self._table(source))}")).fetchone()
        return int(found[0]) if found else 0

    def sources(self) -> list[TableId]:
        """Tables that have a parked table, empty or not."""
        return list(self._has_rows)

    def state(self) -> dict[TableId, bool]:
        """For `restore`, where a savepoint takes back what follows."""
        return dict(self._has_rows)

    def restore(self, state: dict[TableId, bool]) -> None:
        self._has_rows = state

    def hold(self, source: TableId) -> bool:
        """Whether the table has parked rows."""
        return self._has_rows.get(source, False)

    def found(self, connection: Connection, source: TableId) -> TargetTable | None:
        """The parked table as the catalogue has it; schema changes of the target are its own as well."""
        return read_table(connection, self._table(source)) if source in self._has_rows else None

    # ---- rows

    def apply(self, connection: Connection, table: TableApply, state: Compacted) -> None:
        """The staged rows, whatever unique keys say: into the parked table, from there what can into the target."""
        source = table.schema.table
        if source not in self._has_rows:
            self._make(connection, table)
        table.replace(connection, state, parked=quoted(self._table(source)))
        self._move(connection, table)

    def _make(self, connection: Connection, table: TableApply) -> None:
        """Columns, defaults and NOT NULL of what the sink writes; of the unique keys only the row key's."""
        source = table.schema.table
        name = quoted(self._table(source))
        try:
            connection.execute(sql(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING DEFAULTS)"))
        except psycopg.errors.InsufficientPrivilege as error:
            role, schema = quote(connection.info.user), quote(self._progress.schema)
            raise StopError(
                f'rows of "{source}" have to wait for a unique value, and the role may not make a table for them',
                code="PRIVILEGE",
                hint=f"GRANT CREATE, USAGE ON SCHEMA {schema} TO {role}",
                table=source,
            ) from error
        unwritten = [column for column in map(quote, table.target.columns) if column not in table.written]
        changes = [f"DROP COLUMN {column}" for column in unwritten]
        if table.can_upsert:
            changes.append(f"ADD PRIMARY KEY ({', '.join(table.key)})")
        if changes:
            connection.execute(sql(f"ALTER TABLE {name} {', '.join(changes)}"))
        self._has_rows[source] = False
        failpoint("sink.parked")
        where = {"table": str(source), "parked": str(self._table(source))}
        log_.info("rows wait for a unique value", extra=where)

    def _move(self, connection: Connection, table: TableApply) -> None:
        """What no row of the target contradicts any more."""
        source = table.schema.table
        parked = quoted(self._table(source))
        columns = self._columns(connection, source)
        key, same = ", ".join(table.key), " AND ".join(f"m.{name} = p.{name}" for name in table.key)
        statement = (
            f"WITH m AS (INSERT INTO {table.name} ({columns}){table.overriding} SELECT {columns} FROM {parked}"
            f" ON CONFLICT DO NOTHING RETURNING {key}) DELETE FROM {parked} p USING m WHERE {same}"
        )
        try:
            with connection.transaction():
                connection.execute(sql(statement))
        except psycopg.errors.ObjectNotInPrerequisiteState:
            # ON CONFLICT does not work on a table that has a deferrable unique constraint.
            self._move_one_by_one(connection, table, columns)
        self._has_rows[source] = self._count(connection, source) > 0

    def _columns(self, connection: Connection, source: TableId) -> str:
        """The parked table's own: rows of several descriptions may lie in it."""
        found = read_table(connection, self._table(source))
        return ", ".join(quote(name) for name in found.columns) if found else ""

    def _move_one_by_one(self, connection: Connection, table: TableApply, columns: str) -> None:
        parked = quoted(self._table(table.schema.table))
        columns = with_parameters(columns)
        insert = f"INSERT INTO {with_parameters(table.name)} ({columns}){table.overriding} SELECT {columns} FROM"
        for (place,) in connection.execute(sql(f"SELECT ctid FROM {parked}")).fetchall():
            with suppress(psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation), connection.transaction():
                connection.execute(sql(f"{insert} {with_parameters(parked)} WHERE ctid = %s"), [place])
                connection.execute(sql(f"DELETE FROM {with_parameters(parked)} WHERE ctid = %s"), [place])

    def settle(self, connection: Connection, table: TableApply) -> None:
        """The target is consistent: every row finds its place.

        Raises:
            RowRejectedError: some do not; a unique key of the target is violated.
        """
        source = table.schema.table
        if self._has_rows[source]:
            self._move(connection, table)
        if self._has_rows[source]:
            self._move_all(connection, table)
        self.drop(connection, source)
        log_.info("no row waits for a unique value any more", extra={"table": str(source)})

    def _move_all(self, connection: Connection, table: TableApply) -> None:
        source = table.schema.table
        columns = self._columns(connection, source)
        count, parked = self._count(connection, source), quoted(self._table(source))
        try:
            with connection.transaction():
                insert = f"INSERT INTO {table.name} ({columns}){table.overriding} SELECT {columns} FROM {parked}"
                connection.execute(sql(insert))
        except (psycopg.errors.UniqueViolation, psycopg.errors.ExclusionViolation) as error:
            name = quote(error.diag.constraint_name or "")
            raise RowRejectedError(
                f'could not apply events to "{table.target.table}"',
                detail=f"{count} rows have a value that the constraint {name} allows once (they wait in {parked})",
                hint=f"if the source allows it: ALTER TABLE {table.name} DROP CONSTRAINT {name}"
                f" (of an index: DROP INDEX {quote(table.target.table.schema)}.{name})",
                table=table.target.table,
            ) from error

    # ---- an end

    def drop(self, connection: Connection, source: TableId) -> None:
        """With what is in it: the table was emptied, or is settled."""
        if source in self._has_rows:
            failpoint("sink.parked")
            connection.execute(sql(f"DROP TABLE {quoted(self._table(source))}"))
            del self._has_rows[source]

    def give_up(self, connection: Connection, source: TableId) -> None:
        """The table is stopped: its rows are worth nothing before it is loaded again."""
        if self.hold(source):
            count = self._count(connection, source)
            log_.warning("parked rows of a stopped table dropped", extra={"table": str(source), "rows": count})
        self.drop(connection, source)


def _names(connection: Connection, progress: TableId, pipeline: str) -> set[str]:
    rows = connection.execute(
        "select c.relname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace"
        " where n.nspname = %s and c.relkind = 'r' and starts_with(c.relname::text, %s)",
        [progress.schema, prefix(progress, pipeline)],
    )
    return {name for (name,) in rows}


def forget_parked(connection: Connection, progress: TableId, pipeline: str) -> None:
    """Drop the parked tables of a pipeline; its next start loads anew."""
    for name in sorted(_names(connection, progress, pipeline)):
        connection.execute(sql(f"DROP TABLE {quoted(TableId(progress.schema, name))}"))


__all__ = ["ParkedTables", "forget_parked"]

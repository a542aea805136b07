"""What would stop or weaken the Postgres sink, found before anything is written."""

from __future__ import annotations

from tailrace_schemas.errors import Finding
from tailrace_schemas.table import TableId, TableSchema
from tailrace_sinks.key_rules import KeyFacts, source_findings, target_findings
from tailrace_sinks.postgres_catalog import (
    Connection,
    TargetTable,
    key_facts,
    quote,
    quoted,
    read_table,
    sql,
    target_type,
)
from tailrace_sinks.postgres_progress import ProgressTables
from tailrace_sinks.preflight_rules import equal_names, not_empty
from tailrace_sinks.sink import SinkConfig

_MAX_NAME = 63


def findings(
    connection: Connection, config: SinkConfig, tables: ProgressTables, schemas: list[TableSchema]
) -> list[Finding]:
    """All at once, errors first."""
    out = [*_session(connection), *_rights(connection, config, tables, schemas)]
    out += equal_names(schemas, config, str, str)
    first_load = config.loads and not tables.begun(connection)
    for schema in schemas:
        target = config.target_of(schema.table)
        out += _names(schema, target)
        if (found := read_table(connection, target)) is not None:
            out += _fit(connection, schema, found)
            out += _triggers(connection, config, found)
            if first_load and _holds_rows(connection, found.table):
                out.append(not_empty(found.table, f"TRUNCATE TABLE {quoted(found.table)}"))
        if config.consistency == "key":
            facts = KeyFacts() if found is None else key_facts(connection, schema, found)
            out += [*source_findings(schema), *target_findings(schema, facts)]
    return sorted(out, key=lambda finding: finding.level != "error")


def _one(connection: Connection, query: str, *values: object) -> object:
    row = connection.execute(sql(query), values).fetchone()
    return row[0] if row else None


def _session(connection: Connection) -> list[Finding]:
    out = []
    if _one(connection, "select pg_is_in_recovery()") or _one(connection, "show default_transaction_read_only") == "on":
        out.append(Finding("error", "TARGET_READ_ONLY", "the target is read-only", "point the URL at the primary"))
    if _one(connection, "show server_encoding") != "UTF8":
        message = "the target's encoding is not UTF8: characters it lacks are rejected"
        out.append(
            Finding("warning", "TARGET_ENCODING", message, "CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0")
        )
    if not _may_be_replica(connection):
        role = quote(connection.info.user)
        out.append(
            Finding(
                "warning",
                "TRIGGERS_FIRE",
                "the role may not set session_replication_role: triggers and foreign keys fire for applied changes",
                f"GRANT SET ON PARAMETER session_replication_role TO {role}",
            )
        )
    return out


def _may_be_replica(connection: Connection) -> bool:
    if _one(connection, "select rolsuper from pg_roles where rolname = current_user"):
        return True
    if connection.info.server_version < 150000:
        return False
    return bool(_one(connection, "select has_parameter_privilege('session_replication_role', 'SET')"))


def _rights(
    connection: Connection, config: SinkConfig, tables: ProgressTables, schemas: list[TableSchema]
) -> list[Finding]:
    needed = {tables.progress.schema} | {config.target_of(schema.table).schema for schema in schemas}
    may_create = _one(connection, "select has_database_privilege(current_database(), 'CREATE')")
    role, database = quote(connection.info.user), quote(connection.info.dbname)
    out = []
    for name in sorted(needed):
        exists = _one(connection, "select to_regnamespace(%s) is not null", quote(name))
        if not exists and not may_create:
            message = f'schema "{name}" is missing and the role may not create it'
            out.append(Finding("error", "TARGET_GRANT", message, f"GRANT CREATE ON DATABASE {database} TO {role}"))
        if exists and not _one(connection, "select has_schema_privilege(%s, 'CREATE')", name):
            message = f'the role may not create tables in schema "{name}"'
            out.append(
                Finding("error", "TARGET_GRANT", message, f"GRANT CREATE, USAGE ON SCHEMA {quote(name)} TO {role}")
            )
    return out


def _holds_rows(connection: Connection, table: TableId) -> bool:
    if not _one(connection, "select has_table_privilege(%s, 'SELECT')", quoted(table)):
        return False
    return bool(_one(connection, f"select exists (select from {quoted(table).replace('%', '%%')})"))


def _names(schema: TableSchema, target: TableId) -> list[Finding]:
    long = [n for n in (*target, *(c.name for c in schema.columns)) if len(n.encode()) > _MAX_NAME]
    return [
        Finding("error", "NAME_TOO_LONG", f'"{name}" is longer than {_MAX_NAME} bytes', "rename it", target)
        for name in long
    ]


def _fit(connection: Connection, schema: TableSchema, found: TargetTable) -> list[Finding]:
    out = []
    for column in schema.columns:
        if column.name not in found.columns:
            type_ = target_type(connection, column, schema.engine)
            statement = f"ALTER TABLE {quoted(found.table)} ADD COLUMN {quote(column.name)} {type_}"
            message = f'table "{found.table}" lacks column "{column.name}"'
            out.append(Finding("error", "TARGET_MISFIT", message, statement, found.table))
    if schema.key and not found.has_unique(schema.key):
        key = ", ".join(quote(name) for name in schema.key)
        message = f'table "{found.table}" has no unique index on the source\'s key: applied slowly'
        statement = f"ALTER TABLE {quoted(found.table)} ADD PRIMARY KEY ({key})"
        out.append(Finding("warning", "TARGET_KEY", message, statement, found.table))
    rights = "SELECT, INSERT, UPDATE, DELETE"
    if not _one(
        connection,
        "select has_table_privilege(%s, 'SELECT') and has_table_privilege(%s, 'INSERT')"
        " and has_table_privilege(%s, 'UPDATE') and has_table_privilege(%s, 'DELETE')",
        *[quoted(found.table)] * 4,
    ):
        message = f'the role may not write table "{found.table}"'
        statement = f"GRANT {rights}, TRUNCATE ON {quoted(found.table)} TO {quote(connection.info.user)}"
        out.append(Finding("error", "TARGET_GRANT", message, statement, found.table))
    return out


def _triggers(connection: Connection, config: SinkConfig, found: TargetTable) -> list[Finding]:
    rows = connection.execute(
        "select tgname from pg_trigger"
        " where tgrelid = to_regclass(%s) and not tgisinternal and tgenabled in ('A', 'R')",
        [quoted(found.table)],
    )
    return [
        Finding(
            "error" if config.target_triggers == "refuse" else "warning",
            "TARGET_TRIGGER",
            f'trigger "{name}" of table "{found.table}" fires for applied changes',
            f"ALTER TABLE {quoted(found.table)} DISABLE TRIGGER {quote(name)}",
            found.table,
        )
        for (name,) in rows
    ]

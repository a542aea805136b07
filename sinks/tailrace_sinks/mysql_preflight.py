"""What would stop or weaken the MySQL sink, found before anything is written."""

from __future__ import annotations

import re

from tailrace_schemas.errors import Finding
from tailrace_schemas.table import TableId, TableSchema
from tailrace_sinks.key_rules import KeyFacts, compares_bytes, source_findings, target_findings
from tailrace_sinks.mysql_catalog import key_facts
from tailrace_sinks.mysql_progress import ProgressTables
from tailrace_sinks.mysql_session import Session, TargetTable, literal, quote, quoted
from tailrace_sinks.mysql_types import mysql_type
from tailrace_sinks.preflight_rules import equal_names, not_empty
from tailrace_sinks.sink import SinkConfig

MAX_NAME = 64


def findings(session: Session, config: SinkConfig, tables: ProgressTables, schemas: list[TableSchema]) -> list[Finding]:
    """All at once, errors first."""
    folded = bool(session.value("SELECT @@lower_case_table_names"))
    out = [*_server(session), *equal_names(schemas, config, str.lower if folded else str, str.lower)]
    first_load = config.loads and not tables.begun(session)
    for schema in schemas:
        target = config.target_of(schema.table)
        out += _names(schema, target)
        if (found := session.read_table(target)) is not None:
            out += _fit(session, schema, found)
            out += _triggers(session, config, target)
            if first_load and session.rows(f"SELECT 1 FROM {quoted(target)} LIMIT 1"):
                out.append(not_empty(target, f"TRUNCATE TABLE {quoted(target)}"))
        if config.consistency == "key":
            facts = _facts_to_be(session, schema, target) if found is None else key_facts(session, schema, found)
            out += [*source_findings(schema), *target_findings(schema, facts)]
    return sorted(out, key=lambda finding: finding.level != "error")


def _server(session: Session) -> list[Finding]:
    out = []
    if session.value("SELECT @@global.read_only"):
        message = "the target runs with read_only: only privileged users may write"
        out.append(Finding("warning", "TARGET_READ_ONLY", message, "SET GLOBAL read_only = OFF"))
    if session.max_packet < 16 * 1024 * 1024:
        message = f"max_allowed_packet is {session.max_packet}: a longer row is rejected"
        out.append(Finding("warning", "MAX_PACKET", message, "SET GLOBAL max_allowed_packet = 67108864"))
    if session.value("SELECT @@global.innodb_flush_log_at_trx_commit") != 1:
        message = "a crash of the target may take back what it has confirmed: rows are then missing"
        out.append(Finding("warning", "TARGET_DURABILITY", message, "SET GLOBAL innodb_flush_log_at_trx_commit = 1"))
    return out


def _facts_to_be(session: Session, schema: TableSchema, target: TableId) -> KeyFacts:
    """Of a table that the sink will create."""
    loose = []
    for column in schema.key_columns:
        type_ = mysql_type(column, schema, session.flavor)
        match = re.search(r" COLLATE (\w+)$", type_)
        if column.type.kind in ("string", "text") and match and not compares_bytes(match.group(1)):
            exact = f"{type_[: match.start()]} CHARACTER SET utf8mb4 COLLATE {session.flavor.exact_collation}"
            loose.append((column.name, f"CREATE TABLE {quoted(target)} with {quote(column.name)} {exact}"))
    return KeyFacts(loose=tuple(loose))


def _names(schema: TableSchema, target: TableId) -> list[Finding]:
    long = [n for n in (*target, *(c.name for c in schema.columns)) if len(n) > MAX_NAME]
    return [
        Finding("error", "NAME_TOO_LONG", f'"{name}" is longer than {MAX_NAME} characters', "rename it", target)
        for name in long
    ]


def _fit(session: Session, schema: TableSchema, found: TargetTable) -> list[Finding]:
    out = []
    for column in schema.columns:
        if column.name not in found.columns:
            type_ = mysql_type(column, schema, session.flavor)
            statement = f"ALTER TABLE {quoted(found.table)} ADD COLUMN {quote(column.name)} {type_}"
            message = f'table "{found.table}" lacks column "{column.name}"'
            out.append(Finding("error", "TARGET_MISFIT", message, statement, found.table))
    if found.engine.upper() != "INNODB":
        message = f'table "{found.table}" has no transactions (engine {found.engine})'
        statement = f"ALTER TABLE {quoted(found.table)} ENGINE = InnoDB"
        out.append(Finding("error", "TARGET_ENGINE", message, statement, found.table))
    if schema.key and not found.has_unique(schema.key):
        key = ", ".join(quote(name) for name in schema.key)
        message = f'table "{found.table}" has no unique index on the source\'s key: applied slowly'
        statement = f"ALTER TABLE {quoted(found.table)} ADD UNIQUE ({key})"
        out.append(Finding("warning", "TARGET_KEY", message, statement, found.table))
    return out


def _triggers(session: Session, config: SinkConfig, table: TableId) -> list[Finding]:
    rows = session.rows(
        "SELECT TRIGGER_NAME FROM information_schema.TRIGGERS"
        f" WHERE EVENT_OBJECT_SCHEMA = {literal(table.schema)} AND EVENT_OBJECT_TABLE = {literal(table.name)}"
    )
    return [
        Finding(
            "error" if config.target_triggers == "refuse" else "warning",
            "TARGET_TRIGGER",
            f'trigger "{name}" of table "{table}" fires for applied changes; MySQL cannot switch it off',
            f"DROP TRIGGER {quote(table.schema)}.{quote(str(name))}",
            table,
        )
        for (name,) in rows
    ]

"""What must hold at a Postgres source; every finding with the statement that clears it."""

from __future__ import annotations

from psycopg import sql

from tailrace_capture.postgres import ddl_trigger, standbys
from tailrace_capture.postgres.catalog import Rows
from tailrace_capture.postgres.slot import members
from tailrace_schemas.errors import Finding
from tailrace_schemas.table import TableId


def findings(
    connection: Rows,
    tables: list[tuple[int, TableId]],
    slot: str,
    publication: str,
    trigger: str,
    *,
    load: bool,
    stream: bool,
) -> list[Finding]:
    out: list[Finding] = []
    version = connection.info.server_version
    if version < 140000:
        out.append(
            Finding(
                "error",
                "VERSION",
                f"PostgreSQL {version // 10000} is not supported: 14 or later is needed",
                "upgrade the source to PostgreSQL 14 or later",
            )
        )
    if stream:
        out += _server(connection, slot) + standbys.findings(connection, slot) + _role(connection, publication)
        out += _identities(connection, tables)
        out += _unpublished(connection, tables, publication)
        out += _trigger(connection, slot, trigger)
    out += _generated(connection, tables)
    if load:
        out += _readable(connection, tables)
    if not tables:
        out.append(Finding("error", "NO_TABLES", "no table matches the selection", "look at --tables"))
    return out


def harmful(connection: Rows, tables: list[tuple[int, TableId]]) -> list[Finding]:
    """Why tables that appear while capture runs may not be published or cannot be read."""
    return _identities(connection, tables) + _readable(connection, tables)


def _one(connection: Rows, query: str, *parameters: object) -> object:
    row = connection.execute(query.encode(), parameters).fetchone()
    return None if row is None else row[0]


def _server(connection: Rows, slot: str) -> list[Finding]:
    out = []
    if _one(connection, "SHOW wal_level") != "logical":
        out.append(
            Finding(
                "error",
                "WAL_LEVEL",
                "wal_level is not logical",
                "ALTER SYSTEM SET wal_level = 'logical'; then restart the server",
            )
        )
    if not _one(connection, "SELECT 1 FROM pg_replication_slots WHERE slot_name = %s", slot):
        used = _one(connection, "SELECT count(*) FROM pg_replication_slots")
        most = _one(connection, "SELECT current_setting('max_replication_slots')::int")
        if isinstance(used, int) and isinstance(most, int) and used >= most:
            out.append(
                Finding(
                    "error",
                    "NO_FREE_SLOT",
                    f"all {most} replication slots are in use",
                    f"ALTER SYSTEM SET max_replication_slots = {most + 5}; then restart the server",
                )
            )
    senders = _one(connection, "SELECT count(*) FROM pg_stat_replication")
    most = _one(connection, "SELECT current_setting('max_wal_senders')::int")
    if isinstance(senders, int) and isinstance(most, int) and senders >= most:
        out.append(
            Finding(
                "error",
                "NO_FREE_SENDER",
                f"all {most} WAL senders are in use",
                f"ALTER SYSTEM SET max_wal_senders = {most + 5}; then restart the server",
            )
        )
    if _one(connection, "SELECT current_setting('max_slot_wal_keep_size')") not in ("-1", None):
        out.append(
            Finding(
                "warning",
                "SLOT_MAY_BE_LOST",
                "max_slot_wal_keep_size is set: a slot that falls behind by more is lost",
                "ALTER SYSTEM SET max_slot_wal_keep_size = -1; SELECT pg_reload_conf()",
            )
        )
    if _one(connection, "SHOW server_encoding") not in ("UTF8",):
        out.append(
            Finding(
                "warning",
                "ENCODING",
                "the database is not UTF8: text the server cannot convert stops its table, or capture",
                "nothing, where all its text can be converted",
            )
        )
    return out


def _role(connection: Rows, publication: str) -> list[Finding]:
    role = sql.Identifier(connection.info.user).as_string(connection)
    out = []
    if not _one(connection, "SELECT rolreplication OR rolsuper FROM pg_roles WHERE rolname = current_user"):
        out.append(Finding("error", "PRIVILEGE", "the role may not replicate", f"ALTER ROLE {role} REPLICATION"))
    there = _one(connection, "SELECT 1 FROM pg_publication WHERE pubname = %s", publication)
    if not there and not _one(connection, "SELECT has_database_privilege(current_database(), 'CREATE')"):
        database = sql.Identifier(connection.info.dbname).as_string(connection)
        remedy = f"GRANT CREATE ON DATABASE {database} TO {role}"
        out.append(Finding("error", "PRIVILEGE", "the role may not create a publication", remedy))
    return out


def _trigger(connection: Rows, slot: str, wanted: str) -> list[Finding]:
    if wanted == "off" or ddl_trigger.may_make(connection) or ddl_trigger.exists(connection, slot):
        return []
    text = "the role may not make an event trigger: column changes are told by looks at the catalogue, not in order"
    return [Finding("error" if wanted == "on" else "warning", "DDL_TRIGGER", text, ddl_trigger.ask_superuser(slot))]


_IDENTITY = """
SELECT c.oid, c.relreplident,
  EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND i.indisvalid)
FROM pg_class c WHERE c.oid = ANY(%s)
"""


def _identities(connection: Rows, tables: list[tuple[int, TableId]]) -> list[Finding]:
    out = []
    names = dict(tables)
    for oid, identity, has_primary in connection.execute(_IDENTITY, (list(names),)):
        table = names[oid]
        name = sql.Identifier(*table).as_string(connection)
        if identity == "n" or (identity == "d" and not has_primary):
            out.append(
                Finding(
                    "error",
                    "REPLICA_IDENTITY",
                    f"{table} has no replica identity: once published, its UPDATEs and DELETEs would fail",
                    f"ALTER TABLE {name} REPLICA IDENTITY FULL",
                    table,
                )
            )
    return out


def _unpublished(connection: Rows, tables: list[tuple[int, TableId]], publication: str) -> list[Finding]:
    """Tables that are not in the publication yet, and that the role may not add."""
    there = members(connection, publication)
    names = {} if there is None else {oid: table for oid, table in tables if table not in there}
    out = []
    not_owned = "SELECT oid FROM pg_class WHERE oid = ANY(%s) AND NOT pg_has_role(relowner, 'USAGE')"
    for (oid,) in connection.execute(not_owned, (list(names),)):
        name = sql.Identifier(*names[oid]).as_string(connection)
        text = f"the role does not own {names[oid]}, so it cannot publish it"
        remedy = f"as its owner: ALTER TABLE {name} OWNER TO …, or create the publication beforehand"
        out.append(Finding("error", "PRIVILEGE", text, remedy, names[oid]))
    return out


def _generated(connection: Rows, tables: list[tuple[int, TableId]]) -> list[Finding]:
    names = dict(tables)
    rows = connection.execute(
        "SELECT attrelid, string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute"
        " WHERE attrelid = ANY(%s) AND attgenerated <> '' AND NOT attisdropped GROUP BY attrelid",
        (list(names),),
    )
    return [
        Finding(
            "warning",
            "GENERATED",
            f"generated columns of {names[oid]} are not captured: {columns}",
            "add them to the target table yourself, generated as they are here",
            names[oid],
        )
        for oid, columns in rows
    ]


def _readable(connection: Rows, tables: list[tuple[int, TableId]]) -> list[Finding]:
    out = []
    names = dict(tables)
    rows = connection.execute(
        "SELECT c.oid, has_table_privilege(c.oid, 'SELECT') AND has_schema_privilege(c.relnamespace, 'USAGE'),"
        " c.relrowsecurity AND NOT (SELECT rolbypassrls OR rolsuper FROM pg_roles WHERE rolname = current_user)"
        " AND (c.relforcerowsecurity OR NOT pg_has_role(c.relowner, 'USAGE'))"
        " FROM pg_class c WHERE c.oid = ANY(%s)",
        (list(names),),
    )
    for oid, readable, hidden in rows:
        table = names[oid]
        name = sql.Identifier(*table).as_string(connection)
        role = sql.Identifier(connection.info.user).as_string(connection)
        if not readable:
            schema = sql.Identifier(table.schema).as_string(connection)
            out.append(
                Finding(
                    "error",
                    "PRIVILEGE",
                    f"the role may not read {table}",
                    f"GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {name} TO {role}",
                    table,
                )
            )
        elif hidden:
            out.append(
                Finding(
                    "error",
                    "ROW_SECURITY",
                    f"row security hides rows of {table} from the role",
                    f"ALTER ROLE {role} BYPASSRLS",
                    table,
                )
            )
    return out

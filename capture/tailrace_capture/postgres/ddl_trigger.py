"""The event trigger at the source that writes, into the WAL and at the place of each statement, what the catalogue says
of a table from there on; so the stream learns of DDL in order.

A message is JSON: {"slot", "tables": [[oid, schema, name]], <subject>: rows of catalog.QUERIES} after a statement that
makes or changes tables, {"slot", "dropped": [[oid, schema, name]]} after one that drops them. Rows are objects, whose
members stand in the order of the query's columns. What fails in the trigger never fails the statement: the message is
then {"slot", "failed"}, and the catalogue is looked at as where there is no trigger.
One function and two triggers for each pipeline, named after its slot; only a superuser may make them.
Source: PostgreSQL manual, "Event Triggers", pg_logical_emit_message; messages need the option `messages` of pgoutput.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import dataclass
from typing import Any

import psycopg

from tailrace_capture.postgres import catalog
from tailrace_capture.postgres.catalog import CatalogueRows, Rows, Subject
from tailrace_schemas.errors import StopError
from tailrace_schemas.table import TableId

PREFIX = "tailrace.ddl"
_MADE_BY = "'CREATE TABLE', 'CREATE TABLE AS', 'SELECT INTO', 'ALTER TABLE', 'CREATE INDEX'"
_DROPPED_BY = "'DROP TABLE', 'DROP SCHEMA', 'DROP OWNED'"

# The message is written outside the block that catches errors, which is a subtransaction: there a server may send it
# behind the row that follows it (decode.c queues messages by the end of their record, rows by the beginning).
_BODY = """
DECLARE
  tailrace_oids oid[];
  told json;
BEGIN
  BEGIN
    IF TG_EVENT = 'sql_drop' THEN
      SELECT json_build_object('slot', {slot},
          'dropped', json_agg(json_build_array(objid::bigint, schema_name, object_name)))
      INTO told FROM pg_event_trigger_dropped_objects() WHERE object_type = 'table' AND NOT is_temporary
      HAVING count(*) > 0;
    ELSE
      SELECT array_agg(DISTINCT coalesce(pg_partition_root(t.oid), t.oid)::oid) INTO tailrace_oids FROM (
        SELECT coalesce(i.indrelid, c.oid) AS oid FROM pg_event_trigger_ddl_commands() d
        JOIN pg_class c ON d.classid = 'pg_class'::regclass AND c.oid = d.objid AND c.relkind IN ('r', 'p', 'i', 'I')
        LEFT JOIN pg_index i ON i.indexrelid = c.oid WHERE c.relpersistence = 'p') t;
      SELECT array_agg(t.oid) INTO tailrace_oids FROM ({tables}) t WHERE t.oid = ANY(tailrace_oids);
      IF tailrace_oids IS NOT NULL THEN
        told := json_build_object('slot', {slot},
          'tables', (SELECT json_agg(json_build_array(t.oid::bigint, t.nspname, t.relname)) FROM ({tables}) t
                     WHERE t.oid = ANY(tailrace_oids)),
          {subjects});
      END IF;
    END IF;
  EXCEPTION WHEN OTHERS THEN
    told := json_build_object('slot', {slot}, 'failed', SQLERRM);
  END;
  IF told IS NOT NULL THEN
    PERFORM pg_logical_emit_message(true, {prefix}, told::text);
  END IF;
END
"""


def _body(slot: str) -> str:
    subjects = ",\n        ".join(
        f"'{about}', (SELECT coalesce(json_agg(q), '[]') FROM ({query}) q)" for about, query in catalog.QUERIES.items()
    )
    return _BODY.format(
        slot=f"'{slot}'",
        prefix=f"'{PREFIX}'",
        tables=catalog.TABLES,
        subjects=subjects.replace("%(oids)s", "tailrace_oids"),
    )


def statements(slot: str) -> list[str]:
    """What makes the trigger; for a superuser."""
    function, end, drop = (f'"{name}"' for name in _names(slot))
    function = f"tailrace.{function}"
    return [
        "CREATE SCHEMA IF NOT EXISTS tailrace",
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER"
        f" SET search_path = pg_catalog AS $tailrace${_body(slot)}$tailrace$",
        f"DROP EVENT TRIGGER IF EXISTS {end}",
        f"CREATE EVENT TRIGGER {end} ON ddl_command_end WHEN TAG IN ({_MADE_BY}) EXECUTE FUNCTION {function}()",
        f"ALTER EVENT TRIGGER {end} ENABLE ALWAYS",
        f"DROP EVENT TRIGGER IF EXISTS {drop}",
        f"CREATE EVENT TRIGGER {drop} ON sql_drop WHEN TAG IN ({_DROPPED_BY}) EXECUTE FUNCTION {function}()",
        f"ALTER EVENT TRIGGER {drop} ENABLE ALWAYS",
    ]


def _names(slot: str) -> tuple[str, str, str]:
    """Function (in schema tailrace) and triggers. A slot's name has small letters, digits and underscores only, and at
    most 63 of them."""
    return f"{slot[:58]}_ddl", f"{slot[:58]}_ddl", f"{slot[:58]}_drop"


def ask_superuser(slot: str) -> str:
    """How somebody else makes it."""
    module = "tailrace_capture.postgres.ddl_trigger"
    return f"as superuser, in this database: python -m {module} {slot} | psql -1 -f -; or set ddl_trigger: off"


def exists(connection: Rows, slot: str) -> bool:
    names = list(_names(slot)[1:])
    row = connection.execute("SELECT count(*) FROM pg_event_trigger WHERE evtname = ANY(%s)", (names,)).fetchone()
    return row is not None and row[0] == 2


def may_make(connection: Rows) -> bool:
    row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
    return row is not None and bool(row[0])


def ensure(connection: Rows, slot: str, wanted: str) -> bool:
    """Make the trigger, or take it as it is; `wanted`: auto, on or off. Gives whether it tells of DDL.

    Raises:
        StopError: it was asked for and cannot be had (code PRIVILEGE).
    """
    if wanted == "off":
        return False
    there = exists(connection, slot)
    if may_make(connection):
        if there and _is_this_version(connection, slot):
            return True
        with connection.transaction():
            for statement in statements(slot):
                connection.execute(statement.encode())
        return True
    if not there and wanted == "on":
        raise StopError("the role may not make an event trigger", code="PRIVILEGE", hint=ask_superuser(slot))
    return there


def _is_this_version(connection: Rows, slot: str) -> bool:
    there = (
        "SELECT prosrc FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE (nspname, proname) = (%s, %s)"
    )
    row = connection.execute(there, ("tailrace", _names(slot)[0])).fetchone()
    return row is not None and row[0] == _body(slot)


def drop(connection: Rows, slot: str) -> list[str]:
    """Remove it; returns a sentence for each thing removed, or left because only a superuser may remove it."""
    function, *triggers = _names(slot)
    found = [(f'EVENT TRIGGER "{name}"', _is_there(connection, _TRIGGER, (name,))) for name in triggers]
    found.append((f'FUNCTION tailrace."{function}"()', _is_there(connection, _FUNCTION, ("tailrace", function))))
    done = []
    for what in (name for name, there in found if there):
        statement = f"DROP {what}"
        try:
            connection.execute(statement.encode())
            done.append(f"dropped {what.lower()}")
        except psycopg.errors.InsufficientPrivilege:
            done.append(f"left {what.lower()}: as superuser: {statement}")
    return done


_TRIGGER = b"SELECT 1 FROM pg_event_trigger WHERE evtname = %s"
_FUNCTION = b"SELECT 1 FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE (nspname, proname) = (%s, %s)"


def _is_there(connection: Rows, query: bytes, words: tuple[str, ...]) -> bool:
    return connection.execute(query, words).fetchone() is not None


@dataclass(frozen=True, slots=True)
class Told:
    """One message: tables as they are from here on with what describes them, and tables that are gone. `lsn`: the end
    of its record, at which the next one begins."""

    lsn: int
    tables: dict[int, TableId]
    rows: CatalogueRows
    dropped: dict[int, TableId]


def parse(m: bytes, at: int, slot: str) -> Told | None:
    """A pgoutput Message whose flags stand at `at`; None for what is not ours, or tells nothing.
    Format: PostgreSQL manual, "Logical Replication Message Formats", Message."""
    if not m[at] & 1:
        return None  # not part of a transaction
    end = m.index(0, at + 9)
    if m[at + 9 : end] != PREFIX.encode():
        return None
    (length,) = struct.unpack_from(">I", m, end + 1)
    data = dict(json.loads(m[end + 5 : end + 5 + length], object_pairs_hook=list))
    if data["slot"] != slot or "failed" in data:
        return None
    rows: dict[Subject, list[Any]] = {about: [_row(row) for row in data.get(about, ())] for about in catalog.QUERIES}
    if rows["attributes"]:
        rows["attributes"] = [[oid, name, int(type_oid), *rest] for oid, name, type_oid, *rest in rows["attributes"]]
    (lsn,) = struct.unpack_from(">q", m, at + 1)
    return Told(lsn, _named(data.get("tables")), rows, _named(data.get("dropped")))


def _row(members: list[tuple[str, Any]]) -> list[Any]:
    """The values of a row; the first is an oid, which JSON has as text."""
    first, *rest = (value for _, value in members)
    return [int(first), *rest]


def _named(rows: list[tuple[int, str, str]] | None) -> dict[int, TableId]:
    return {oid: TableId(schema, name) for oid, schema, name in rows or ()}


if __name__ == "__main__":
    print(";\n".join([*statements(sys.argv[1]), ""]))  # noqa: T201

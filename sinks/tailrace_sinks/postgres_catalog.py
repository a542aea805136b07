"""What a table looks like at a Postgres target, and the statements that make or change it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg

from tailrace_schemas.table import Column, Engine, TableId, TableSchema
from tailrace_sinks.evolution import (
    AddColumn,
    AllowNull,
    ChangeKey,
    DropColumn,
    Operation,
    RenameColumn,
    RetypeColumn,
)
from tailrace_sinks.key_rules import KeyFacts
from tailrace_sinks.postgres_types import postgres_type

Connection = psycopg.Connection[tuple[Any, ...]]


def quote(name: str) -> str:
    """An identifier. Postgres doubles the quote and has no other escape; U+0000 cannot stand in a name."""
    if "\0" in name:
        raise ValueError("a name with U+0000")
    return '"' + name.replace('"', '""') + '"'


def quoted(table: TableId) -> str:
    return f"{quote(table.schema)}.{quote(table.name)}"


def literal(text: str) -> str:
    """A string constant that means the same under any setting of standard_conforming_strings."""
    return "E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def sql(text: str) -> bytes:
    """A statement composed from quoted names, as psycopg wants those that are no literals."""
    return text.encode()


@dataclass(frozen=True, slots=True)
class TargetColumn:
    """`type` as format_type spells it. `generated`: by an expression. `always`: an identity that refuses given values
    unless overridden. `ordered`: the type has an equality of its own (json and point have none)."""

    name: str
    type: str
    not_null: bool
    generated: bool
    always: bool
    has_default: bool
    ordered: bool


@dataclass(frozen=True, slots=True)
class TargetTable:
    """`uniques`: columns of every full unique index of plain columns. `unique_count`: unique and exclusion constraints
    of any form. `referenced`: by a foreign key of another table. `kind`: relkind."""

    table: TableId
    columns: dict[str, TargetColumn]
    uniques: tuple[tuple[str, ...], ...]
    primary: tuple[str, tuple[str, ...]] | None
    unique_count: int
    referenced: bool
    kind: str

    def has_unique(self, key: tuple[str, ...]) -> bool:
        return any(sorted(columns) == sorted(key) for columns in self.uniques)


_COLUMNS = """
select a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attgenerated <> '', a.attidentity = 'a',
       a.atthasdef or a.attidentity <> '',
       exists (select from pg_opclass c join pg_am m on m.oid = c.opcmethod
               where m.amname = 'btree' and c.opcdefault and c.opcintype =
                     case when t.typtype = 'd' then t.typbasetype when t.typtype = 'e' then 'anyenum'::regtype
                          when t.typcategory = 'A' then 'anyarray'::regtype
                          when t.typname in ('varchar') then 'text'::regtype else t.oid end)
from pg_attribute a join pg_type t on t.oid = a.atttypid
where a.attrelid = %s and a.attnum > 0 and not a.attisdropped order by a.attnum
"""
_INDEXES = """
select x.indisprimary, x.indpred is null and x.indexprs is null and x.indimmediate,
       coalesce(c.conname, ''),
       array(select a.attname::text from unnest(x.indkey[0:x.indnkeyatts - 1]) with ordinality k(num, at)
             join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.num order by k.at)
from pg_index x left join pg_constraint c on c.conindid = x.indexrelid and c.contype in ('p', 'u', 'x')
where x.indrelid = %s and (x.indisunique or x.indisexclusion)
"""


def read_table(connection: Connection, table: TableId) -> TargetTable | None:
    """The table as the target's catalogue has it now, None where there is none."""
    found = connection.execute(
        "select c.oid, c.relkind::text,"
        " exists (select from pg_constraint f where f.confrelid = c.oid and f.conrelid <> c.oid)"
        " from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relname = %s",
        table,
    ).fetchone()
    if found is None:
        return None
    oid, kind, referenced = found
    columns = [TargetColumn(*row) for row in connection.execute(_COLUMNS, [oid])]
    indexes = connection.execute(_INDEXES, [oid]).fetchall()
    primary = next(((name, tuple(names)) for is_primary, _, name, names in indexes if is_primary), None)
    return TargetTable(
        table,
        {column.name: column for column in columns},
        tuple(tuple(names) for _, plain, _, names in indexes if plain),
        primary,
        len(indexes),
        referenced,
        kind,
    )


_FOREIGN_KEYS = """
select c.conname, n.nspname, t.relname from pg_constraint c join pg_class t on t.oid = c.conrelid
join pg_namespace n on n.oid = t.relnamespace, to_regclass(%s) r
where c.contype = 'f' and (c.conrelid = r or c.confrelid = r) and c.conparentid = 0 order by 1
"""
_UNIQUES = """
select i.relname, coalesce(c.conname, ''),
       x.indpred is null and x.indexprs is null and not x.indisexclusion,
       array(select a.attname::text from unnest(x.indkey[0:x.indnkeyatts - 1]) k(num)
             join pg_attribute a on a.attrelid = x.indrelid and a.attnum = k.num)
from pg_index x join pg_class i on i.oid = x.indexrelid
left join pg_constraint c on c.conindid = x.indexrelid and c.contype in ('p', 'u', 'x')
where x.indrelid = to_regclass(%s) and (x.indisunique or x.indisexclusion) order by 1
"""
# char(n) holds texts for equal that differ in trailing blanks; where the source is char(n) as well, all are padded.
_LOOSE = """
select a.attname, b.typname = 'bpchar' from pg_attribute a join pg_type t on t.oid = a.atttypid
join pg_type b on b.oid = case when t.typtype = 'd' then t.typbasetype else t.oid end
left join pg_collation l on l.oid = a.attcollation
where a.attrelid = to_regclass(%s) and a.attname = any(%s)
  and (b.typname in ('citext', 'bpchar') or not l.collisdeterministic)
"""


def key_facts(connection: Connection, schema: TableSchema, found: TargetTable) -> KeyFacts:
    """What `consistency: key` has to know of a target table."""
    name = quoted(found.table)
    uniques = [
        (f'unique index "{index}"', f"ALTER TABLE {name} DROP CONSTRAINT {quote(constraint)}")
        if constraint
        else (f'unique index "{index}"', f"DROP INDEX {quote(found.table.schema)}.{quote(index)}")
        for index, constraint, plain, columns in connection.execute(sql(_UNIQUES), [name])
        if not (plain and sorted(columns) == sorted(schema.key))
    ]
    foreign = [
        (f'"{key}"', f"ALTER TABLE {quoted(TableId(namespace, table))} DROP CONSTRAINT {quote(key)}")
        for key, namespace, table in connection.execute(sql(_FOREIGN_KEYS), [name])
    ]
    padded = {c.name for c in schema.columns if c.native.lower().startswith(("char(", "character(", "bpchar"))}
    loose = [
        (column, f'ALTER TABLE {name} ALTER COLUMN {quote(column)} TYPE text COLLATE "C"')
        for column, blank in connection.execute(sql(_LOOSE), [name, list(schema.key)])
        if not (blank and column in padded)
    ]
    return KeyFacts(tuple(uniques), tuple(foreign), tuple(loose))


def known_type(connection: Connection, native: str) -> bool:
    """Whether the target knows a type of this spelling. What it takes for a type is exactly one type name, so the text
    can stand in a statement."""
    if "%" in native:
        return False  # column%TYPE is not a type of its own
    try:
        with connection.transaction():
            found = connection.execute("select to_regtype(%s) is not null", [native]).fetchone()
    except (psycopg.errors.SyntaxError, psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidParameterValue):
        return False  # a malformed name, or one of another database
    return bool(found and found[0])


def target_type(connection: Connection, column: Column, engine: Engine) -> str:
    """The source's own type where this target has it, else one that holds every value of it."""
    if engine == "postgresql" and known_type(connection, column.native):
        return column.native
    return postgres_type(column, engine)


TypeOf = Callable[[Column], str]


def create_table(schema: TableSchema, target: TableId, type_of: TypeOf) -> str:
    parts = [
        f"{quote(c.name)} {type_of(c)}{'' if c.nullable and c.name not in schema.key else ' NOT NULL'}"
        for c in schema.columns
    ]
    if schema.key:
        parts.append(f"PRIMARY KEY ({', '.join(quote(name) for name in schema.key)})")
    return f"CREATE TABLE {quoted(target)} ({', '.join(parts)})"


def alter(target: TargetTable, operation: Operation, type_of: TypeOf) -> list[str]:
    """The statements of one operation; none where the target is so already, so that it can run again."""
    table, columns = quoted(target.table), target.columns
    match operation:
        case RenameColumn(old, new):
            return [f"ALTER TABLE {table} RENAME COLUMN {quote(old)} TO {quote(new)}"] if old in columns else []
        case AddColumn(column, default):
            return [] if column.name in columns else _add(table, column, default, type_of)
        case DropColumn(name):
            return [f"ALTER TABLE {table} DROP COLUMN {quote(name)}"] if name in columns else []
        case AllowNull(name):
            return [f"ALTER TABLE {table} ALTER COLUMN {quote(name)} DROP NOT NULL"] if name in columns else []
        case RetypeColumn(old_column, new_column):
            return _retype(target, type_of(old_column), new_column, type_of)
        case ChangeKey(old, new):
            return _change_key(target, old, new)


def _retype(target: TargetTable, before: str, column: Column, type_of: TypeOf) -> list[str]:
    """None where the target's type is neither the one before nor the new one: someone has chosen it."""
    now, type_ = target.columns.get(column.name), type_of(column)
    if now is None or now.type == type_ or now.type != before:
        return []
    name = quote(column.name)
    # An explicit cast to a character type cuts what is too long; the implicit one, which every type has, refuses it.
    using = "" if type_.startswith("character") else f" USING {name}::{type_}"
    return [f"ALTER TABLE {quoted(target.table)} ALTER COLUMN {name} TYPE {type_}{using}"]


def _add(table: str, column: Column, default: str | None, type_of: TypeOf) -> list[str]:
    name = quote(column.name)
    null = "" if column.nullable else " NOT NULL"
    if default is None:
        return [f"ALTER TABLE {table} ADD COLUMN {name} {type_of(column)}{null}"]
    return [
        f"ALTER TABLE {table} ADD COLUMN {name} {type_of(column)} DEFAULT {literal(default)}{null}",
        f"ALTER TABLE {table} ALTER COLUMN {name} DROP DEFAULT",
    ]


def _change_key(target: TargetTable, old: tuple[str, ...], new: tuple[str, ...]) -> list[str]:
    table = quoted(target.table)
    out = []
    if target.primary is not None:
        constraint, columns = target.primary
        if columns == new:
            return []
        if sorted(columns) == sorted(old):
            out.append(f"ALTER TABLE {table} DROP CONSTRAINT {quote(constraint)}")
    if new and (target.primary is None or out):
        out.append(f"ALTER TABLE {table} ADD PRIMARY KEY ({', '.join(quote(name) for name in new)})")
    return out

"""The statements that make or change a table at a MySQL or MariaDB target.

Each commits implicitly, so each is a step of its own; none does anything where the catalogue shows it done (rule D6).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tailrace_schemas.table import Column, TableId, TableSchema
from tailrace_sinks.evolution import (
    AddColumn,
    AllowNull,
    ChangeKey,
    DropColumn,
    Operation,
    RenameColumn,
    RetypeColumn,
)
from tailrace_sinks.key_rules import KeyFacts, compares_bytes
from tailrace_sinks.mysql_session import Session, TargetTable, literal, quote, quoted
from tailrace_sinks.mysql_types import Flavor, key_length

TypeOf = Callable[[Column], str]


def key_facts(session: Session, schema: TableSchema, found: TargetTable) -> KeyFacts:
    """What `consistency: key` has to know of a target table."""
    name, here = quoted(found.table), found.table
    uniques = [
        (f"unique index {index}", f"ALTER TABLE {name} DROP {_index(index)}")
        for index, columns in found.uniques.items()
        if sorted(columns) != sorted(schema.key)
    ]
    rows = session.rows(
        "SELECT CONSTRAINT_NAME, CONSTRAINT_SCHEMA, TABLE_NAME FROM information_schema.REFERENTIAL_CONSTRAINTS"
        f" WHERE (CONSTRAINT_SCHEMA = {literal(here.schema)} AND TABLE_NAME = {literal(here.name)})"
        f" OR (UNIQUE_CONSTRAINT_SCHEMA = {literal(here.schema)} AND REFERENCED_TABLE_NAME = {literal(here.name)})"
        " ORDER BY 1"
    )
    foreign = [
        (str(key), f"ALTER TABLE {quoted(TableId(str(space), str(table)))} DROP FOREIGN KEY {quote(str(key))}")
        for key, space, table in rows
    ]
    exact = session.flavor.exact_collation
    loose = [
        (c.name, f"ALTER TABLE {name} MODIFY {quote(c.name)} {at.type} CHARACTER SET utf8mb4 COLLATE {exact} NOT NULL")
        for c in schema.key_columns
        if c.type.kind in ("string", "text") and (at := found.columns[c.name]).collation is not None
        if not compares_bytes(at.collation)
    ]
    return KeyFacts(tuple(uniques), tuple(foreign), tuple(loose))


def _index(name: str) -> str:
    return "PRIMARY KEY" if name == "PRIMARY" else f"INDEX {quote(name)}"


def create_database(name: str, flavor: Flavor) -> str:
    return f"CREATE DATABASE IF NOT EXISTS {quote(name)} CHARACTER SET utf8mb4 COLLATE {flavor.exact_collation}"


def create_table(schema: TableSchema, target: TableId, type_of: TypeOf) -> str:
    """NULL is spelled out: a TIMESTAMP column would else be NOT NULL on servers of the old kind."""
    parts = [
        f"{quote(c.name)} {type_of(c)} {'NULL' if c.nullable and c.name not in schema.key else 'NOT NULL'}"
        for c in schema.columns
    ]
    if schema.key:
        parts.append(_primary_key({c.name: type_of(c) for c in schema.key_columns}))
    return f"CREATE TABLE IF NOT EXISTS {quoted(target)} ({', '.join(parts)}) ENGINE = InnoDB CHARACTER SET utf8mb4"


def _primary_key(types: Mapping[str, str]) -> str:
    """`types`: the key's columns in its order, as spelled."""
    names = [f"{quote(name)}{key_length(type_, len(types))}" for name, type_ in types.items()]
    return f"PRIMARY KEY ({', '.join(names)})"


def before_batch(target: TargetTable, operations: list[Operation], type_of: TypeOf) -> list[str]:
    """What must be so before rows under the new schema can be written. Rows under the old one still fit afterwards."""
    return [s for operation in operations for s in _before(target, operation, type_of)]


def after_batch(target: TargetTable, drops: list[str]) -> list[str]:
    """What rows under the old schema still needed."""
    table = quoted(target.table)
    return [f"ALTER TABLE {table} DROP COLUMN {quote(name)}" for name in drops if name in target.columns]


def _before(target: TargetTable, operation: Operation, type_of: TypeOf) -> list[str]:
    table, columns = quoted(target.table), target.columns
    match operation:
        case RenameColumn(old, new):
            # CHANGE, not RENAME COLUMN: MariaDB has that from 10.5 only, and MySQL from 8.0.
            if old not in columns or new in columns:
                return []
            return [f"ALTER TABLE {table} RENAME COLUMN {quote(old)} TO {quote(new)}"]
        case AddColumn(column, default):
            return [] if column.name in columns else [_add(table, column, default, type_of)]
        case AllowNull(name) | DropColumn(name):
            found = columns.get(name)
            if found is None or found.nullable or name in target.primary:
                return []
            return [f"ALTER TABLE {table} MODIFY {quote(name)} {found.type}{_collate(found.collation)} NULL"]
        case RetypeColumn(old_column, new_column):
            return _retype(target, type_of(old_column), new_column, type_of)
        case ChangeKey(old, new):
            return _change_key(target, old, new)


def _collate(collation: str | None) -> str:
    return f" COLLATE {collation}" if collation else ""


def _add(table: str, column: Column, default: str | None, type_of: TypeOf) -> str:
    """NOT NULL needs a default that rows under the old schema get. An expression, since TEXT takes no literal."""
    null = "NULL" if column.nullable or default is None else "NOT NULL"
    value = "" if default is None else f" DEFAULT ({literal(default)})"
    return f"ALTER TABLE {table} ADD COLUMN {quote(column.name)} {type_of(column)} {null}{value}"


def same_type(spelled: str, catalogue: str) -> bool:
    """Whether a type as we spell it is the one the catalogue shows: display widths and character sets aside."""
    return _bare(spelled) == _bare(catalogue)


def _bare(text: str) -> str:
    bare = text.lower().split(" character set")[0].split(" collate")[0].strip()
    for word in ("tinyint", "smallint", "mediumint", "bigint", "integer", "int"):
        if bare.startswith(word + "(") and bare != "tinyint(1)":
            bare = word + bare.partition(")")[2]
    return {"integer": "int", "json": "longtext", "numeric": "decimal"}.get(bare, bare)


def _bare_collation(spelled: str) -> str | None:
    return spelled.rpartition(" COLLATE ")[2] if " COLLATE " in spelled else None


def _retype(target: TargetTable, before: str, column: Column, type_of: TypeOf) -> list[str]:
    """None where the target's type is neither the one before nor the new one: someone has chosen it."""
    now, type_ = target.columns.get(column.name), type_of(column)
    if now is None or not same_type(before, now.type):
        return []
    recollated = _bare_collation(type_) != _bare_collation(before) == now.collation
    if same_type(type_, now.type) and not recollated:
        return []
    null = "NULL" if now.nullable else "NOT NULL"
    return [f"ALTER TABLE {quoted(target.table)} MODIFY {quote(column.name)} {type_} {null}"]


def _change_key(target: TargetTable, old: tuple[str, ...], new: tuple[str, ...]) -> list[str]:
    if target.primary == new or (target.primary and sorted(target.primary) != sorted(old)):
        return []
    parts = ["DROP PRIMARY KEY"] if target.primary else []
    if new:
        # A column that this very change adds has a type that an index takes.
        found = {name: target.columns.get(name) for name in new}
        parts.append("ADD " + _primary_key({name: column.type if column else "" for name, column in found.items()}))
    return [f"ALTER TABLE {quoted(target.table)} {', '.join(parts)}"] if parts else []

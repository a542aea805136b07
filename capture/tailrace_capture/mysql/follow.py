"""What an ALTER TABLE makes of a table's description, forwards and backwards, as far as that is certain from its words.

A new column is taken away again without knowing its type; a dropped or renamed one leaves all others as they were.
Types, keys and character sets follow rules of the server and its defaults: those acts have no answer here.
Source: MySQL manual and MariaDB documentation, "ALTER TABLE". Pure.
"""

from __future__ import annotations

from dataclasses import replace

from tailrace_capture.mysql.ddl import Token, alter_parts, split
from tailrace_schemas.table import Column, TableSchema

# First words of acts that leave columns and keys as they are.
_SAME = ("ALGORITHM", "LOCK", "COMMENT", "AUTO_INCREMENT", "ENGINE", "ROW_FORMAT", "ENABLE", "DISABLE")
_ADDS_NO_COLUMN = ("INDEX", "KEY", "FULLTEXT", "SPATIAL", "FOREIGN", "CHECK")
_KEY_WORDS = ("PRIMARY", "UNIQUE", "KEY")


def after(schema: TableSchema, text: str) -> TableSchema | None:
    """The description behind the statement; None when its words do not make it certain."""
    return _through(schema, text, backwards=False)


def before(schema: TableSchema, text: str) -> TableSchema | None:
    """The description before the statement that led to `schema`; None when its words do not make it certain."""
    return _through(schema, text, backwards=True)


def _through(schema: TableSchema, text: str, *, backwards: bool) -> TableSchema | None:
    parts = alter_parts(text)
    if parts is None:
        return None
    if len(parts) > 1 and any(part and part[0].says("RENAME") for part in parts):
        return None  # in one statement, names before and after the rename may meet
    known: TableSchema | None = schema
    for part in parts:
        known = None if known is None or not part else _act(known, part, backwards=backwards)
    return known


def _act(schema: TableSchema, part: list[Token], *, backwards: bool) -> TableSchema | None:
    first, rest = part[0], part[1:]
    if first.says(*_SAME):
        return schema
    if first.says("ALTER"):
        return schema if any(token.says("DEFAULT", "INDEX") for token in rest) else None
    if first.says("ADD"):
        if rest and rest[0].says(*_ADDS_NO_COLUMN):
            return schema
        return _without(schema, _added(rest)) if backwards else None
    if first.says("DROP"):
        if rest and rest[0].says("FOREIGN", "CHECK"):
            return schema
        return None if backwards else _without(schema, _dropped(rest))
    if first.says("RENAME"):
        return _renamed(schema, rest, backwards=backwards)
    return None


def _added(rest: list[Token]) -> list[str] | None:
    """Names of the new columns; None when something else is added, or the act may have done nothing."""
    if rest and rest[0].says("COLUMN"):
        rest = rest[1:]
    if not rest or rest[0].says("IF", "PARTITION", "CONSTRAINT", "PERIOD", "SYSTEM", *_KEY_WORDS):
        return None
    if any(token.says(*_KEY_WORDS) for token in rest):
        return None
    if rest[0] == Token("(", "mark"):
        parts = split(rest[1:-1])
        return [part[0].text for part in parts] if all(parts) else None
    return [rest[0].text]


def _dropped(rest: list[Token]) -> list[str] | None:
    if rest and rest[0].says("COLUMN"):
        rest = rest[1:]
    if len(rest) != 1 or rest[0].says(*_KEY_WORDS, "INDEX", "CONSTRAINT", "PARTITION", "PERIOD", "SYSTEM", "IF"):
        return None
    return [rest[0].text]


def _without(schema: TableSchema, names: list[str] | None) -> TableSchema | None:
    if names is None:
        return None
    gone = {name.casefold() for name in names}
    left = tuple(column for column in schema.columns if column.name.casefold() not in gone)
    bound = [*schema.key, *(name for key in (*schema.unique, *_foreign(schema)) for name in key)]
    if len(left) != len(schema.columns) - len(gone) or gone.intersection(name.casefold() for name in bound):
        return None
    return replace(schema, columns=left)


def _renamed(schema: TableSchema, rest: list[Token], *, backwards: bool) -> TableSchema | None:
    """`RENAME COLUMN a TO b`; of indexes nothing changes."""
    if rest and rest[0].says("INDEX", "KEY"):
        return schema
    if len(rest) != 4 or not rest[0].says("COLUMN") or not rest[2].says("TO"):
        return None
    old, new = rest[1].text, rest[3].text
    old, new = (new, old) if backwards else (old, new)
    if any(old in names for names in (*schema.unique, *_foreign(schema))):
        return None
    found = [column for column in schema.columns if column.name.casefold() == old.casefold()]
    if len(found) != 1:
        return None
    name = found[0].name
    return replace(
        schema,
        columns=tuple(_named(column, new) if column is found[0] else column for column in schema.columns),
        key=tuple(new if part == name else part for part in schema.key),
    )


def _named(column: Column, name: str) -> Column:
    return replace(column, name=name)


def _foreign(schema: TableSchema) -> list[tuple[str, ...]]:
    return [key.columns for key in schema.foreign_keys]

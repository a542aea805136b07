"""What changed between two descriptions of a table, as operations a target can carry out, or a refusal to guess.

Pure. A TableSchema knows names, not identities, so a renamed column looks like one dropped and one added: the marker
must say which it is (`renamed`), or the table stops.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

from tailrace_schemas.table import Column, TableSchema


@dataclass(frozen=True, slots=True)
class AddColumn:
    """`default`: the value rows that exist already have at the source, in its text form."""

    column: Column
    default: str | None = None

    @property
    def is_unknown(self) -> bool:
        """Rows that exist have some value at the source, and it is not said which."""
        return self.default is None and not self.column.nullable


@dataclass(frozen=True, slots=True)
class DropColumn:
    name: str


@dataclass(frozen=True, slots=True)
class RenameColumn:
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class RetypeColumn:
    old: Column
    new: Column


@dataclass(frozen=True, slots=True)
class AllowNull:
    name: str


@dataclass(frozen=True, slots=True)
class ChangeKey:
    old: tuple[str, ...]
    new: tuple[str, ...]


UNKNOWN_DEFAULT = "the column is NOT NULL: rows that exist got a default at the source, which the log does not tell"

Operation = AddColumn | DropColumn | RenameColumn | RetypeColumn | AllowNull | ChangeKey


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """Columns of which nobody can say whether they were renamed, or dropped and added."""

    dropped: tuple[str, ...]
    added: tuple[str, ...]


def differences(
    old: TableSchema,
    new: TableSchema,
    renamed: Mapping[str, str] | None = None,
    defaults: Mapping[str, str] | None = None,
) -> list[Operation] | Ambiguous:
    """From `old` to `new`, in an order in which they can be carried out. `renamed`: old name → new name, where the
    source knows; `defaults`: see AddColumn. A column that became NOT NULL is left nullable at the target: rows written
    before may still come."""
    names = {column.name: column.name for column in old.columns} | dict(renamed or {})
    gone = [name for name, now in names.items() if now not in _names(new)]
    come = [name for name in _names(new) if name not in names.values()]
    if gone and come and renamed is None:
        return Ambiguous(tuple(gone), tuple(come))
    operations: list[Operation] = [RenameColumn(a, b) for a, b in names.items() if a != b]
    operations += _widened(old, new, names)
    operations += [AddColumn(new.column(name), (defaults or {}).get(name)) for name in come]
    key_before = tuple(names[name] for name in old.key)
    if key_before != new.key:
        operations.append(ChangeKey(key_before, new.key))
    operations += [DropColumn(name) for name in gone]
    return operations


def unambiguous(found: Ambiguous, schema: TableSchema) -> list[Operation]:
    """What is right in either case: the new columns are there, the old ones stay and want no value."""
    return [*(AllowNull(name) for name in found.dropped), *(AddColumn(schema.column(name)) for name in found.added)]


def untold(operations: list[Operation], existing: Container[str]) -> Column | None:
    """An added column whose value in rows that exist nobody told."""
    added = [o for o in operations if isinstance(o, AddColumn) and o.is_unknown and o.column.name not in existing]
    return added[0].column if added else None


def _names(schema: TableSchema) -> list[str]:
    return [column.name for column in schema.columns]


def _widened(old: TableSchema, new: TableSchema, names: Mapping[str, str]) -> list[Operation]:
    out: list[Operation] = []
    for before in old.columns:
        if names[before.name] not in _names(new):
            continue
        after = new.column(names[before.name])
        if (before.type, before.native, before.collation) != (after.type, after.native, after.collation):
            out.append(RetypeColumn(before, after))
        if after.nullable and not before.nullable:
            out.append(AllowNull(after.name))
    return out

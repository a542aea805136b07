"""What `consistency: key` refuses (rule D5), and why: partitions are applied independently of each other, so only what
lies within one key may depend on order.

Pure: a sink reads the facts from its target's catalogue and gets findings, for preflight, or the first as an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tailrace_schemas.errors import Finding, TableStopError
from tailrace_schemas.table import Column, TableSchema
from tailrace_schemas.types import Kind
from tailrace_sinks.cascade import acts

# Equal values of these have equal bytes in the log, given that the target's collation compares bytes. Not so: 0.0 and
# -0.0, numeric without declared scale (1.0, 1.00), intervals (24 hours, 1 day), citext, ranges …
_ONE_FORM: frozenset[Kind] = frozenset(
    [
        *("boolean", "int8", "int16", "int32", "int64", "decimal", "string", "bytes", "bits", "uuid", "enum", "set"),
        *("date", "time", "duration", "timestamp", "timestamp_tz", "year"),
    ]
)
_ONE_TEXT = ("inet", "cidr", "macaddr", "macaddr8")
OTHER_WAY = "or set consistency: transaction"


@dataclass(frozen=True, slots=True)
class KeyFacts:
    """What the target's catalogue says of one table. Each with the statement that removes it.

    `uniques`: unique and exclusion constraints but those on the key. `foreign_keys`: of the table and to it.
    `loose`: key columns that hold different texts for equal.
    """

    uniques: tuple[tuple[str, str], ...] = ()
    foreign_keys: tuple[tuple[str, str], ...] = ()
    loose: tuple[tuple[str, str], ...] = ()


def source_findings(schema: TableSchema) -> list[Finding]:
    """What the source's table alone tells."""
    out = []
    if not schema.key:
        message = "it has no key: its events are in order only together"
        out.append(_finding(schema, "KEY_KEYLESS", message, "add a primary key at the source, " + OTHER_WAY))
    for key in schema.foreign_keys:
        if acts(schema, key):
            message = f"the actions of foreign key {key.name} have to be executed in source order"
            remedy = f"drop its ON DELETE and ON UPDATE actions at the source, {OTHER_WAY}"
            out.append(_finding(schema, "KEY_FOREIGN_KEY", message, remedy))
    for column in schema.key_columns:
        if not _one_form(column):
            message = f'equal values of key column "{column.name}" ({column.native}) may have several forms'
            out.append(_finding(schema, "KEY_COLLATION", message, "set consistency: transaction"))
    return out


def _one_form(column: Column) -> bool:
    return column.type.kind in _ONE_FORM or column.native.lower() in _ONE_TEXT


def target_findings(schema: TableSchema, facts: KeyFacts) -> list[Finding]:
    """What the table at the target adds."""
    out = []
    for name, remedy in facts.uniques:
        message = f"its values of {name} may move between keys, whose order is not kept"
        out.append(_finding(schema, "KEY_UNIQUE", message, f"{remedy}, {OTHER_WAY}"))
    for name, remedy in facts.foreign_keys:
        message = f"foreign key {name} needs parents before children"
        out.append(_finding(schema, "KEY_FOREIGN_KEY", message, f"{remedy}, {OTHER_WAY}"))
    for name, remedy in facts.loose:
        message = f'the target\'s collation of key column "{name}" holds different texts for equal'
        out.append(_finding(schema, "KEY_COLLATION", message, f"{remedy}, {OTHER_WAY}"))
    return out


def _finding(schema: TableSchema, code: str, message: str, remedy: str) -> Finding:
    return Finding(
        "error", code, f'consistency key cannot apply table "{schema.table}": {message}', remedy, schema.table
    )


def refuse(findings: Iterable[Finding]) -> None:
    """
    Raises:
        TableStopError: there is a finding; its code and remedy.
    """
    for finding in findings:
        raise TableStopError(finding.message, code=finding.code, hint=finding.remedy, table=finding.table)


def compares_bytes(collation: str) -> bool:
    """Of a MySQL or MariaDB collation: only texts of the same bytes are equal, trailing blanks included. The older _bin
    collations pad with blanks."""
    return collation in ("binary", "utf8mb4_0900_bin") or collation.endswith("_nopad_bin")

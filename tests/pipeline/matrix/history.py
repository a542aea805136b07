"""What was done to the target, written down by triggers of the target itself, and whether any of it was done twice.

Every applied change leaves (table, key, version, operation). The sink may join several versions of a row into one
change, so versions may be left out; but none may come twice, and none may come after a later one of the same key.
Only the rows of a table that starts again may come once more: after a TRUNCATE; after their own DELETE where rows have
no key; and, for tables loaded together under one snapshot, after a DELETE of every row (MySQL and MariaDB targets are
emptied so).
"""

from __future__ import annotations

from pipeline.matrix.engine import Session, Side
from pipeline.matrix.tables import CHILDREN, COPIES_TAG, JOURNAL, PARENTS, TABLES, Table

NAME = "applied_history"
SHOWN = 8


def create_history(side: Side) -> None:
    """Make the history and its triggers. The workload's tables must be there."""
    with side.session() as session:
        for statement in _POSTGRES if side.engine == "postgresql" else _MYSQL:
            session.run(statement)
        for table in TABLES:
            for statement in _postgres_triggers(table, side) if side.engine == "postgresql" else _mysql_triggers(table):
                session.run(statement)


_POSTGRES = (f"CREATE TABLE {NAME} (n bigint GENERATED ALWAYS AS IDENTITY, t text, k text, v bigint, op text)",)


def _postgres_triggers(table: Table, side: Side) -> list[str]:
    # A sink applies as a replica, for which only triggers enabled ALWAYS fire.
    history = f"{side.dialect.quote(side.namespace)}.{NAME}"
    name, columns = table.name, f"INSERT INTO {history} (t, k, v, op) VALUES ('{table.name}'"
    old, new = (", ".join(f"{row}.{column}" for column in table.identity) for row in ("OLD", "NEW"))
    return [
        f"CREATE FUNCTION note_{name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF TG_OP = 'TRUNCATE' THEN {columns}, NULL, NULL, 'T');"
        f" ELSIF TG_OP = 'DELETE' THEN {columns}, concat_ws('/', {old}), OLD.version, 'D');"
        f" ELSE {columns}, concat_ws('/', {new}), NEW.version, left(TG_OP, 1)); END IF; RETURN NULL; END $$",
        f"CREATE TRIGGER note_rows AFTER INSERT OR UPDATE OR DELETE ON {name} FOR EACH ROW"
        f" EXECUTE FUNCTION note_{name}()",
        f"CREATE TRIGGER note_truncate AFTER TRUNCATE ON {name} FOR EACH STATEMENT EXECUTE FUNCTION note_{name}()",
        f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER note_rows",
        f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER note_truncate",
    ]


_MYSQL = (
    f"CREATE TABLE {NAME} (n bigint AUTO_INCREMENT PRIMARY KEY, t varchar(40), k varchar(200), v bigint, op char(1))"
    " ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin",
)


def _mysql_triggers(table: Table) -> list[str]:
    out = []
    for operation, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
        key = ", ".join(f"{row}.`{name}`" for name in table.identity)
        out.append(
            f"CREATE TRIGGER note_{table.name}_{operation.lower()} AFTER {operation} ON `{table.name}` FOR EACH ROW"
            f" INSERT INTO {NAME} (t, k, v, op)"
            f" VALUES ('{table.name}', concat_ws('/', {key}), {row}.version, '{operation[0]}')"
        )
    return out


# ---- judged

_WITH_STARTS = f"""
WITH live AS (
    SELECT n, t, k, v, op,
        sum(CASE op WHEN 'I' THEN 1 WHEN 'D' THEN -1 ELSE 0 END) OVER (PARTITION BY t ORDER BY n) AS rows_left
    FROM {NAME}
),
h AS (
    SELECT n, t, k, v, op,
        sum(CASE WHEN op = 'T' THEN 1 ELSE 0 END) OVER (PARTITION BY t ORDER BY n)
        + CASE WHEN t IN ('{PARENTS.name}', '{CHILDREN.name}') AND op <> 'T'
            THEN sum(CASE WHEN op = 'D' AND rows_left = 0 THEN 1 ELSE 0 END) OVER (PARTITION BY t ORDER BY n)
                - CASE WHEN op = 'D' AND rows_left = 0 THEN 1 ELSE 0 END
            ELSE 0 END
        + CASE WHEN t = '{JOURNAL.name}'
            THEN sum(CASE WHEN op = 'D' THEN 1 ELSE 0 END) OVER (PARTITION BY t, k ORDER BY n) ELSE 0 END
        - CASE WHEN t = '{JOURNAL.name}' AND op = 'D' THEN 1 ELSE 0 END AS start
    FROM live
    WHERE NOT (t = '{JOURNAL.name}' AND k = '{COPIES_TAG}')
)
"""
_TWICE = f"""
{_WITH_STARTS}
SELECT t, k, v, op, count(*), min(n), max(n) FROM h WHERE op <> 'T'
GROUP BY t, k, v, op, start HAVING count(*) > 1 ORDER BY min(n) LIMIT {SHOWN}
"""
_BACKWARDS = f"""
{_WITH_STARTS}
SELECT t, k, v, op, before_v, before_op, n FROM (
    SELECT t, k, v, op, n, lag(v) OVER w AS before_v, lag(op) OVER w AS before_op
    FROM h WHERE op <> 'T' WINDOW w AS (PARTITION BY t, k, start ORDER BY n)
) AS steps
WHERE v < before_v OR (v = before_v AND op <> 'D') ORDER BY n LIMIT {SHOWN}
"""


def faults(side: Side) -> list[str]:
    """A line for everything that was applied twice or out of order (the first few of each kind)."""
    with side.session() as session:
        twice = [f"twice: {_named(row)} at {row[5]} and {row[6]}" for row in session.rows(_TWICE)]
        backwards = [
            f"backwards: {_named(row)} after {row[4]} {row[5]}, at {row[6]}" for row in session.rows(_BACKWARDS)
        ]
        return twice + backwards


def _named(row: tuple[object, ...]) -> str:
    table, key, version, operation = row[:4]
    return f"{table} {key!r} version {version} {operation}"


def counts(side: Side) -> dict[str, int]:
    """How often each operation was applied; `T`: tables emptied by TRUNCATE."""
    with side.session() as session:
        return _counts(session)


def _counts(session: Session) -> dict[str, int]:
    rows = session.rows(f"SELECT op, count(*) FROM {NAME} GROUP BY op ORDER BY op")
    return {str(op): int(str(count)) for op, count in rows}

"""Fill the source's tables before a run: many rows in big INSERTs, the same rows from the same seed on every engine."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random

from pipeline.matrix.engine import Session, Side, insert
from pipeline.matrix.tables import COPIES_TAG, COUNTERS, JOURNAL, TABLES, Table, Value, row_of

ROWS_AT_ONCE = 500
STATEMENTS_AT_ONCE = 10
COPIES = 40


def fill(side: Side, seed: int, rows: int, tables: Sequence[Table] = TABLES) -> int:
    """Insert into `tables` their parts of about `rows` rows over all tables; returns how many it were."""
    with side.session() as session:
        return sum(_fill(session, side, table, seed, rows) for table in tables)


def _fill(session: Session, side: Side, table: Table, seed: int, rows: int) -> int:
    count = 0
    statements: list[str] = []
    more = rows_of(table, seed, rows)
    while some := list(islice(more, ROWS_AT_ONCE)):
        statements.append(insert(side.dialect, table, some))
        count += len(some)
        if len(statements) == STATEMENTS_AT_ONCE:
            session.run("; ".join(["BEGIN", *statements, "COMMIT"]))
            statements = []
    for statement in statements:
        session.run(statement)
    return count


def rows_of(table: Table, seed: int, rows: int) -> Iterator[list[Value]]:
    """The rows of a table as filled, in the order of their numbers; `journal` has copies of one row besides."""
    draw = Random(f"{seed} fill {table.name}")
    blocks = 1 if table is COUNTERS else table.blocks(rows)
    # Block 0 stays empty: number 0 is no key of a row.
    first = 0 if table is COUNTERS else 1
    for block in range(first, first + blocks):
        for digit in table.filled:
            yield row_of(table, block * 10 + int(digit), 1, draw)
    if table is JOURNAL:
        copy = row_of(table, COPIES_TAG, 1, draw)
        yield from (copy for _ in range(COPIES))


if __name__ == "__main__":
    words = json.loads(sys.argv[1])
    print(fill(Side(**words["side"]), words["seed"], words["rows"]))

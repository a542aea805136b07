"""Parked rows: where a row waits that a unique key of the target does not take yet.

While a table is loaded its chunks are read under different snapshots (rule B1). So a row B(v) of a later chunk may come
while A(v) of an earlier one is there still: that A gave v away stands later in the stream. The source never had
both, and nobody can tell from the rows which is the old one. The target's unique keys refuse the second: it goes to a
*parked table* beside the progress table, in the same target transaction, and from there to the target as soon as
it can. A logical table is its target and its parked rows together, disjoint by key; at a commit record that says
`consistent` nothing is parked any more, or the key is really violated.

Pure. The work is done by `postgres_parked` and `mysql_parked`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from tailrace_schemas.errors import InvariantError, StopError
from tailrace_schemas.table import TableId


def prefix(progress: TableId, pipeline: str) -> str:
    """What the names of all parked tables of a pipeline begin with."""
    return f"parked_{_digest(progress.name, pipeline, length=12)}_"


def parked_name(progress: TableId, pipeline: str, sink: str, source: TableId) -> str:
    """The same for ever; short enough for every engine."""
    return prefix(progress, pipeline) + _digest(sink, *source, length=16)


def refuse_in_order(source: TableId, *, is_parked: bool) -> None:
    """Tables applied in source order are bound by foreign-key actions, and those are loaded under one snapshot.

    Raises:
        InvariantError: rows of such a table are parked all the same.
    """
    if is_parked:
        raise InvariantError(f'rows of "{source}" are parked, and its foreign-key actions cannot reach them')


def refuse_lanes(sources: Sequence[TableId]) -> None:
    """For a sink that goes on with `consistency: key` after `transaction`, in the middle of a load.

    Raises:
        StopError: rows are parked, which no lane would look after (code CONSISTENCY).
    """
    if sources:
        raise StopError(
            "rows of the load are still parked",
            code="CONSISTENCY",
            detail="under consistency transaction they wait for unique values: " + ", ".join(map(str, sources)),
            hint="run with consistency: transaction until the load is done, then change to key",
            table=sources[0],
        )


def _digest(*words: str, length: int) -> str:
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()[:length]

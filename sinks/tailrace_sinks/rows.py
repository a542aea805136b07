"""The records of one step, sorted by the schema they were written with, in an order that keeps that of every key."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from tailrace_sinks.decode import schema_runs
from tailrace_sinks.sink import Rows


@dataclass(slots=True)
class Part:
    """Frames of one value schema, in order per partition. `loaded`: all are rows of snapshot chunks."""

    schema_id: int
    frames: list[bytes] = field(default_factory=list)
    loaded: bool = True


def levels(rows: Rows) -> list[Part]:
    """Usually one part. A key stays in its partition, so the k-th run of every partition may be applied together, after
    all earlier ones. Tombstones that stand alone say nothing and are left out.

    Raises:
        ValueError, IndexError: not record frames.
    """
    depth: dict[int, int] = defaultdict(int)
    current: dict[int, int] = {}
    parts: dict[tuple[int, int], Part] = {}
    for piece in rows.pieces:
        for schema_id, frames in schema_runs(piece.frames):
            if schema_id < 0:
                continue
            before = current.get(piece.partition)
            if before is not None and before != schema_id:
                depth[piece.partition] += 1
            current[piece.partition] = schema_id
            part = parts.setdefault((depth[piece.partition], schema_id), Part(schema_id))
            part.frames.append(frames)
            part.loaded = part.loaded and piece.loaded
    return [parts[place] for place in sorted(parts, key=lambda place: place[0])]

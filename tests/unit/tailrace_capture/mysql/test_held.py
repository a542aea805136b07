"""Rows of a transaction that waits for its end, in memory and in a file."""

from __future__ import annotations

import random

import pytest

import tailrace_capture.mysql.held
from tailrace_capture.mysql.held import Held, Piece


def content(held: Held) -> list[tuple[bytes, int, int, int | None]]:
    return [(p.data[p.start : p.end], p.gap, p.trailer, p.fixed) for p in held.pieces()]


def test_savepoints_take_back_what_is_in_memory_and_what_is_in_the_file(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailrace_capture.mysql.held, "MEMORY_BYTES", 300)
    draw = random.Random(seed)
    held, wanted, marks = Held(), list[Piece](), dict[int, int]()
    for number in range(2000):
        action = draw.random()
        if action < 0.1:
            marks[held.mark()] = len(wanted)
        elif action < 0.2 and marks:
            mark = draw.choice(list(marks))
            held.cut(mark)
            del wanted[marks[mark] :]
            marks = {place: count for place, count in marks.items() if place <= mark}
        elif action < 0.3:
            next(held.pieces(), None)
        else:
            data = draw.randbytes(draw.randint(1, 60))
            piece = Piece(data, 0, len(data), draw.choice([0, 5]), 4, draw.choice([None, 0, number]))
            held.add(piece)
            wanted.append(piece)
    assert content(held) == [(p.data, p.gap, p.trailer, p.fixed) for p in wanted]
    assert held.size == sum(piece.stored_size for piece in wanted)

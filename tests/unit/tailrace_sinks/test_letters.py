"""Which letters of a batch still wait for their row at its end."""

from __future__ import annotations

from librt.strings import BytesWriter

from tailrace_schemas.errors import EventError, RowRejectedError
from tailrace_schemas.wire import frames, put_frame
from tailrace_sinks.dead_letter import Unclear, apply_surviving
from tailrace_sinks.sink import Piece, Rows

HEADER = b"\0\0\0\0\1"


def rows(*events: tuple[str, str]) -> Rows:
    """(key, value) each; a value may be `bad…`, refused, or `part…`, of changed columns only."""
    out = BytesWriter()
    for key, value in events:
        put_frame(out, HEADER + key.encode(), value.encode())
    return Rows((Piece(0, 0, len(events), out.getvalue()),))


def attempt(some: Rows, keep: bool) -> EventError | Unclear | None:
    values = [value or b"" for piece in some.pieces for _, value in frames(piece.frames)]
    return RowRejectedError("no") if any(value.startswith(b"bad") for value in values) else None


def waiting(*events: tuple[str, str]) -> list[tuple[str, bool]]:
    """The values set aside, and whether each still waits."""
    outcome = apply_surviving(
        rows(*events), frozenset(), lambda event: (event.value or b"").startswith((b"part", b"badpart")), attempt
    )
    return [((event.value or b"").decode(), event.place in outcome.waiting) for event, _ in outcome.refused]


def test_what_is_set_aside_waits_until_a_whole_event_of_its_key() -> None:
    assert waiting(("a", "bad1"), ("b", "fits"), ("a", "part")) == [("bad1", True), ("part", True)]
    assert waiting(("a", "bad1"), ("a", "part"), ("a", "whole")) == [("bad1", False), ("part", False)]


def test_a_letter_before_a_whole_event_does_not_wait() -> None:
    assert waiting(("a", "bad1"), ("a", "whole"), ("a", "badpart")) == [("bad1", False), ("badpart", True)]

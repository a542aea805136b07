"""Row events of a transaction that waits for its end: in memory, and past a limit in a temporary file.

Kept as ranges of the received bytes, so that a small transaction costs no copy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

SPILL_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Piece:
    """Events in data[start:end], each behind `gap` bytes and with `trailer` bytes of checksum at its end; `fixed`: the
    place of the event they came out of, None when they stand in the log themselves."""

    data: bytes
    start: int
    end: int
    gap: int
    trailer: int
    fixed: int | None = None


@dataclass(slots=True)
class Held:
    """`size`: bytes. `mark` and `cut` serve savepoints."""

    size: int = 0
    _pieces: list[Piece] = field(default_factory=list)
    _file: IO[bytes] | None = None

    def add(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self.size += piece.end - piece.start

    def mark(self) -> int:
        return len(self._pieces)

    def cut(self, mark: int) -> bool:
        """Forget what was added since `mark`; False when that is in the file already."""
        if self._file is not None:
            return False
        del self._pieces[mark:]
        self.size = sum(piece.end - piece.start for piece in self._pieces)
        return True

    def spill(self) -> None:
        """Move what is in memory to a file that vanishes with this object."""
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="tailrace-")  # noqa: SIM115 - lives as long as the transaction
        for piece in self._pieces:
            numbers = (piece.gap, piece.trailer, -1 if piece.fixed is None else piece.fixed, piece.end - piece.start)
            self._file.write(b"".join(number.to_bytes(8, "little", signed=True) for number in numbers))
            self._file.write(memoryview(piece.data)[piece.start : piece.end])
        self._pieces = []

    @property
    def in_memory(self) -> int:
        return sum(piece.end - piece.start for piece in self._pieces)

    def pieces(self) -> Iterator[Piece]:
        """Everything, in order; may be asked again."""
        if self._file is not None:
            self._file.seek(0)
            while head := self._file.read(32):
                gap, trailer, fixed, size = (
                    int.from_bytes(head[i : i + 8], "little", signed=True) for i in range(0, 32, 8)
                )
                yield Piece(self._file.read(size), 0, size, gap, trailer, None if fixed < 0 else fixed)
            self._file.seek(0, 2)
        yield from self._pieces

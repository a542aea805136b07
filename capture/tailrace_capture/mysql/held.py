"""Row events of a transaction that waits for its end: the newest in memory, the others in a temporary file.

Kept as ranges of the received bytes, so that a small transaction costs no copy.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

MEMORY_BYTES = 8 << 20
_HEAD = 32  # bytes before each piece in the file: gap, trailer, fixed, size


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

    @property
    def stored_size(self) -> int:
        return _HEAD + self.end - self.start


@dataclass(slots=True)
class Held:
    """`size`: bytes, as in the file. `mark` and `cut` serve savepoints. The file vanishes with this object."""

    size: int = 0
    _pieces: list[Piece] = field(default_factory=list)
    _in_memory: int = 0
    _file: IO[bytes] | None = None

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self.size += piece.stored_size
        self._in_memory += piece.stored_size
        if self._in_memory > MEMORY_BYTES:
            self._spill()

    def mark(self) -> int:
        return self.size

    def cut(self, mark: int) -> None:
        """Forget what was added since `mark`."""
        while self._pieces and self.size > mark:
            gone = self._pieces.pop().stored_size
            self.size -= gone
            self._in_memory -= gone
        if self._file is not None and self.size > mark:
            self._file.truncate(mark)
            self.size = mark

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="tailrace-")  # noqa: SIM115 - lives as long as the transaction
        self._file.seek(0, 2)
        for piece in self._pieces:
            numbers = (piece.gap, piece.trailer, -1 if piece.fixed is None else piece.fixed, piece.end - piece.start)
            self._file.write(b"".join(number.to_bytes(8, "little", signed=True) for number in numbers))
            self._file.write(memoryview(piece.data)[piece.start : piece.end])
        self._pieces, self._in_memory = [], 0

    def pieces(self) -> Iterator[Piece]:
        """Everything, in order. May be asked again, and by several threads once nothing is added any more."""
        if self._file is not None:
            self._file.flush()
            yield from self._stored(self._file.fileno())
        yield from self._pieces

    @staticmethod
    def _stored(file: int) -> Iterator[Piece]:
        at = 0
        while head := os.pread(file, _HEAD, at):
            gap, trailer, fixed, size = (
                int.from_bytes(head[i : i + 8], "little", signed=True) for i in range(0, _HEAD, 8)
            )
            yield Piece(os.pread(file, size, at + _HEAD), 0, size, gap, trailer, None if fixed < 0 else fixed)
            at += _HEAD + size

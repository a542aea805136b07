"""In-progress transactions, kept on disk until they commit (pgoutput protocol 2, streaming).

The server sends parts of a big transaction before it knows whether it commits. They are written to one file per
transaction as they come and are read again at its commit, without the parts that were aborted meanwhile. A restart
forgets them: the server sends everything again. Memory: one write buffer a transaction.
"""

from __future__ import annotations

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_HEAD = struct.Struct("<iI")  # length of the message, (sub)transaction


class Spool:
    """`folder` belongs to the spool: it is emptied at the start."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._files: dict[int, BinaryIO] = {}
        self._aborted: dict[int, set[int]] = {}

    def add(self, xid: int, subxid: int, message: bytes) -> None:
        """Append one message of the part `subxid` (the transaction itself, or one of its subtransactions)."""
        file = self._files.get(xid)
        if file is None:
            file = self._files[xid] = (self._folder / str(xid)).open("w+b", buffering=1 << 20)
        file.write(_HEAD.pack(len(message), subxid))
        file.write(message)

    def abort(self, xid: int, subxid: int) -> None:
        """The part `subxid` is rolled back; when it is the transaction itself, everything goes."""
        if xid == subxid:
            self.forget(xid)
        else:
            self._aborted.setdefault(xid, set()).add(subxid)

    def messages(self, xid: int) -> Iterator[bytes]:
        """What is left of a transaction, in order. Empty for one that never had changes of ours."""
        file = self._files.get(xid)
        if file is None:
            return
        aborted = self._aborted.get(xid, set())
        file.seek(0)
        while head := file.read(_HEAD.size):
            length, subxid = _HEAD.unpack(head)
            message = file.read(length)
            if subxid not in aborted:
                yield message

    def forget(self, xid: int) -> None:
        self._aborted.pop(xid, None)
        if (file := self._files.pop(xid, None)) is not None:
            file.close()
            (self._folder / str(xid)).unlink()

    def close(self) -> None:
        for xid in list(self._files):
            self.forget(xid)

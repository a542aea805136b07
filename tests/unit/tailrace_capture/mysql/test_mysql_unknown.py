"""What a binary log holds and this version does not know stops the capture: it is never read over."""

from __future__ import annotations

import struct
from typing import Any, cast

import pytest

from tailrace_capture.mysql.progress import Progress
from tailrace_capture.mysql.stream import Stream
from tailrace_schemas.errors import StopError
from tailrace_schemas.position import FilePlace, parse_position

ROTATE, UNKNOWN = 4, 199
ARTIFICIAL, IGNORABLE = 0x20, 0x80  # a replica may skip what it does not know and is ignorable; we may not


def event(kind: int, body: bytes, next_pos: int, flags: int) -> bytes:
    return struct.pack("<IBIIIH", 1_700_000_000, kind, 1, 19 + len(body), next_pos, flags) + body


class Dump:
    """A dump connection that gives some events, each in its packet, and then nothing more."""

    checksum = False

    def __init__(self, *events: bytes) -> None:
        packets = (b"\0" + data for data in events)
        self._left = [b"".join(len(packet).to_bytes(3, "little") + b"\0" + packet for packet in packets)]

    def receive(self, seconds: float) -> bytes:
        return self._left.pop()  # IndexError: the stream has gone on


class NoTables:
    stopping = False
    settled = False
    tables: dict[Any, Any] = {}

    def tick(self) -> None: ...


@pytest.mark.parametrize("flags", [0, IGNORABLE])
def test_an_event_of_a_type_we_do_not_know_stops_the_stream_at_its_place(flags: int) -> None:
    begin = event(ROTATE, (4).to_bytes(8, "little") + b"binlog.000007", 0, ARTIFICIAL)
    dump = Dump(begin, event(UNKNOWN, b"what", 27, flags))
    progress = Progress.at(parse_position("file:uuid@binlog.000007:4"))
    client, feed, unused = cast(Any, dump), cast(Any, NoTables()), cast(Any, None)
    stream = Stream(client, feed, progress, unused, b"", FilePlace("binlog.000007", 4), unused)
    with pytest.raises(StopError, match=f"type {UNKNOWN} at binlog.000007:4") as caught:
        stream.run()
    assert (caught.value.code, caught.value.position) == ("BINLOG_UNKNOWN", "binlog.000007:27")

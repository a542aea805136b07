"""What a replication stream holds and this version does not know stops the capture: it is never read over."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tailrace_capture.postgres import pgoutput
from tailrace_capture.postgres.stream import Stream
from tailrace_schemas.errors import StopError
from tailrace_schemas.position import LsnPosition


@pytest.mark.parametrize("message", [b"w" + bytes(24) + b"Z" + b"what", b"Zwhat"])
def test_a_message_we_do_not_know_stops_the_stream_where_the_log_stands(message: bytes, tmp_path: Path) -> None:
    side = cast(Any, SimpleNamespace(info=SimpleNamespace(dbname="d")))
    feed = cast(Any, SimpleNamespace(durable=LsnPosition(0x200)))
    stream = Stream(cast(Any, None), side, feed, {}, b"", tmp_path, False)
    with pytest.raises(StopError, match="'Z'") as caught:
        stream._message(message, pgoutput.NOT_A_CHANGE)
    assert (caught.value.code, caught.value.position) == ("UNKNOWN_MESSAGE", "lsn:0/200")

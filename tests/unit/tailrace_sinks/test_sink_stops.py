"""What stops a sink names the position that its target holds."""

import threading
from typing import cast

import pytest

from tailrace_log.memory import MemoryLog, MemoryReader
from tailrace_schemas.errors import TableStopError
from tailrace_schemas.table import TableId
from tailrace_sinks.service import run_sink
from tailrace_sinks.sink import Progress, Sink
from tailrace_sinks.status import SinkStatus


class Holding:
    """A target that holds the log up to a position."""

    def open(self, *, take_over: bool) -> Progress:
        return Progress(3, "lsn:0/200", 1)


class Stopping(MemoryLog):
    def reader(self) -> MemoryReader:
        raise TableStopError("x", code="TARGET_MISFIT", hint="h", table=TableId("s", "t"), column="c")


def test_what_stops_a_sink_names_column_and_position() -> None:
    status = SinkStatus("replica")
    with pytest.raises(TableStopError) as caught:
        run_sink(Stopping(), cast(Sink, Holding()), name="replica", stop=threading.Event(), status=status)
    assert caught.value.position == "lsn:0/200"
    said = {"code": "TARGET_MISFIT", "message": "x", "remedy": "h", "column": "c", "position": "lsn:0/200"}
    assert status.to_json()["error"] == said

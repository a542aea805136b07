"""What stops the whole capture names the position that the log keeps."""

import threading
from typing import cast

import pytest

from tailrace_capture.service import CaptureSettings, CaptureStatus, run_capture
from tailrace_capture.source import Source
from tailrace_log.log import CommitRecord
from tailrace_log.memory import MemoryLog
from tailrace_schemas.errors import PositionLostError, StopError, TailraceError
from tailrace_schemas.position import Position, parse_position


class Refusing:
    """A source that will not go on from where the log stands."""

    engine = "postgresql"

    def __init__(self, error: TailraceError) -> None:
        self._error = error

    def parse_position(self, text: str) -> Position:
        return parse_position(text)

    def identity(self) -> dict[str, str]:
        return {}

    def check(self, *_: object) -> None:
        raise self._error

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StopError("x"), "lsn:0/200"),
        (PositionLostError("x"), "lsn:0/200"),
        (StopError("x", position="lsn:0/300"), "lsn:0/300"),
    ],
)
def test_what_stops_the_capture_names_its_own_position_or_that_of_the_log(error: TailraceError, expected: str) -> None:
    log = MemoryLog("p")
    writer = log.writer("p", [])
    writer.open()
    writer.write([], CommitRecord(0, "p", "stream", {}, "lsn:0/200"))
    status = CaptureStatus()
    with pytest.raises(type(error)) as caught:
        run_capture(cast(Source, Refusing(error)), log, CaptureSettings("p"), threading.Event(), status)
    assert caught.value.position == expected

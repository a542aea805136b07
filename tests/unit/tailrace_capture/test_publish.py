"""What the publisher refuses to write."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fix_servers import wait_until

from tailrace_capture.publish import Publisher, StreamWork
from tailrace_capture.tables import TableRegister
from tailrace_log.frames import Clock
from tailrace_log.log import LogWriter
from tailrace_log.memory import MemoryLog
from tailrace_schemas.errors import InvariantError
from tailrace_schemas.position import parse_position

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


@contextmanager
def publisher(writer: LogWriter, log: MemoryLog) -> Iterator[Publisher]:
    register = TableRegister(log, writer, Clock(), parse_position, False)
    out = Publisher(writer, "p", {}, parse_position, register)
    out.start()
    try:
        yield out
    finally:
        out.close(0)


@pytest.mark.parametrize(
    ("written", "back"),
    [
        (["lsn:0/200", "lsn:0/200", "lsn:0/300"], "lsn:0/2FF"),
        ([f"gtid:{UUID}:1-5", f"gtid:{UUID}:1-7"], f"gtid:{UUID}:1-6:8-20"),
        (["mariadb:0-1-5,1-1-9"], "mariadb:0-1-6,1-1-8"),
        (["file:1@binlog.000009:400"], "file:1@binlog.000009:399"),
        (["file:1@binlog.000009:400"], "file:2@binlog.000010:400"),
        (["file:1@binlog.000009:400"], f"gtid:{UUID}:1-6"),
    ],
)
def test_a_position_never_goes_back_in_the_log(written: list[str], back: str) -> None:
    log = MemoryLog("p")
    writer = log.writer("p", [])
    writer.open()
    with publisher(writer, log) as running:
        for position in written:
            running.put(StreamWork([], position), lambda: None)
        wait_until(lambda: running.seq == len(written) - 1, 10, "the records are written")
        running.put(StreamWork([], back), lambda: None)
        wait_until(lambda: running.error is not None, 10, "the publisher has ended")
        with pytest.raises(InvariantError) as caught:
            running.check()
    assert back in caught.value.detail
    assert [record.position for record in log.reader().commits(-1, 10, 0)] == written

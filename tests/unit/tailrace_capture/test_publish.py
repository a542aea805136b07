"""What the publisher refuses to write."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from fix_servers import wait_until
from librt.strings import BytesWriter

from tailrace_capture.load_state import TableLoad
from tailrace_capture.publish import ChunkWork, Mark, Publisher, StreamWork
from tailrace_capture.tables import TableRegister
from tailrace_log.frames import Clock
from tailrace_log.log import Batch, LogWriter, Marker
from tailrace_log.memory import MemoryLog
from tailrace_schemas.errors import InvariantError
from tailrace_schemas.position import parse_position
from tailrace_schemas.table import TableId
from tailrace_schemas.wire import put_frame

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
TABLE, TOPIC = TableId("public", "t"), "p.public.t"


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


def chunk(generation: int, row: bytes) -> ChunkWork:
    """The table's one chunk, read in the run since it has started again `generation` times."""
    out = BytesWriter()
    put_frame(out, b"k", row)
    batch = Batch(TOPIC, 0, 1, out.getvalue())
    return ChunkWork(TABLE, generation, 0, [batch], "5:5:@lsn:0/100", "lsn:0/900", 1)


def test_rows_read_before_a_table_started_again_do_not_follow_its_reload_marker() -> None:
    log = MemoryLog("p")
    writer = log.writer("p", [])
    writer.open()
    writer.ensure_topics({TOPIC: 1})
    with publisher(writer, log) as running:
        running.loads[TABLE] = TableLoad.fresh([])
        again = Mark(Marker("reload", *TABLE, TOPIC, {0: 0}), bounds=[])
        for work in (StreamWork([], "lsn:0/200", [again]), chunk(0, b"old"), chunk(1, b"new")):
            running.put(work, lambda: None)
        wait_until(lambda: running.idle, 10, "all of it is written or left out")
        running.check()
    reader = log.reader()
    marked, read = reader.commits(-1, 10, 0)
    assert [marker.kind for marker in marked.markers] == ["reload"]
    assert reader.read(read) == chunk(1, b"new").batches
    assert running.loads[TABLE].chunks == ["d"]


def test_a_chunk_leaves_the_position_where_the_stream_has_put_it() -> None:
    """Its snapshot shows more, but what lies between has yet to be read by the stream."""
    log = MemoryLog("p")
    writer = log.writer("p", [])
    writer.open()
    writer.ensure_topics({TOPIC: 1})
    with publisher(writer, log) as running:
        running.loads[TABLE] = TableLoad.fresh([])
        for work in (StreamWork([], "lsn:0/200"), chunk(0, b"row")):
            running.put(work, lambda: None)
        wait_until(lambda: running.idle, 10, "both are written")
        running.check()
    found = [(record.kind, record.position) for record in log.reader().commits(-1, 10, 0)]
    assert found == [("stream", "lsn:0/200"), ("chunk", "lsn:0/200")]

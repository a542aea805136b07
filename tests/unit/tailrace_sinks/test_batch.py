"""Which commit records become one batch, and where their content is cut."""

import pytest
from fix_sink import ITEMS, Stream

from tailrace_log.log import CommitRecord, Marker, OpenTransaction, Range
from tailrace_log.memory import MemoryLog
from tailrace_schemas.errors import StopError
from tailrace_sinks.batch import Limits, LogBatch, abandoned, batch_length, check_sequence, cut, joined
from tailrace_sinks.service import Schemas
from tailrace_sinks.sink import Rows


def record(seq: int, rows: int = 1, **more: object) -> CommitRecord:
    ranges = (Range("t", 0, seq * 10, seq * 10 + rows - 1, rows),) if rows else ()
    return CommitRecord(seq, "p", more.pop("kind", "stream"), {}, "", ranges=ranges, **more)  # type: ignore[arg-type]


def opened(seq: int, since: int) -> CommitRecord:
    return record(seq, open=OpenTransaction("9", 1, since))


SCHEMA = (Marker("schema", "s", "t", "t"),)


def test_everything_there_is_joined() -> None:
    assert batch_length([record(0), record(1), record(2)], Limits()) == 3


def test_joining_stops_at_the_limit_of_rows() -> None:
    assert batch_length([record(0, 6), record(1, 4), record(2, 1)], Limits(rows=10)) == 2


def test_a_record_beyond_the_limit_is_a_batch_of_its_own() -> None:
    assert batch_length([record(0, 60), record(1)], Limits(rows=10)) == 1


def test_nothing_ends_inside_an_open_series() -> None:
    assert batch_length([opened(0, 0), opened(1, 0)], Limits()) == 0
    assert batch_length([record(0), opened(1, 1)], Limits()) == 1
    assert batch_length([opened(0, 0), opened(1, 0), record(2)], Limits()) == 3


def test_a_closed_series_is_not_parted_by_the_limit() -> None:
    assert batch_length([opened(0, 0), opened(1, 0), record(2), record(3)], Limits(rows=1)) == 3


def test_a_schema_change_stands_alone() -> None:
    assert batch_length([record(0), record(1, markers=SCHEMA), record(2)], Limits()) == 1
    assert batch_length([record(1, markers=SCHEMA), record(2)], Limits()) == 1


def test_a_schema_change_inside_a_series_stays_in_it() -> None:
    changed = record(1, markers=SCHEMA, open=OpenTransaction("9", 1, 0))
    assert batch_length([opened(0, 0), changed, record(2), record(3)], Limits()) == 3


def test_only_stream_records_of_an_abandoned_series_are_left_out() -> None:
    chunk = record(2, kind="chunk", open=OpenTransaction("9", 1, 1))
    records = [record(0), opened(1, 1), chunk, opened(3, 1), record(4, kind="abandon", since=1), record(5)]
    assert abandoned(records) == {1, 3}


def test_a_gap_in_the_sequence_stops() -> None:
    check_sequence([record(3), record(4)], 3)
    with pytest.raises(StopError) as caught:
        check_sequence([record(3), record(5)], 3)
    assert caught.value.code == "SEQUENCE"


def counted(steps: object) -> list[object]:
    return [step.count if isinstance(step, Rows) else step.kind for step in steps]  # type: ignore[attr-defined]


def test_rows_are_cut_at_each_marker() -> None:
    log = MemoryLog()
    s = Stream(log)
    s.insert(ITEMS, id=1)
    s.insert(ITEMS, id=2)
    s.mark("truncate", ITEMS)
    s.mark("reload", ITEMS)
    s.insert(ITEMS, id=3)
    s.mark("truncate", ITEMS)
    written = s.commit()
    (steps,) = cut(written, log.batches[0]).values()
    assert counted(steps) == [2, "truncate", "reload", 1, "truncate"]


def test_rows_of_records_without_marker_between_become_one_step() -> None:
    log = MemoryLog()
    s = Stream(log)
    s.insert(ITEMS, id=1)
    s.commit()
    s.insert(ITEMS, id=2)
    s.mark("truncate", ITEMS)
    s.commit()
    slice_ = joined([cut(r, log.batches[r.seq]) for r in log.records])
    (steps,) = slice_.steps.values()
    assert counted(steps) == [2, "truncate"]


def test_records_that_are_not_the_announced_ones_stop() -> None:
    log = MemoryLog()
    s = Stream(log)
    s.insert(ITEMS, id=1)
    written = s.commit()
    other = [record(0, 5)]
    with pytest.raises(StopError) as caught:
        cut(other[0], log.batches[written.seq])
    assert caught.value.code == "OFFSET_LOST"


def test_a_batch_says_whether_it_ends_and_whether_it_always_was_consistent() -> None:
    log = MemoryLog()
    s = Stream(log)
    for loading in (True, False, False):
        s.insert(ITEMS, id=1)
        s.commit(consistent=not loading)
    batches = [LogBatch(records, log.reader(), Schemas(log), Limits()) for records in (log.records, log.records[:1])]
    batches.append(LogBatch(log.records[1:], log.reader(), Schemas(log), Limits()))
    assert [(batch.consistent, batch.loading) for batch in batches] == [(True, True), (False, True), (True, False)]


def test_a_large_batch_is_read_in_slices_as_often_as_asked() -> None:
    log = MemoryLog()
    s = Stream(log)
    for n in range(5):
        s.insert(ITEMS, id=n)
        s.commit()
    batch = LogBatch(log.records, log.reader(), Schemas(log), Limits(slice_bytes=1))
    for _ in range(2):
        assert [slice_.rows for slice_ in batch.slices()] == [1, 1, 1, 1, 1]
        assert batch.rows_read == 5

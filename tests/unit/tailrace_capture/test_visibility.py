from __future__ import annotations

from tailrace_capture.postgres.visibility import PgSnapshot, widen
from tailrace_schemas.position import LsnPosition


def test_xids_are_widened_against_the_snapshot() -> None:
    assert widen(5, 2**32 + 10) == 2**32 + 5
    assert widen(2**32 - 5, 2**32 + 10) == 2**32 - 5
    assert widen(5, 2**32 - 10) == 2**32 + 5


def test_a_snapshot_sees_what_committed_before_it() -> None:
    snapshot = PgSnapshot.parse("10:20:12,15", LsnPosition(0x16B3748))
    assert [xid for xid in range(8, 22) if snapshot.sees(xid)] == [8, 9, 10, 11, 13, 14, 16, 17, 18, 19]
    assert PgSnapshot.from_text(snapshot.to_text()) == snapshot

"""A timeline goes on from another only where that one's end holds all that the log does."""

from __future__ import annotations

import pytest

from tailrace_capture.postgres.identity import refuse_fork
from tailrace_schemas.errors import StopError
from tailrace_schemas.position import parse_lsn

# As a server writes it: PostgreSQL source, timeline.c, writeTimeLineHistory.
HISTORY = "1\t0/3000148\tno recovery target specified\n\n2\t0/5000000\tno recovery target specified\n"


@pytest.mark.parametrize(("before", "needed"), [("1", "0/3000148"), ("1", "0/1"), ("2", "0/5000000")])
def test_what_both_timelines_share_is_read_on(before: str, needed: str) -> None:
    refuse_fork(HISTORY, "3", before, parse_lsn(needed))


@pytest.mark.parametrize(
    ("before", "needed", "says"),
    [
        ("1", "0/3000149", "timeline 1 ended at 0/3000148, the log is at 0/3000149"),
        ("2", "1/0", "timeline 2 ended at 0/5000000, the log is at 1/0"),
        ("4", "0/1", "timeline 3 does not descend from timeline 4"),
        ("3", "0/1", "timeline 3 does not descend from timeline 3"),
    ],
)
def test_what_the_new_timeline_lacks_is_refused(before: str, needed: str, says: str) -> None:
    with pytest.raises(StopError) as caught:
        refuse_fork(HISTORY, "3", before, parse_lsn(needed))
    assert caught.value.code == "SOURCE_BEHIND"
    assert says in str(caught.value)

"""What a replica wrote of its own is told from what it received, by the order of its binary log."""

from __future__ import annotations

import pytest

from tailrace_capture.mysql.history import find_errant
from tailrace_schemas.gtid import GtidSet

A = "aaaaaaaa-0000-0000-0000-000000000000"
B = "bbbbbbbb-0000-0000-0000-000000000000"


def errant(log: list[tuple[str, int]], *known: str) -> str:
    return str(find_errant(log, [GtidSet.parse(text) for text in known]))


@pytest.mark.parametrize(
    ("log", "known", "expected"),
    [
        ([(A, 1), (A, 2), (A, 3)], f"{A}:1-2", ""),
        ([(A, 1), (A, 2), (B, 1), (B, 2)], f"{A}:1-2", ""),  # its own, since it was promoted
        ([(A, 1), (B, 1), (A, 2)], f"{A}:1-2", f"{B}:1"),
        ([(B, 1), (A, 1), (B, 2), (A, 2), (B, 3)], f"{A}:1-2", f"{B}:1-2"),
        ([(A, 1), (A, 3), (A, 2)], f"{A}:1-2", ""),  # two threads of the replica
        ([(A, 1), (A, 2), (A, 3)], f"{A}:1:3", f"{A}:2"),
        ([(A, 1), (f"{A}:tag", 1), (A, 2)], f"{A}:1-2", f"{A}:tag:1"),
    ],
)
def test_only_what_stands_before_the_last_of_the_log_is_errant(
    log: list[tuple[str, int]], known: str, expected: str
) -> None:
    assert errant(log, known) == expected


def test_what_a_chunk_already_shows_may_not_be_preceded_either() -> None:
    log = [(A, 1), (B, 1), (A, 2)]
    assert errant(log, f"{A}:1") == ""
    assert errant(log, f"{A}:1", f"{A}:1-2") == f"{B}:1"

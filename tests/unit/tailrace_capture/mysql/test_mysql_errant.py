"""What a replica wrote of its own is told from what it received, by the order of its binary log."""

from __future__ import annotations

import pytest

from tailrace_capture.mysql.binlog import MariaGtid, MysqlGtid
from tailrace_capture.mysql.errant import find_errant, find_errant_of_maria
from tailrace_schemas.gtid import GtidSet, MariaGtids

A = "aaaaaaaa-0000-0000-0000-000000000000"
B = "bbbbbbbb-0000-0000-0000-000000000000"


def errant(log: list[tuple[str, int]], *known: str) -> str:
    return str(find_errant((MysqlGtid(*gtid, 0) for gtid in log), [GtidSet.parse(text) for text in known]))


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


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (["0-1-1", "0-1-2", "0-2-3", "0-2-4"], []),  # its own, since it was promoted
        (["0-1-1", "5-2-1", "0-1-2"], ["5-2-1"]),
        (["0-1-1", "5-1-1", "0-1-2", "5-2-2"], []),  # two domains of one source, applied side by side
        (["5-2-1", "0-1-1", "5-2-2", "0-1-2", "5-2-3"], ["5-2-1", "5-2-2"]),
    ],
)
def test_of_maria_what_the_server_wrote_itself_in_another_domain_is_errant(log: list[str], expected: list[str]) -> None:
    assert find_errant_of_maria(map(gtid, log), [MariaGtids.parse("0-1-2")], own=2) == expected


def gtid(text: str) -> MariaGtid:
    domain, server, number = map(int, text.split("-"))
    return MariaGtid(domain, server, number, True, False, False, None)

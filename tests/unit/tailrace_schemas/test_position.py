"""Positions: text forms, and containment instead of order (rule A1)."""

import pytest

from tailrace_schemas.position import FilePlace, FilePosition, GtidPosition, LsnPosition, parse_position

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"


@pytest.mark.parametrize(
    "text",
    [
        "lsn:16/B374D848",
        f"gtid:{A}:1-5",
        f"gtid:{A}:1-5@binlog.000007:4294967400",
        f"gtid:{A}:1-5:7,{A}:tag:1@binlog.000007:4!{A}:3",
        "gtid:",
        "mariadb:0-1-100,5-2-7",
        "mariadb:0-1-100@b.000001:4!0-1-90",
        "mariadb:0-1-100@b.000001:4!",
        f"file:{A}@binlog.000007:4",
        f"file:{A}@binlog.000007:4!binlog.000006:77",
    ],
)
def test_every_text_form_is_read_and_written_back(text: str) -> None:
    assert str(parse_position(text)) == text


@pytest.mark.parametrize(
    "text", ["", "x", "lsn", "file:uuid", "gtid:x", f"file:{A}@binlog:4", f"gtid:{A}:1@b.1:x", "mariadb:1"]
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_position(text)


@pytest.mark.parametrize(
    ("position", "other", "contained"),
    [
        ("lsn:0/10", "lsn:0/10", True),
        ("lsn:0/10", "lsn:0/11", False),
        (f"gtid:{A}:1-5", f"gtid:{A}:2-3@b.000009:9", True),
        (f"gtid:{A}:1-5", f"gtid:{A}:6", False),
        (f"gtid:{A}:1-5!{A}:3", f"gtid:{A}:3", True),
        ("mariadb:0-1-5", "mariadb:0-2-5", True),
        ("mariadb:0-1-5", "mariadb:1-1-1", False),
        (f"file:{A}@b.1000000:4", f"file:{A}@b.999999:900", True),
        (f"file:{A}@b.000002:4", f"file:{A}@b.000002:5", False),
        (f"file:{A}@b.000002:4", f"file:{A[:-1]}3@b.000001:4", False),
        ("lsn:0/10", "mariadb:0-1-5", False),
        ("mariadb:0-1-5", f"gtid:{A}:1", False),
    ],
)
def test_containment(position: str, other: str, contained: bool) -> None:
    assert parse_position(position).contains(parse_position(other)) is contained


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("lsn:0/10", "lsn:0/10"),
        (f"gtid:{A}:1-5@b.000009:9!{A}:3", f"gtid:{A}:1-5!{A}:3"),
        ("mariadb:0-1-5@b.000009:9!0-1-3", "mariadb:0-1-5!0-1-3"),
        (f"file:{A}@b.000002:4", f"file:{A}@b.000002:4"),
    ],
)
def test_a_place_beside_gtids_is_of_its_own_server(position: str, expected: str) -> None:
    assert str(parse_position(position).elsewhere()) == expected


def test_kinds_keep_their_parts() -> None:
    found = parse_position(f"gtid:{A}:1-5@binlog.000007:9!{A}:3")
    assert isinstance(found, GtidPosition)
    assert found.place == FilePlace("binlog.000007", 9)
    assert found.undecided is not None and found.undecided.has(A, 3)
    assert parse_position("lsn:1/0") == LsnPosition(1 << 32)
    assert FilePosition("u", FilePlace("b.1", 4)).contains(FilePosition("u", FilePlace("b.1", 4)))

"""GTID sets against a model of plain sets of numbers."""

from random import Random

import pytest

from tailrace_schemas.gtid import GtidSet, MariaGtids

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
B = "bbbbbbbb-0000-11e1-9e33-c80aa9429562"


def numbers(gtids: GtidSet, source: str = A) -> set[int]:
    return {n for first, last in gtids.intervals.get(source, ()) for n in range(first, last + 1)}


def random_set(random: Random, source: str = A) -> tuple[GtidSet, set[int]]:
    model = {random.randrange(1, 40) for _ in range(random.randrange(1, 25))}
    out = GtidSet({})
    for number in random.sample(sorted(model), len(model)):
        out = out.plus(source, number)
    return out, model


def test_text_forms_are_read_and_written_back() -> None:
    for text in (f"{A}:1-5:7", f"{A}:1,{B}:3-9", f"{A}:1-68,{A}:tag_1:1", ""):
        assert str(GtidSet.parse(text)) == text
    assert str(GtidSet.parse(f"{A.upper()}:5:1-3:4,\n {B}:1")) == f"{A}:1-5,{B}:1"
    assert GtidSet.parse(f"{A}:1-2:TAG:7:9-10") == GtidSet({A: ((1, 2),), f"{A}:tag": ((7, 7), (9, 10))})


@pytest.mark.parametrize("text", ["x", f"{A}", f"{A}:0", f"{A}:5-2", f"{A}:1-", f"{A}:", "1-2-3", f"{A}:1--2"])
def test_what_is_no_gtid_set_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        GtidSet.parse(text)


def test_set_operations_equal_those_of_plain_sets(seed: int) -> None:
    random = Random(f"{seed} gtid")
    for _ in range(500):
        (one, first), (two, second) = random_set(random), random_set(random)
        assert numbers(one) == first
        assert numbers(one.union(two)) == first | second
        assert numbers(one.minus(two)) == first - second
        assert one.contains(two) == (second <= first)
        assert all(one.has(A, n) == (n in first) for n in range(45))
        assert GtidSet.parse(str(one)) == one


def test_another_tag_is_another_source() -> None:
    tagged = GtidSet({}).plus(f"{A}:t", 1)
    assert not GtidSet.parse(f"{A}:1").contains(tagged)
    assert not tagged.has(A, 1)


def test_mariadb_compares_sequences_inside_a_domain_only() -> None:
    here = MariaGtids.parse("0-1-100,5-2-7")
    assert here.contains(MariaGtids.parse("0-9-100"))
    assert not here.contains(MariaGtids.parse("0-1-101"))
    assert not here.contains(MariaGtids.parse("1-1-1"))
    assert here.has(5, 7) and not here.has(5, 8) and not here.has(6, 1)
    assert str(here.plus(5, 3, 8)) == "0-1-100,5-3-8"
    assert str(MariaGtids.parse("0-1-5,0-2-9,0-3-7")) == "0-2-9"
    with pytest.raises(ValueError):
        MariaGtids.parse("0-1")

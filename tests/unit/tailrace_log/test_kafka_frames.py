"""Records of a partition as they come in from Kafka, and ranges of them as they are taken."""

import random
from dataclasses import dataclass

import pytest

from tailrace_log.kafka_frames import Arrivals, sort_in
from tailrace_schemas import wire


@dataclass
class Given:
    """As much of confluent_kafka.Message as is read of one."""

    place: tuple[str, int]
    number: int
    failure: str | None = None

    def error(self) -> str | None:
        return self.failure

    def topic(self) -> str:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]

    def offset(self) -> int:
        return self.number

    def headers(self) -> list[tuple[str, bytes]] | None:
        return [("h", b"x")] if self.number % 7 == 0 else None

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return str(self.number).encode()


def arrived(offsets: list[int], start: int = 0) -> Arrivals:
    place = Arrivals(start)
    sort_in([Given(("t", 0), n) for n in offsets], {("t", 0): place})  # type: ignore[misc]
    return place


def values(frames: bytes) -> list[int]:
    return [int(value or b"-1") for _, value in wire.frames(frames)]


def test_ranges_are_taken_out_of_any_runs(seed: int) -> None:
    draw = random.Random(f"{seed} runs")
    for _ in range(200):
        offsets = sorted(draw.sample(range(100), draw.randrange(1, 60)))
        place, at = arrived(offsets), 0
        while at < 100:
            first = at + draw.choice([0, 0, 1, 5])
            last = first + draw.choice([0, 1, 8, 30])
            frames, count, passed = place.take(first, last)
            assert values(frames) == [n for n in offsets if first <= n <= last]
            assert (count, passed) == (len(values(frames)), sum(at <= n < first for n in offsets))
            at = last + 1
            assert place.first == next((n for n in offsets if n >= at), offsets[-1] + 1)
        assert place.size == 0


@pytest.mark.parametrize("start", [0, 40])
def test_a_partition_that_holds_nothing_begins_where_it_stands(start: int) -> None:
    place = Arrivals(start)
    assert (place.first, place.take(start, start + 5)) == (start, (b"", 0, 0))


def test_records_go_to_their_partition_and_errors_come_back() -> None:
    one, two = Arrivals(0), Arrivals(0)
    messages = [
        Given(("a", 0), 0), Given(("a", 1), 0), Given(("b", 1), 0), Given(("a", 1), 1, "gone"), Given(("a", 1), 2),
    ]  # fmt: skip
    errors = sort_in(messages, {("a", 0): one, ("a", 1): two})  # type: ignore[arg-type]
    assert list(map(id, errors)) == [id(messages[3])]
    assert (values(one.take(0, 9)[0]), values(two.take(0, 9)[0]), one.position, two.position) == ([0], [0, 2], 1, 3)

"""A sink that sets events aside is killed again and again: every refused event is in the log once, nothing else is, and
every other row is right."""

import random
from pathlib import Path

import pytest
from fix_sink import Child, harness

from tailrace_log.embedded import EmbeddedLog
from tailrace_sinks.conformance import World, row
from tailrace_sinks.conformance_letters import LONG
from tailrace_sinks.conformance_stream import Stream

pytestmark = pytest.mark.servers

POINTS = ("taken", "step", "before_commit", "after_commit", "letters")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("connections", [0, 4], ids=["transaction", "key"])
@pytest.mark.parametrize("name", ["POSTGRES18", "MARIADB118"])
def test_kills_leave_every_refused_event_in_the_log_once(
    name: str, connections: int, tmp_path: Path, seed: int
) -> None:
    rng = random.Random(f"{seed} letters {name} {connections}")
    with harness(name) as target:
        log = EmbeddedLog(tmp_path / "log.db", "conform", 4)
        world = World(target)
        world.stream = s = Stream(log)
        t = world.table("t")
        expected: dict[int, int] = {}
        refused = []
        for n in range(150):
            if rng.random() < 0.15:
                s.insert(t, **row(n, n, LONG))
                refused.append(s.encoder(t).key(row(n)))
            else:
                s.insert(t, **row(n, n))
                expected[n] = n
                old = rng.choice(sorted(expected))
                s.update(t, **row(old, 1000 + n))
                expected[old] = 1000 + n
            if rng.random() < 0.5:
                s.commit()
        s.commit()
        child = Child(target, log, s.seq - 1, tmp_path, connections, "dead_letter")
        points = ["letters:1", *(f"{rng.choice(POINTS)}:{rng.randrange(1, 8)}" for _ in range(9))]
        kills = sum(child.run(f"sink.{point}") != 0 for point in points)
        assert child.run("") == 0
        assert kills >= 4
        assert world.rows(t) == [(k, v, "n") for k, v in sorted(expected.items())]
        reader = log.reader()
        letters = reader.dead_letters()
        assert sorted(letter.key or b"" for letter in letters) == sorted(key or b"" for key in refused)
        assert {letter.code for letter in letters} == {"ROW_REJECTED"}
        reader.close()
        log.close()

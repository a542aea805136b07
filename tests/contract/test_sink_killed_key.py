"""A sink under `consistency: key` is killed again and again, with one connection and with several: every partition goes
on where it stood, nothing is lost, nothing is applied twice, every marker is executed once and at its place."""

import random
from pathlib import Path

import pytest
from fix_sink import Child, harness

from tailrace_log.embedded import EmbeddedLog
from tailrace_schemas.table import TableSchema
from tailrace_sinks.conformance import World, row, wider
from tailrace_sinks.conformance_stream import Stream

pytestmark = pytest.mark.servers

POINTS = ("taken", "step", "before_commit", "after_commit", "lanes_done")
PARTITIONS = 4


class Traffic:
    """Random changes of one table, and what it must hold after them. `v` never comes twice, so that every change shows
    as a line of its own in the target's history."""

    def __init__(self, world: World, name: str, rng: random.Random) -> None:
        self.world, self.rng = world, rng
        self.narrow = world.table(name)
        self.wide = wider(world, self.narrow, "extra")
        self.now: TableSchema = self.narrow
        self.rows: dict[int, int] = {}
        self.next_id = self.next_v = 0

    def change(self) -> None:
        s, kind = self.world.stream, self.rng.random()
        self.next_v += 1
        if kind < 0.35 or not self.rows:
            self.next_id += 1
            s.insert(self.now, **row(self.next_id, self.next_v))
            self.rows[self.next_id] = self.next_v
            return
        old = self.rng.choice(sorted(self.rows))
        if kind < 0.75:
            s.update(self.now, **row(old, self.next_v))
            self.rows[old] = self.next_v
        elif kind < 0.85:
            s.delete(self.now, **row(old, self.rows.pop(old)))
        else:
            self.next_id += 1
            s.rekey(self.now, row(old, self.rows.pop(old)), row(self.next_id, self.next_v))
            self.rows[self.next_id] = self.next_v

    def mark(self) -> None:
        if self.rng.random() < 0.5:
            self.world.stream.mark("truncate", self.now)
            self.rows.clear()
        else:
            self.now = self.narrow if self.now == self.wide else self.wide
            self.world.stream.schema_change(self.now)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(3))
@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("name", ["POSTGRES18", "MARIADB118"])
def test_kills_leave_every_partition_right(name: str, connections: int, run: int, tmp_path: Path, seed: int) -> None:
    rng = random.Random(f"{seed} key {name} {connections} {run}")
    with harness(name) as target:
        log = EmbeddedLog(tmp_path / "log.db", "conform", PARTITIONS)
        world = World(target)
        world.stream = s = Stream(log)
        tables = [Traffic(world, "t", rng), Traffic(world, "u", rng)]
        for traffic in tables:
            traffic.change()
        s.commit()
        assert Child(target, log, 0, tmp_path, connections).run("") == 0
        target.history("t")
        for _ in range(60):
            since = s.seq
            for _ in range(rng.randrange(1, 12)):
                rng.choice(tables).change()
                if rng.random() < 0.05:
                    rng.choice(tables).mark()
                if rng.random() < 0.03:
                    s.open_part(since)
            s.commit()
        child = Child(target, log, s.seq - 1, tmp_path, connections)
        points = ["ddl:1", *(f"{rng.choice(POINTS)}:{rng.randrange(1, 10)}" for _ in range(9))]
        kills = sum(child.run(f"sink.{point}") != 0 for point in points)
        assert child.run("") == 0
        assert kills >= 4
        for traffic in tables:
            assert world.rows(traffic.narrow) == [(k, v, "n") for k, v in sorted(traffic.rows.items())]
        history = target.query(f'SELECT op, id, v FROM "{target.schema}"."t_history"')
        assert len(history) == len(set(history))
        log.close()

"""A sink killed at any of its failpoints goes on where it stood: nothing lost, nothing twice."""

import random
from pathlib import Path

import pytest
from fix_sink import Child, MySqlHarness, PostgresHarness, column, harness

from tailrace_log.embedded import EmbeddedLog
from tailrace_sinks.conformance import World, row
from tailrace_sinks.conformance_parked import exchange, parked_tables
from tailrace_sinks.conformance_stream import Stream

pytestmark = pytest.mark.servers

POINTS = ("sink.taken", "sink.step", "sink.before_commit", "sink.after_commit")


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["POSTGRES18", "MARIADB118", "MYSQL80"])
@pytest.mark.case("D18", verdict="=")
def test_kills_around_schema_changes_leave_the_table_right(name: str, tmp_path: Path) -> None:
    with harness(name) as target:
        log = EmbeddedLog(tmp_path / "log.db", "conform")
        world = World(target)
        world.stream = s = Stream(log)
        t = world.table("t")
        wide, narrow = world.table("t", column("extra"), column("old")), world.table("t", column("new"))
        s.insert(t, **row(1))
        s.commit()
        s.insert(t, **row(2))
        s.schema_change(wide, defaults={"extra": "7"})
        s.insert(wide, **row(3), extra=8, old=3)
        s.commit()
        s.insert(wide, **row(4), extra=9, old=4)
        s.schema_change(narrow, renamed={"old": "new"})
        s.insert(narrow, **row(5), new=5)
        s.commit()
        child = Child(target, log, s.seq - 1, tmp_path)
        kills = 0
        for point in ("step:2", "ddl:1", "ddl:2", "step:2", "step:3", "ddl:1", "ddl:2", "after_commit:1"):
            kills += child.run(f"sink.{point}") != 0
        assert child.run("") == 0
        assert kills >= 5
        found = target.query(f"SELECT * FROM {world.name(t)} ORDER BY id")
        assert found == [(1, 0, "n", None), (2, 0, "n", None), (3, 0, "n", 3), (4, 0, "n", 4), (5, 0, "n", 5)]
        log.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["POSTGRES18", "MARIADB118", "MYSQL80"])
def test_kills_while_rows_are_parked_leave_the_table_right(name: str, tmp_path: Path, seed: int) -> None:
    """Rows exchange their unique values while their table is loaded in chunks that are read at different times."""
    rng = random.Random(f"{seed} parked {name}")
    with harness(name) as target:
        assert isinstance(target, (PostgresHarness, MySqlHarness))
        log = EmbeddedLog(tmp_path / "log.db", "conform")
        world = World(target)
        world.stream = s = Stream(log)
        t = world.table("t")
        s.load(t, [row(1000, 0, "other")])
        s.chunk()
        assert Child(target, log, 0, tmp_path).run("") == 0
        target.execute(f"CREATE UNIQUE INDEX mail ON {world.name(t)} (name)")
        target.history("t")
        names = exchange(s, t, rng, lambda: None)
        s.commit()
        child = Child(target, log, s.seq - 1, tmp_path)
        kills = int(child.run("sink.parked:1") != 0)  # the table is made
        for _ in range(9):
            kills += child.run(f"{rng.choice(POINTS)}:{rng.randrange(1, 5)}") != 0
        kills += child.run("sink.parked:1") != 0  # it is dropped, or made by a later process
        assert child.run("") == 0
        assert kills >= 8
        assert [(r[0], r[2]) for r in world.rows(t)] == [*sorted(names.items()), (1000, "other")]
        history = target.query(f'SELECT op, id, v FROM "{target.schema}"."t_history"')
        assert len(history) == len(set(history))
        s.commit()
        assert Child(target, log, s.seq - 1, tmp_path).run("") == 0
        assert parked_tables(world) == []
        log.close()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["POSTGRES18", "MARIADB118"])
def test_kills_leave_no_gap_and_no_double(name: str, tmp_path: Path, seed: int) -> None:
    rng = random.Random(f"{seed} kills {name}")
    with harness(name) as target:
        assert isinstance(target, (PostgresHarness, MySqlHarness))
        log = EmbeddedLog(tmp_path / "log.db", "conform")
        world = World(target)
        world.stream = s = Stream(log)
        t, keyless = world.table("t"), world.table("k", key=())
        s.insert(t, **row(0))
        s.insert(keyless, **row(0))
        s.commit()
        assert Child(target, log, 0, tmp_path).run("") == 0
        target.history("t")
        expected: dict[int, int] = {0: 0}
        for n in range(1, 60):
            s.insert(t, **row(n))
            s.insert(keyless, **row(n))
            old = rng.choice(sorted(expected))
            expected[n] = 0
            expected[old] = n
            s.update(t, **row(old, n))
            s.commit()
        child = Child(target, log, s.seq - 1, tmp_path)
        kills = 0
        for _ in range(12):
            kills += child.run(f"{rng.choice(POINTS)}:{rng.randrange(1, 5)}") != 0
        assert child.run("") == 0
        assert kills >= 8
        assert world.rows(t) == [(k, v, "n") for k, v in sorted(expected.items())]
        assert world.rows(keyless) == [(n, 0, "n") for n in range(60)]
        history = target.query(f'SELECT op, id, v FROM "{target.schema}"."t_history"')
        assert len(history) == len(set(history))
        log.close()

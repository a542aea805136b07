"""Rows that meet a unique value of the target while a table is loaded, against real servers."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from fix_sink import MySqlHarness, PostgresHarness, column, harness

from tailrace_schemas.uri import parse_database_url
from tailrace_sinks import mysql, postgres
from tailrace_sinks.conformance import World, row
from tailrace_sinks.conformance_parked import CASES, ONE, both_times, goes_on, loading, parked_tables

pytestmark = pytest.mark.servers
SERVERS = ("POSTGRES14", "POSTGRES18", "MARIADB1011", "MARIADB118", "MYSQL80", "MYSQL9")


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with harness(request.param) as target:
        opened = World(target)
        try:
            yield opened
        finally:
            opened.close()


def on(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("world", names, indirect=True)


ALL = on("POSTGRES18", "MARIADB118", "MYSQL80")
MYSQLS = on("MARIADB118", "MYSQL80")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
@on(*SERVERS)
def test_sink_parks_what_cannot_be_there_yet(world: World, case: Callable[[World], None]) -> None:
    case(world)


@ALL
def test_a_pipeline_that_is_forgotten_leaves_no_parked_table(world: World) -> None:
    both_times(world)
    assert len(parked_tables(world)) == 1
    assert forget(world, "another") == 0
    assert len(parked_tables(world)) == 1
    assert forget(world, "shop") == 1
    assert parked_tables(world) == []


def forget(world: World, pipeline: str) -> int:
    target = world.harness
    if isinstance(target, PostgresHarness):
        return postgres.forget_pipeline(parse_database_url(target.url), pipeline)
    assert isinstance(target, MySqlHarness)
    return mysql.forget_pipeline(replace(target.url, options={"progress": target.progress}), pipeline)


@ALL
def test_a_table_the_target_had_before_keeps_generated_columns_identities_and_defaults(world: World) -> None:
    t, s = world.table("t"), world.stream
    is_postgres = isinstance(world.harness, PostgresHarness)
    world.harness.execute(f'CREATE {"SCHEMA" if is_postgres else "DATABASE"} "{world.harness.schema}"')
    identity = "GENERATED ALWAYS AS IDENTITY" if is_postgres else "AUTO_INCREMENT"
    world.harness.execute(
        f"CREATE TABLE {world.name(t)} (extra int NOT NULL DEFAULT 7, name varchar(60) UNIQUE, base int,"
        f" v int GENERATED ALWAYS AS (base * 2) STORED, id bigint {identity} PRIMARY KEY)"
    )
    t = world.table("t", column("base"))
    s.load(t, [{**row(1, 0, "a"), "base": 10}])
    s.chunk()
    s.load(t, [{**row(2, 0, "a"), "base": 20}])
    s.chunk()
    world.apply(ONE)
    s.event(t, "u", None, {**row(2, 0, None), "base": 21}, unavailable=["name", "v"])
    s.event(t, "u", None, {**row(1, 0, "b"), "base": None}, unavailable=["base"])
    goes_on(world)
    found = world.harness.query(f"SELECT id, base, v, name, extra FROM {world.name(t)} ORDER BY id")
    assert found == [(1, 10, 20, "b", 7), (2, 21, 42, "a", 7)]


@ALL
def test_a_target_whose_only_unique_key_is_another_one(world: World) -> None:
    t, s = world.table("t"), world.stream
    is_postgres = isinstance(world.harness, PostgresHarness)
    world.harness.execute(f'CREATE {"SCHEMA" if is_postgres else "DATABASE"} "{world.harness.schema}"')
    world.harness.execute(f"CREATE TABLE {world.name(t)} (id bigint, v int, name varchar(60) UNIQUE)")
    s.load(t, [row(1, 1, "a")])
    s.chunk()
    s.load(t, [row(2, 2, "a")])
    s.chunk()
    s.update(t, **row(2, 22, "a"))
    s.commit(consistent=False)
    s.update(t, **row(1, 11, "b"))
    s.commit()
    world.apply(ONE)
    assert world.rows(t) == [(1, 11, "b"), (2, 22, "a")]
    assert parked_tables(world) == []


@ALL
def test_what_the_target_refuses_for_another_reason_is_rejected_not_passed_over(world: World) -> None:
    t, s = both_times(world)
    world.harness.execute(f"ALTER TABLE {world.name(t)} ADD CONSTRAINT low CHECK (v < 1000)")
    s.update(t, **row(3, 5000, "c"))
    s.commit(consistent=False)
    error = world.failure()
    assert error.code == "ROW_REJECTED"
    assert world.harness.query(f"SELECT v FROM {world.name(t)} WHERE id = 3") == [(3,)]
    world.harness.execute(f"ALTER TABLE {world.name(t)} DROP CONSTRAINT low")
    s.update(t, **row(1, 11, "b"))
    goes_on(world)
    assert world.rows(t) == [(1, 11, "b"), (2, 2, "a"), (3, 5000, "c"), (9, 9, "z")]


@MYSQLS
def test_a_value_the_target_would_change_when_told_to_ignore_is_rejected(world: World) -> None:
    """A column made narrower by hand, while the row that no longer fits is parked."""
    t, s = both_times(world)
    parked = world.harness.query(f"SELECT count(*) FROM {world.name(t)} WHERE id = 2") == [(0,)]
    waiting, other = (2, 1) if parked else (1, 2)
    s.update(t, **row(waiting, 5000, "a"))
    goes_on(world, consistent=False)
    world.harness.execute(f"ALTER TABLE {world.name(t)} MODIFY v tinyint")
    s.update(t, **row(other, 7, "b"))
    s.commit(consistent=False)
    error = world.failure()
    assert (error.code, error.column) == ("ROW_REJECTED", "v")
    world.harness.execute(f"ALTER TABLE {world.name(t)} MODIFY v int")
    goes_on(world)
    assert world.rows(t) == sorted([(waiting, 5000, "a"), (other, 7, "b"), (3, 3, "c"), (9, 9, "z")])


@MYSQLS
def test_a_unique_key_on_a_part_of_a_value_counts_as_well(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.load(t, [row(1, 1, "ab1")])
    s.chunk()
    world.apply()
    world.harness.execute(f"CREATE UNIQUE INDEX head ON {world.name(t)} (name(2))")
    s.load(t, [row(2, 2, "ab2")])
    s.chunk()
    world.apply()
    s.update(t, **row(1, 1, "c"))
    goes_on(world)
    assert world.rows(t) == [(1, 1, "c"), (2, 2, "ab2")]


@ALL
def test_an_event_that_is_set_aside_leaves_parked_rows_as_they_are(world: World) -> None:
    """The attempts that find it out are taken back, and so is what they moved."""
    world.config = replace(world.config, on_row_error="dead_letter")
    world.sink = world.harness.sink(world.config)
    t, s = both_times(world)
    s.update(t, **row(1, 11, "b"))
    s.update(t, **row(3, 33, "y" * 61))
    goes_on(world)
    assert world.rows(t) == [(1, 11, "b"), (2, 2, "a"), (3, 3, "c"), (9, 9, "z")]
    assert parked_tables(world) == []


@on("POSTGRES18", "POSTGRES14")
def test_an_exclusion_constraint_parks_as_a_unique_key_does(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.load(t, [row(1, 10)])
    s.chunk()
    world.apply()
    world.harness.execute(
        f"ALTER TABLE {world.name(t)} ADD CONSTRAINT apart EXCLUDE USING gist (int4range(v, v + 5) WITH &&)"
    )
    s.load(t, [row(2, 12)])
    s.chunk()
    world.apply()
    assert len(parked_tables(world)) == 1
    s.update(t, **row(1, 30))
    goes_on(world)
    assert world.rows(t) == [(1, 30, "n"), (2, 12, "n")]


@on("POSTGRES18")
def test_a_deferrable_constraint_beside_the_unique_key_does_not_hinder(world: World) -> None:
    t, s = both_times(world)
    world.harness.execute(f"ALTER TABLE {world.name(t)} ADD UNIQUE (v) DEFERRABLE")
    s.update(t, **row(1, 11, "%s"))
    goes_on(world)
    assert world.rows(t) == [(1, 11, "%s"), (2, 2, "a"), (3, 3, "c"), (9, 9, "z")]


@on("POSTGRES18")
def test_a_role_that_may_not_make_the_parked_table_is_told_the_grant(world: World) -> None:
    assert isinstance(world.harness, PostgresHarness)
    t, s = loading(world, row(1, 1, "a"))
    world.close()
    target, role = world.harness, "parked_sink"
    target.execute(
        f"DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA tailrace, shop TO {role}"
    )
    target.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA tailrace, shop TO {role}")
    target.url = target.url.replace("postgres@", f"{role}@")
    world.sink = target.sink(world.config)
    s.load(t, [row(2, 2, "a")])
    s.chunk()
    error = world.failure()
    assert error.code == "PRIVILEGE"
    target.execute(error.hint)
    world.apply()
    s.update(t, **row(1, 1, "b"))
    goes_on(world)
    assert world.rows(t) == [(1, 1, "b"), (2, 2, "a")]
    world.close()
    target.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")

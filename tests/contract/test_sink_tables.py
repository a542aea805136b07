"""Target tables that are there already are used as they are: generated columns, identities, other keys, defaults."""

from collections.abc import Iterator

import pytest
from fix_sink import MySqlHarness, PostgresHarness, column, harness, table

from tailrace_schemas.table import TableSchema
from tailrace_schemas.types import INT64, LogicalType
from tailrace_sinks.conformance import World, row

pytestmark = pytest.mark.servers


@pytest.fixture(params=["POSTGRES14", "POSTGRES18", "MARIADB118", "MYSQL80"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with harness(request.param) as target:
        opened = World(target)
        target.execute(f'CREATE {"SCHEMA" if isinstance(target, PostgresHarness) else "DATABASE"} "{target.schema}"')
        yield opened
        opened.close()


def is_postgres(world: World) -> bool:
    return isinstance(world.harness, PostgresHarness)


@pytest.mark.case("K9", verdict="=")
def test_a_generated_column_of_the_target_computes_for_itself(world: World) -> None:
    t, s = world.table("t"), world.stream
    world.harness.execute(
        f"CREATE TABLE {world.name(t)} (id bigint PRIMARY KEY, base int, v int GENERATED ALWAYS AS (base * 2) STORED,"
        " name varchar(60))"
    )
    wider = table("t", *t.columns, column("base"), schema=world.harness.schema)
    s.load(wider, [{**row(n, 999), "base": n} for n in range(5)])
    s.chunk()
    s.update(wider, **row(1, 999), base=50)
    s.event(wider, "u", None, {**row(2, 999), "base": 60}, unavailable=["name"])
    s.delete(wider, **row(3))
    s.commit()
    world.apply()
    assert [r[:2] for r in world.rows(t)] == [(0, 0), (1, 100), (2, 120), (4, 8)]


def test_an_identity_takes_the_sources_values(world: World) -> None:
    t, s = world.table("t"), world.stream
    identity = "GENERATED ALWAYS AS IDENTITY" if is_postgres(world) else "AUTO_INCREMENT"
    world.harness.execute(f"CREATE TABLE {world.name(t)} (id bigint {identity} PRIMARY KEY, v int, name varchar(60))")
    s.load(t, [row(n) for n in range(3)])
    s.chunk()
    s.insert(t, **row(70))
    s.update(t, **row(0, 5))
    s.commit()
    world.apply()
    assert [r[:2] for r in world.rows(t)] == [(0, 5), (1, 0), (2, 0), (70, 0)]


def test_columns_the_source_does_not_have_keep_what_the_target_gave_them(world: World) -> None:
    t, s = world.table("t"), world.stream
    world.harness.execute(
        f"CREATE TABLE {world.name(t)} (extra int DEFAULT 7, name varchar(60), v int, id bigint PRIMARY KEY)"
    )
    s.insert(t, **row(1))
    s.commit()
    world.apply()
    world.harness.execute(f"UPDATE {world.name(t)} SET extra = 8")
    s.update(t, **row(1, 5))
    s.commit()
    world.apply()
    assert world.harness.query(f"SELECT id, v, name, extra FROM {world.name(t)}") == [(1, 5, "n", 8)]


def test_a_not_null_column_the_source_does_not_have_stops(world: World) -> None:
    t, s = world.table("t"), world.stream
    world.harness.execute(
        f"CREATE TABLE {world.name(t)} (id bigint PRIMARY KEY, v int, name varchar(60), extra int NOT NULL)"
    )
    s.insert(t, **row(1))
    s.commit()
    error = world.failure()
    assert (error.code, error.column) == ("TARGET_MISFIT", "extra")
    world.harness.execute(error.hint)
    world.apply()
    assert world.rows(t) == [(1, 0, "n")]


def test_a_table_without_an_index_on_the_key_is_right_all_the_same(world: World) -> None:
    t, s = world.table("t"), world.stream
    world.harness.execute(f"CREATE TABLE {world.name(t)} (id bigint, v int, name varchar(60))")
    s.load(t, [row(n) for n in range(4)])
    s.chunk()
    s.update(t, **row(1, 5))
    s.delete(t, **row(2))
    s.event(t, "u", None, row(3, 6, None), unavailable=["name"])
    s.insert(t, **row(9))
    s.commit()
    world.apply()
    assert world.rows(t) == [(0, 0, "n"), (1, 5, "n"), (3, 6, "n"), (9, 0, "n")]


def test_a_table_that_others_reference_can_be_emptied(world: World) -> None:
    t, s = world.table("t"), world.stream
    s.insert(t, **row(1))
    s.commit()
    world.apply()
    child = f'"{world.harness.schema}"."child"'
    world.harness.execute(f"CREATE TABLE {child} (id int, t bigint, FOREIGN KEY (t) REFERENCES {world.name(t)} (id))")
    s.mark("truncate", t)
    s.insert(t, **row(2))
    s.commit()
    world.apply()
    assert world.rows(t) == [(2, 0, "n")]


def test_a_deferrable_foreign_key_waits_for_the_commit_where_the_role_may_not_switch_it_off() -> None:
    with harness("POSTGRES18") as target:
        assert isinstance(target, PostgresHarness)
        world = World(target)
        child, parent, s = world.table("a_child"), world.table("b_parent"), world.stream
        target.execute("CREATE ROLE fk_sink LOGIN; CREATE SCHEMA shop AUTHORIZATION fk_sink")
        target.execute("GRANT CREATE ON DATABASE " + target.connection.info.dbname + " TO fk_sink; SET ROLE fk_sink")
        columns = "id bigint PRIMARY KEY, name varchar(60)"
        target.execute(f"CREATE TABLE {world.name(parent)} (v int, {columns})")
        reference = f"v bigint REFERENCES {world.name(parent)} (id) DEFERRABLE"
        target.execute(f"CREATE TABLE {world.name(child)} ({reference}, {columns}); RESET ROLE")
        target.url = target.url.replace("postgres@", "fk_sink@")
        world.sink = target.sink(world.config)
        s.insert(child, **row(1, 7))
        s.insert(parent, **row(7))
        s.commit()
        world.apply()
        assert world.rows(child) == [(1, 7, "n")]
        world.close()
        target.execute("DROP OWNED BY fk_sink; DROP ROLE fk_sink")


def test_keys_that_a_collation_holds_for_equal_stay_two_rows(world: World) -> None:
    """Postgres tells 'a', 'A' and 'a ' apart, and so must a table that the sink makes."""
    t: TableSchema = table(
        "t",
        column("id", LogicalType("string", length=20), "character varying(20)", nullable=False),
        column("v", INT64, "bigint"),
        schema=world.harness.schema,
    )
    s = world.stream
    for n, key in enumerate(("a", "A", "a ", "á")):
        s.insert(t, id=key, v=n)
    s.commit()
    s.delete(t, id="a")
    s.update(t, id="A", v=50)
    s.commit()
    world.apply()
    found = world.harness.query(f"SELECT id, v FROM {world.name(t)} ORDER BY v")
    assert found == [("a ", 2), ("á", 3), ("A", 50)]


def test_a_case_change_of_a_key_leaves_one_row_with_the_new_key(world: World) -> None:
    """A MySQL source's 'a' becomes 'A' under a collation that holds them for equal."""
    t = table(
        "t",
        column("id", LogicalType("string", length=20), "varchar(20)", nullable=False, collation="utf8mb4_general_ci"),
        column("v", INT64, "bigint"),
        schema=world.harness.schema,
        engine="mysql",
    )
    s = world.stream
    s.insert(t, id="a", v=1)
    s.commit()
    world.apply()
    s.rekey(t, {"id": "a", "v": 1}, {"id": "A", "v": 2})
    s.commit()
    world.apply()
    assert world.harness.query(f"SELECT id, v FROM {world.name(t)}") == [("A", 2)]


def test_a_type_the_target_does_not_know_becomes_text(world: World) -> None:
    t = table(
        "t",
        column("id", nullable=False),
        column("mood", LogicalType("enum", labels=("sad", "ok")), "elsewhere.mood"),
        column("evil", LogicalType("text"), "int); DROP TABLE x; --"),
        schema=world.harness.schema,
    )
    world.stream.insert(t, id=1, mood="ok", evil="x")
    world.stream.commit()
    world.apply()
    assert world.harness.query(f"SELECT mood, evil FROM {world.name(t)}") == [("ok", "x")]


def test_progress_is_kept_as_documented(world: World) -> None:
    world.stream.insert(world.table("t"), **row(1))
    world.stream.commit()
    world.apply()
    name = "tailrace.progress"
    if isinstance(world.harness, MySqlHarness):
        name = f'"{world.harness.url.database}"."progress"'  # the URL says ?progress=
    columns = 'pipeline, sink, topic, "partition", next_offset, commit_seq, position, log_id'
    found = world.harness.query(f"SELECT {columns} FROM {name}")
    assert found == [("shop", "replica", "__tailrace-commit.conform", 0, 1, 0, "lsn:0/1000", world.log.log_id)]

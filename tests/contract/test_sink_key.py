"""`consistency: key` and what each engine's catalogue has to say about it."""

import pytest
from fix_sink import column, harness, table

from tailrace_schemas.errors import ConfigError, StopError
from tailrace_schemas.table import TableSchema
from tailrace_schemas.types import STRING, LogicalType
from tailrace_sinks.conformance import World
from tailrace_sinks.conformance_key import PARTITIONS
from tailrace_sinks.sink import SinkConfig

TEXT = LogicalType("string", length=40)


def test_several_connections_cannot_keep_transactions_whole() -> None:
    with pytest.raises(ConfigError) as caught:
        SinkConfig("p", "s", "c", "id", connections=2).check()
    assert "one target transaction" in caught.value.detail
    SinkConfig("p", "s", "c", "id", connections=2, consistency="key").check()


def text_key(world: World, name: str, collation: str | None = None) -> TableSchema:
    key = column("id", TEXT, "varchar(40)", nullable=False, collation=collation)
    value = column("v", STRING, "longtext" if world.engine == "mysql" else "text")
    return table(name, key, value, engine=world.engine, schema=world.harness.schema)


def outcome(world: World, schema: TableSchema) -> str:
    """The code that refuses the table; empty where it is applied."""
    world.stream.insert(schema, id="A", v="1")
    world.stream.commit()
    try:
        world.apply()
    except StopError as error:
        assert any(word in error.hint for word in ("ALTER TABLE", "CREATE TABLE"))
        return error.code
    return ""


@pytest.mark.servers
@pytest.mark.parametrize("name", ["MARIADB118", "MYSQL80", "MYSQL9"])
def test_mysql_keys_are_taken_only_under_collations_that_compare_bytes(name: str) -> None:
    with harness(name) as target:
        world = World(target, partitions=PARTITIONS, connections=2, engine="mysql")
        exact = "utf8mb4_nopad_bin" if name == "MARIADB118" else "utf8mb4_0900_bin"
        assert outcome(world, text_key(world, "exact", exact)) == ""
        loose = text_key(world, "loose", "utf8mb4_general_ci")
        findings = [f for f in target.sink(world.config).findings([loose]) if f.level == "error"]
        assert [finding.code for finding in findings] == ["KEY_COLLATION"]
        assert f"COLLATE {exact}" in findings[0].remedy
        assert outcome(world, loose) == "KEY_COLLATION"
        world.close()


@pytest.mark.servers
def test_a_padding_collation_is_refused_and_its_remedy_helps() -> None:
    with harness("MYSQL80") as target:
        world = World(target, partitions=PARTITIONS, connections=2, engine="mysql")
        padded = text_key(world, "padded", "utf8mb4_bin")
        assert outcome(world, padded) == "KEY_COLLATION"
        (finding,) = (f for f in target.sink(world.config).findings([padded]) if f.level == "error")
        target.execute(finding.remedy.partition(", or set")[0].replace("`", '"'))
        world.apply()
        assert target.query(f"SELECT id, v FROM {world.name(padded)}") == [("A", "1")]
        world.close()


@pytest.mark.servers
def test_postgres_keys_under_nondeterministic_collations_are_refused() -> None:
    with harness("POSTGRES18") as target:
        world = World(target, partitions=PARTITIONS, connections=2)
        assert outcome(world, text_key(world, "plain")) == ""
        loose = text_key(world, "loose")
        target.execute("CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        target.execute(f"CREATE TABLE {world.name(loose)} (id varchar(40) COLLATE ci PRIMARY KEY, v text)")
        assert outcome(world, loose) == "KEY_COLLATION"
        (finding,) = (f for f in target.sink(world.config).findings([loose]) if f.level == "error")
        target.execute(finding.remedy.partition(", or set")[0])
        world.apply()
        assert target.query(f"SELECT id, v FROM {world.name(loose)}") == [("A", "1")]
        world.close()

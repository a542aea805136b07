"""pipeline.yaml: every problem at once with its line, defaults, and the way back to text."""

import json
from pathlib import Path

import pytest

from tailrace_schemas.errors import ConfigError
from tailrace_schemas.log_uri import SqliteLogUrl
from tailrace_schemas.settings import (
    PipelineSettings,
    SettingsError,
    default_server_id,
    default_slot,
    json_schema,
    parse_settings,
    resolve_settings,
)
from tailrace_schemas.settings_yaml import password_variables, read_settings, write_settings
from tailrace_schemas.table import TableId
from tailrace_schemas.uri import DatabaseUrl

SMALL = """\
name: shop
source: {url: "postgresql://u:c4nary@db/shop"}
sinks: [{name: replica, url: "mysql://u:c4nary@other/"}]
"""

FULL = """\
name: shop
source:
  url: postgresql://u:${env:SHOP_PW}@db:5433/shop?sslmode=require
  tables: [shop.*, "!shop.audit"]
  slot: my_slot
  publication: My Publication
  heartbeat_seconds: 3
  max_wal_kept: {warn: 5 GB, pause_load: 10GB, stop: 20000000000}
mode: cdc
from: lsn:0/16B3748
log: kafka://u:${file:/run/k}@k:9092?registry=http://r:8081&partitions=2
load: {readers: 2, chunk_rows: 10, max_rows_per_second: 100, max_snapshot_seconds: {warn: null, end: 2 h}}
map: {public: shop}
schema_changes: stop
sinks:
  - {name: replica, url: "mysql://u@other/", consistency: key, connections: 3, on_row_error: dead_letter,
     target_triggers: refuse, cascades: refuse}
  - {name: second, url: "postgresql://localhost/copy?progress=ops.done"}
foreign_truncate: true
allow_partial_images: true
partition_by: key_bytes
zero_dates: "null"
transaction_metadata: true
kafka: {sasl.oauthbearer.client.secret: c4nary, linger.ms: 5, debug: "x", enable.ssl.certificate.verification: true}
topics: {retention.ms: 1000}
registry: {auto_register: false, subject_strategy: topic_name}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read_settings(text, "pipeline.yaml")
    assert "c4nary" not in str(caught.value)
    return [str(problem) for problem in caught.value.problems]


def urls(settings: PipelineSettings) -> list[DatabaseUrl]:
    return [settings.source.url, *(sink.url for sink in settings.sinks)]


def test_a_small_file_gets_every_default() -> None:
    settings = read_settings(SMALL, "pipeline.yaml")
    assert settings.mode == "full-load-and-cdc"
    assert settings.log == SqliteLogUrl()
    assert (settings.source.slot, settings.source.publication) == ("tailrace_shop", "tailrace_shop")
    assert (settings.load.readers, settings.load.chunk_rows, settings.load.max_rows_per_second) == (4, 50_000, None)
    assert settings.sink("replica").consistency == "transaction"
    assert settings.prefix == "shop"


def test_every_key_of_the_file_is_read() -> None:
    settings = read_settings(FULL, "pipeline.yaml")
    assert settings.source.url.port == 5433
    assert settings.start == "lsn:0/16B3748"
    kept = settings.source.max_wal_kept
    assert (kept.warn, kept.pause_load, kept.stop) == (5_000_000_000, 10_000_000_000, 20_000_000_000)
    assert (settings.load.max_snapshot_seconds.warn, settings.load.max_snapshot_seconds.end) == (None, 7200)
    assert settings.sink("replica").connections == 3
    assert settings.kafka["linger.ms"] == "5"
    assert settings.kafka["enable.ssl.certificate.verification"] == "true"
    assert settings.namespaces.target(TableId("public", "t")) == TableId("shop", "t")
    assert settings.source.selection.selects(TableId("shop", "t"))
    assert not settings.source.selection.selects(TableId("shop", "audit"))


@pytest.mark.parametrize("word, meant", [("stop", "stop"), ("null", "null"), ("~", "null"), ('"null"', "null")])
def test_zero_dates_may_be_a_bare_null(word: str, meant: str) -> None:
    settings = read_settings(f"{SMALL}zero_dates: {word}\n", "pipeline.yaml")
    assert settings.zero_dates == meant
    assert read_settings(write_settings(settings), "again").zero_dates == meant


@pytest.mark.parametrize("text", [SMALL, FULL])
def test_what_is_written_reads_back_as_the_same_settings(text: str) -> None:
    settings = read_settings(text, "pipeline.yaml")
    written = write_settings(settings)
    assert "c4nary" not in written
    assert "c4nary" not in repr(settings)
    environment = password_variables(settings) | {"SHOP_PW": "s"}
    again = read_settings(written, "again")
    assert write_settings(again) == written
    files = {"/run/k": "k"}.__getitem__
    one, two = resolve_settings(settings, environment, files), resolve_settings(again, environment, files)
    assert one.model_dump(exclude={"source": {"url"}, "sinks": True}) == two.model_dump(
        exclude={"source": {"url"}, "sinks": True}
    )
    for first, second in zip(urls(one), urls(two), strict=True):
        assert first.place == second.place
        assert (first.password and first.password.reveal()) == (second.password and second.password.reveal())


@pytest.mark.case("K6", verdict="STOP(CONFIG)")
def test_all_problems_come_at_once_each_with_its_line() -> None:
    assert problems(
        """\
name: -shop
source:
  url: postgresql://u:c4nary@db/shop?sslmod=x
  tabels: [a.b]
  heartbeat_seconds: "ten"
mode: both
sinks:
  - {name: a, url: "redis://:c4nary@h"}
  - name: b
    connections: 0
zero_dates: true
surprise: 1
"""
    ) == [
        "line 1: name: '-shop' is not a name (letters, digits, . _ and -, at most 54, no . _ - in front)",
        "line 3: source.url: unknown key in the URI: sslmod "
        "(known keys: host, sslmode, sslrootcert, sslcert, sslkey, progress)",
        "line 4: source.tabels: unknown key (did you mean tables?)",
        "line 5: source.heartbeat_seconds: must be a valid integer",
        "line 6: mode: must be 'full-load', 'cdc' or 'full-load-and-cdc'",
        "line 8: sinks.0.url: redis:// is not a database URI "
        "(begin with one of postgresql://, postgres://, mysql://, mariadb://)",
        "line 9: sinks.1.url: is missing",
        "line 10: sinks.1.connections: must be greater than or equal to 1",
        "line 11: zero_dates: must be 'stop' or 'null'",
        "line 12: surprise: unknown key (known keys: name, source, mode, from, log, load, map, schema_changes, "
        "sinks, foreign_truncate, allow_partial_images, partition_by, zero_dates, transaction_metadata, kafka, "
        "topics, registry)",
    ]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("mode: cdc\nmode: cdc", "line 5: mode: stands twice, first in line 4"),
        ("map: {a: b, a: c}", "line 4: map.a: stands twice, first in line 4"),
        ("source: &x 1", "line 4: source: stands twice, first in line 2"),
        ("kafka: {acks: 1}", "line 4: kafka: acks cannot be set: Tailrace's guarantees rest on its own value"),
        ("from: lsn:0/1", "line 4: from: a start position needs mode: cdc; a load says itself where the stream begins"),
        (
            "mode: cdc\nfrom: yesterday",
            "line 5: from: 'yesterday' is not a position (lsn:0/16B3748, gtid:…, mariadb:… or file:…)",
        ),
        ("load: {readers: 1.5}", "line 4: load.readers: must be a valid integer"),
        (
            "load: {max_snapshot_seconds: {end: 2 weeks}}",
            "line 4: load.max_snapshot_seconds.end: '2 weeks' is not an amount (6 h; units: s, min, h, d)",
        ),
        (
            "load: {max_snapshot_seconds: {stop: 2}}",
            "line 4: load.max_snapshot_seconds.stop: unknown key (known keys: warn, end)",
        ),
        ("map: {public: 2024-99-99, x: 1}", "line 4: map.x: must be a valid string"),
        (
            "log: postgresql://x",
            "line 4: log: postgresql:// is not a log URI (sqlite, sqlite:///path/log.db or kafka://host:port?registry=URL)",
        ),
        (
            "log: [",
            "line 5: not YAML: expected the node content, but found '<stream end>' "
            "(a text that begins with ! * & % @ or ` stands in quotes)",
        ),
        ("map: *x", "line 4: aliases are not supported: write it out"),
    ],
)
def test_a_wrong_line_is_named(change: str, problem: str) -> None:
    assert problem in problems(SMALL + change + "\n")


def test_an_unquoted_exclusion_is_explained() -> None:
    text = 'name: s\nsource:\n  url: mysql://h/d\n  tables:\n    - "shop.*"\n    - !shop.audit\n'
    assert problems(text) == [
        'line 6: source.tables.1: !shop.audit is a YAML tag (in quotes it is text: "!shop.audit")'
    ]
    for tables in ("[!shop.audit]", "[*.orders]"):
        text = f"name: s\nsource: {{url: mysql://h/d, tables: {tables}}}\n"
        assert "in quotes" in problems(text)[0]


@pytest.mark.parametrize("text", ["", "- a", "just text", "name: [1", "\0", "%TAG x", "a: b: c", "? [a]\n: b"])
def test_what_is_no_pipeline_at_all_is_refused_without_a_traceback(text: str) -> None:
    assert problems(text)


def test_keys_of_one_engine_are_refused_for_the_other() -> None:
    mysql = 'name: s\nsource: {url: "mysql://h/d", slot: x, publication: y}\n'
    assert [text.split(": ", 1)[1] for text in problems(mysql)] == [
        "source.slot: belongs to Postgres sources",
        "source.publication: belongs to Postgres sources",
    ]
    assert "belongs to MySQL" in problems('name: s\nsource: {url: "postgresql://h/d", server_id: 5}\n')[0]


def test_more_connections_need_consistency_key_and_sinks_have_different_names() -> None:
    sink = '{name: a, url: "mysql://h/", connections: 2}'
    text = f'name: s\nsource: {{url: "mysql://h/d"}}\nsinks: [{sink}]\n'
    assert "consistency: transaction commits whole source transactions, and so uses one connection" in problems(text)[0]
    text = text.replace(f"[{sink}]", "[{name: a, url: mysql://h/}, {name: a, url: mysql://h/}]")
    assert "two sinks have the name a" in problems(text)[0]


def test_a_mysql_source_takes_the_database_it_names() -> None:
    selection = parse_settings({"name": "s", "source": {"url": "mysql://h/sh`op"}}).source.selection
    assert selection.selects(TableId("sh`op", "t"))
    assert not selection.selects(TableId("other", "t"))


def test_names_that_depend_on_the_pipelines_name() -> None:
    assert default_slot("My-shop.1") == "tailrace__y_shop_1"
    number = default_server_id("shop", "db")
    assert 2**31 <= number < 2**32
    assert number != default_server_id("shop", "db2")
    assert parse_settings({"name": "shop", "source": {"url": "mysql://db/s"}}).source.server_id == number


def test_passwords_that_cannot_be_found_are_reported_together() -> None:
    settings = parse_settings(
        {
            "name": "s",
            "source": {"url": "mysql://u:${env:A}@h/d"},
            "sinks": [{"name": "x", "url": "mysql://u:${env:B}@h/d"}],
            "log": "kafka://u:${env:C}@k:1?registry=http://r:1",
        }
    )
    with pytest.raises(SettingsError) as caught:
        resolve_settings(settings, {}, lambda path: path)
    assert [problem.path for problem in caught.value.problems] == [("source", "url"), ("sinks", 0, "url"), ("log",)]


def test_an_unknown_sink_is_named_with_those_that_exist() -> None:
    with pytest.raises(ConfigError, match="replica") as caught:
        read_settings(SMALL, "x").sink("postgres")
    assert caught.value.hint == "its sinks: replica"


def test_the_shipped_json_schema_is_that_of_the_models() -> None:
    shipped = Path(__file__).parents[3] / "tailrace" / "pipeline.schema.json"
    assert json.loads(shipped.read_text()) == json_schema(), "run: python -m tailrace.schema_file"


def test_settings_are_frozen() -> None:
    settings: PipelineSettings = read_settings(SMALL, "x")
    with pytest.raises(ValueError, match="frozen"):
        setattr(settings, "name", "other")  # noqa: B010

"""The composition root: what settings mean to sources, sinks and logs."""

from pathlib import Path

import pytest

from tailrace.pipeline import capture_settings, open_event_log, open_source, sink_config, sink_namespaces
from tailrace.preflight import map_namespaces
from tailrace.state import StateFolder
from tailrace_log.embedded import EmbeddedLog
from tailrace_log.kafka_settings import OWN_KEYS
from tailrace_schemas.errors import ConfigError
from tailrace_schemas.settings import OWN_KAFKA_KEYS, PipelineSettings, parse_settings
from tailrace_schemas.table import TableId, TableSchema


def settings(source: str, *targets: str, **more: object) -> PipelineSettings:
    sinks = [{"name": f"s{at}", "url": url} for at, url in enumerate(targets)]
    tables = more.pop("tables", [])
    return parse_settings({"name": "shop", "source": {"url": source, "tables": tables}, "sinks": sinks, **more})


def table(namespace: str) -> TableSchema:
    return TableSchema("postgresql", TableId(namespace, "t"), (), ())


def test_kafka_keys_of_ours_are_refused_by_line_and_by_the_log() -> None:
    assert OWN_KAFKA_KEYS == OWN_KEYS


def test_the_embedded_log_lies_in_the_state_folder_unless_it_has_a_path(tmp_path: Path) -> None:
    state = StateFolder(tmp_path)
    for words, path in (({}, tmp_path / "log.db"), ({"log": f"sqlite://{tmp_path}/other.db"}, tmp_path / "other.db")):
        log = open_event_log(settings("mysql://h/d", **words), state)
        assert isinstance(log, EmbeddedLog)
        assert log.path == path
        log.close()


def test_a_new_embedded_log_has_partitions_for_every_connection_and_keeps_them(tmp_path: Path) -> None:
    state, several = StateFolder(tmp_path), {"consistency": "key", "connections": 3}
    pipeline = parse_settings(
        {"name": "shop", "source": {"url": "mysql://h/d"}, "sinks": [{"name": "a", "url": "mysql://h/e", **several}]}
    )
    config = sink_config(pipeline, pipeline.sinks[0], "id")
    assert (config.consistency, config.connections) == ("key", 3)
    for settings_, expected in ((pipeline, 3), (settings("mysql://h/d", "mysql://h/e"), 3)):
        log = open_event_log(settings_, state)
        assert log.partitions == expected
        writer = log.writer("shop", ["a"])
        writer.open()
        writer.ensure_topics({"shop.d.t": log.partitions})
        writer.close()
        log.close()


@pytest.mark.parametrize("url", ["postgresql://h/d", "mysql://h/d", "mariadb://h/d"])
def test_a_source_is_made_without_connecting(url: str, tmp_path: Path) -> None:
    source = open_source(settings(url), StateFolder(tmp_path))
    assert (source.engine == "postgresql") is url.startswith("postgresql")
    source.close()


def test_settings_of_capture_and_sink_come_from_the_pipeline() -> None:
    pipeline = settings(
        "mysql://h/d", "mysql://h/", load={"readers": 2, "chunk_rows": 7}, partition_by="key_bytes", zero_dates="null"
    )
    capture = capture_settings(pipeline, until_current=True, connect_timeout=5)
    assert (capture.readers, capture.chunk_rows, capture.key_bytes, capture.until_current) == (2, 7, True, True)
    assert capture.sinks == ("s0",)
    sink = sink_config(pipeline, pipeline.sinks[0], "id")
    assert (sink.pipeline, sink.name, sink.log_id, sink.zero_dates) == ("shop", "s0", "id", "null")
    assert sink.commit_topic == "__tailrace-commit.shop"


def test_a_mysql_target_that_names_a_database_takes_the_one_selected_namespace_into_it() -> None:
    mysql = settings("mysql://h/shop", "mysql://h/copy", "mysql://h/", "postgresql://h/d")
    assert [sink_namespaces(mysql, sink) for sink in mysql.sinks] == [{"shop": "copy"}, {}, {}]
    one = settings("postgresql://h/d", "mysql://h/copy", tables=["public.*"])
    assert sink_namespaces(one, one.sinks[0]) == {"public": "copy"}
    written = settings("postgresql://h/d", "mysql://h/copy", map={"public": "other"})
    assert sink_namespaces(written, written.sinks[0]) == {"public": "other"}


def test_a_target_database_without_a_known_namespace_is_not_guessed() -> None:
    unknown = settings("postgresql://h/d", "mysql://h/copy")
    with pytest.raises(ConfigError) as caught:
        sink_namespaces(unknown, unknown.sinks[0])
    assert caught.value.code == "MAP_NEEDED"


def test_preflight_settles_the_map_by_the_tables_it_finds() -> None:
    unknown = settings("postgresql://h/d", "mysql://h/copy")
    assert map_namespaces(unknown, [table("public"), table("public")]).map == {"public": "copy"}
    assert map_namespaces(unknown, [table("a"), table("b")]).map == {"a": "a", "b": "b"}
    same = settings("postgresql://h/d", "postgresql://h/copy")
    assert map_namespaces(same, [table("public")]).map == {}

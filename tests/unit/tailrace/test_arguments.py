"""Words and flags: what they mean, and what is refused without quoting a URI."""

import json
from pathlib import Path

import pytest

from tailrace.arguments import PipelineFlags, known_state, read_pipeline, sink_name, state_of
from tailrace.state import default_state
from tailrace_schemas.errors import ConfigError
from tailrace_schemas.log_uri import SqliteLogUrl
from tailrace_schemas.table import TableId

SOURCE = "postgresql://u:c4nary@db/shop"
TARGET = "mariadb://u:c4nary@other/"
NO_FLAGS = PipelineFlags()


def refused(words: list[str], flags: PipelineFlags = NO_FLAGS) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_pipeline(words, flags, needs_target=True)
    assert "c4nary" not in str(caught.value)
    return caught.value


def test_two_uris_are_a_pipeline_named_after_the_sources_database() -> None:
    settings = read_pipeline([SOURCE, TARGET], NO_FLAGS, needs_target=True)
    assert settings.name == "shop"
    assert [sink.name for sink in settings.sinks] == ["mysql"]
    assert settings.log == SqliteLogUrl()


def test_flags_say_the_rest() -> None:
    flags = PipelineFlags(
        name="mine",
        tables=("public.*", "!public.x"),
        maps=("public=shop",),
        mode="cdc",
        start="lsn:0/1",
        log="sqlite:///tmp/l.db",
        consistency="key",
    )
    settings = read_pipeline([SOURCE, TARGET], flags, needs_target=True)
    assert (settings.name, settings.mode, settings.start) == ("mine", "cdc", "lsn:0/1")
    assert settings.sinks[0].consistency == "key"
    assert settings.map == {"public": "shop"}
    assert not settings.source.selection.selects(TableId("public", "x"))


@pytest.mark.parametrize(
    ("text", "name"), [("postgresql", "postgres"), ("postgres", "postgres"), ("mariadb", "mysql"), ("dw", "dw")]
)
def test_engine_names_of_sinks_are_normalised(text: str, name: str) -> None:
    assert sink_name(text) == name


def test_all_problems_of_a_command_line_come_at_once_by_flag() -> None:
    error = refused(["mysql://u:c4nary@db", "redis://:c4nary@h/"], PipelineFlags(tables=("x",), maps=("a",)))
    assert error.message == "the command line has 4 problems"
    for flag in ("--name: is needed", "--tables: table pattern 'x'", "TARGET: redis://", "--map: namespace map 'a'"):
        assert flag in error.detail


@pytest.mark.parametrize("words", [[], [SOURCE], [SOURCE, TARGET, TARGET]])
def test_a_wrong_number_of_words_is_refused(words: list[str]) -> None:
    assert "say SOURCE TARGET" in refused(words).message


def test_a_pipeline_file_is_read_and_flags_may_not_contradict_it(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"name: shop\nsource: {{url: {SOURCE}}}\nsinks: [{{name: a, url: {TARGET}}}]\n")
    assert read_pipeline([str(path)], NO_FLAGS, needs_target=True).sinks[0].name == "a"
    assert "--mode stands in the pipeline file" in refused([str(path)], PipelineFlags(mode="cdc")).message
    assert "one word too many" in refused([str(path), "x"]).message


def test_a_file_that_is_not_there_is_named() -> None:
    error = refused(["nowhere.yaml"])
    assert (error.message, error.detail) == ("nowhere.yaml cannot be read", "No such file or directory")


def test_a_dms_task_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "task.json"
    path.write_text(json.dumps({"rules": [{"rule-type": "selection"}]}))
    assert refused([str(path)]).code == "DMS_NOT_SUPPORTED"


def test_a_pipeline_may_be_json(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps({"name": "s", "source": {"url": SOURCE}}))
    assert read_pipeline([str(path)], NO_FLAGS, needs_target=True).name == "s"


def test_the_state_folder_follows_the_xdg_convention(tmp_path: Path) -> None:
    assert default_state("s", {"XDG_STATE_HOME": "/x"}, tmp_path) == Path("/x/tailrace/s")
    assert default_state("s", {}, tmp_path) == tmp_path / ".local/state/tailrace/s"
    assert default_state("s", {"XDG_STATE_HOME": "relative"}, tmp_path) == tmp_path / ".local/state/tailrace/s"
    settings = read_pipeline([SOURCE, TARGET], NO_FLAGS, needs_target=True)
    assert state_of(settings, tmp_path, {}).path == tmp_path
    assert state_of(settings, None, {"XDG_STATE_HOME": "/x"}).path == Path("/x/tailrace/shop")


def test_the_only_pipeline_need_not_be_named(tmp_path: Path) -> None:
    environment = {"XDG_STATE_HOME": str(tmp_path)}
    with pytest.raises(ConfigError, match="which pipeline"):
        known_state(None, None, environment)
    for name in ("a", "b"):
        folder = tmp_path / "tailrace" / name
        folder.mkdir(parents=True)
        (folder / "pipeline.yaml").touch()
        if name == "a":
            assert known_state(None, None, environment).path == folder
    with pytest.raises(ConfigError) as caught:
        known_state(None, None, environment)
    assert caught.value.detail == "found: a, b"
    assert known_state(None, "b", environment).path == tmp_path / "tailrace/b"
    with pytest.raises(ConfigError, match="no state folder"):
        known_state(None, "c", environment)

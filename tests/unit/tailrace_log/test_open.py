"""From a log URL to a log."""

from contextlib import closing
from pathlib import Path

import pytest

from tailrace_log.embedded import EmbeddedLog
from tailrace_log.kafka_settings import KafkaSettings
from tailrace_log.open import open_log
from tailrace_log.registry import RegistrySettings
from tailrace_schemas.errors import ConfigError
from tailrace_schemas.log_uri import parse_log_url
from tailrace_schemas.uri import Secret


def test_the_embedded_log_is_made_in_the_state_folder(tmp_path: Path) -> None:
    with closing(open_log(parse_log_url("sqlite"), prefix="shop", state=tmp_path / "new")) as log:
        assert isinstance(log, EmbeddedLog)
        assert (log.path, log.prefix) == (tmp_path / "new" / "log.db", "shop")
        assert log.path.exists()


def test_an_embedded_log_may_lie_elsewhere(tmp_path: Path) -> None:
    url = parse_log_url(f"sqlite://{tmp_path}/elsewhere.db")
    with closing(open_log(url, prefix="shop", state=tmp_path / "state")) as log:
        assert isinstance(log, EmbeddedLog)
        assert log.path == tmp_path / "elsewhere.db"


def settings(**more: object) -> KafkaSettings:
    base = KafkaSettings(("k:9092",), "shop", RegistrySettings("http://r", user="u", password=Secret("c4nary")))
    return KafkaSettings(base.brokers, base.prefix, base.registry, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("key", ["isolation.level", "acks", "transactional.id", "auto.offset.reset"])
def test_keys_on_which_the_guarantees_rest_cannot_be_set(key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        settings(extra={key: "x"})


def test_passwords_do_not_show_in_settings() -> None:
    found = settings(password=Secret("c4nary"), extra={"ssl.key.password": "c4nary"})

    assert "c4nary" not in repr(found)
    assert found.client()["sasl.password"] == "c4nary"


def test_further_keys_reach_the_clients_they_are_for() -> None:
    found = settings(extra={"linger.ms": "7", "fetch.wait.max.ms": "9", "ssl.ca.location": "/ca"})

    assert (found.producer()["linger.ms"], "fetch.wait.max.ms" in found.producer()) == ("7", False)
    assert (found.consumer()["fetch.wait.max.ms"], "linger.ms" in found.consumer()) == ("9", False)
    assert {"linger.ms", "fetch.wait.max.ms"}.isdisjoint(found.admin())
    assert {found.producer()["ssl.ca.location"], found.consumer()["ssl.ca.location"]} == {"/ca"}

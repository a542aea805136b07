"""deploy/: what cannot be run without a container engine is at least consistent with the command it starts."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tailrace.cli import app
from tailrace_schemas.log_uri import KafkaLogUrl
from tailrace_schemas.settings import PipelineSettings
from tailrace_schemas.settings_yaml import read_settings

DEPLOY = Path(__file__).parents[3] / "deploy"
PROCESSES = ("capture", "sink")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    data = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert isinstance(data, dict)
    return data


@pytest.fixture(scope="module")
def pipeline() -> PipelineSettings:
    return read_settings((DEPLOY / "pipeline.yaml").read_text(), "pipeline.yaml")


def processes(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in compose["services"].items() if name.split("-")[0] in PROCESSES}


def test_every_process_of_the_pipeline_has_a_container(compose: dict[str, Any], pipeline: PipelineSettings) -> None:
    assert set(processes(compose)) == {"capture", *(f"sink-{sink.name}" for sink in pipeline.sinks)}


def test_every_command_is_understood(compose: dict[str, Any]) -> None:
    for name, service in processes(compose).items():
        words = [word.replace("/etc/tailrace", str(DEPLOY)) for word in service["command"]]
        result = CliRunner().invoke(app, [*words, "--emit-config"])
        assert result.exit_code == 0, (name, result.output)


def test_every_file_a_password_is_read_from_is_a_secret_of_the_container(compose: dict[str, Any]) -> None:
    named = set(re.findall(r"\$\{file:/run/secrets/(\w+)\}", (DEPLOY / "pipeline.yaml").read_text()))
    assert named == set(compose["secrets"])
    for service in processes(compose).values():
        assert set(service["secrets"]) == named
        assert "./pipeline.yaml:/etc/tailrace/pipeline.yaml:ro" in service["volumes"]


def test_broker_and_registry_of_the_pipeline_are_services(compose: dict[str, Any], pipeline: PipelineSettings) -> None:
    assert isinstance(pipeline.log, KafkaLogUrl)
    hosts = {broker.rpartition(":")[0] for broker in pipeline.log.brokers}
    hosts.add(re.sub(r"https?://([^:/]+).*", r"\1", pipeline.log.registry))
    assert hosts <= set(compose["services"])


def test_containers_have_time_to_drain_and_run_as_nobody_special(compose: dict[str, Any]) -> None:
    for service in processes(compose).values():
        assert int(service["stop_grace_period"].rstrip("s")) > 30
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert "USER 10001" in lines
    assert lines.index("USER 10001") < next(n for n, line in enumerate(lines) if line.startswith("ENTRYPOINT"))


def test_no_container_waits_for_a_service_that_is_not_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert set(service.get("depends_on", ())) <= set(compose["services"])

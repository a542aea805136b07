"""The supervisor over children that do what a script says: restarts, ends, words, secrets."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tailrace.lifeline import Lifeline
from tailrace.state import StateFolder
from tailrace.supervisor import Supervisor
from tailrace_log.embedded import EmbeddedLog
from tailrace_log.log import CommitRecord
from tailrace_schemas.settings import PipelineSettings, parse_settings

# A child that plays the scene of its role: each start takes the next word of <state>/<role>.scene, the last one stays.
FAKE = r"""
import json, os, pathlib, signal, sys
role = "capture" if sys.argv[1] == "capture" else "sink-" + sys.argv[-1]
state = pathlib.Path(sys.argv[sys.argv.index("--state") + 1])
scene = state / (role + ".scene")
words = scene.read_text().split()
if len(words) > 1:
    scene.write_text(" ".join(words[1:]))
heard = open(state / (role + ".heard"), "a")
print("start", json.dumps(sys.argv), file=heard, flush=True)
(state / (role + ".env")).write_text(json.dumps(dict(os.environ)))
def status(**data):
    (state / "status" / (role + ".json")).write_text(json.dumps({"pid": os.getpid(), **data}))
def listen(until):
    for line in sys.stdin:
        print(line.strip(), file=heard, flush=True)
        if line.startswith(until):
            return
word = words[0]
print("line of", role, file=sys.stderr, flush=True)
if word == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif word == "finish":
    status(finished=True); sys.exit(0)
elif word == "stopped-table":
    status(finished=True); sys.exit(1)
elif word == "early":
    sys.exit(0)
elif word == "lost":
    status(state="failed", error={"code": "LOST", "message": "gone", "remedy": "r"}); sys.exit(5)
elif word == "until":
    listen("until"); status(finished=True)
else:
    listen("stop")
"""


class Record:
    """A display that remembers."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.lines: list[str] = []
        self.states: list[str] = []

    def say(self, sentence: str, **_fields: object) -> None:
        self.sentences.append(sentence)

    def log_line(self, line: str) -> None:
        self.lines.append(line)

    def show(self, status: dict[str, Any]) -> None:
        self.states.append(status["state"])

    def close(self) -> None: ...


class Play:
    """One run of the supervisor in this process."""

    def __init__(self, folder: Path, until_current: bool, **scenes: str) -> None:
        self.state = StateFolder(folder)
        self.state.make()
        self.lock = self.state.lock()  # as the run command does
        for role, words in scenes.items():
            (folder / f"{role.replace('_', '-')}.scene").write_text(words)
        sinks = sorted(role.removeprefix("sink_") for role in scenes if role != "capture")
        self.settings: PipelineSettings = parse_settings(
            {
                "name": "shop",
                "source": {"url": "postgresql://u:c4nary@h/d"},
                "sinks": [{"name": name, "url": f"mysql://u:c4nary-{name}@h/"} for name in sinks],
            }
        )
        self.life, self.display = Lifeline(), Record()
        script = folder / "fake.py"
        script.write_text(FAKE)
        self.supervisor = Supervisor(
            self.settings,
            self.state,
            self.life,
            self.display,
            os.environ,
            ["--log-level", "info"],
            until_current,
            program=(sys.executable, str(script)),
        )

    def heard(self, role: str) -> list[str]:
        path = self.state.path / f"{role}.heard"
        return path.read_text().splitlines() if path.exists() else []

    def starts(self, role: str) -> int:
        return sum(line.startswith("start") for line in self.heard(role))

    def run_until(self, condition: Callable[[], bool]) -> int:
        """Run, and ask to end when `condition` holds."""
        codes: list[int] = []
        thread = threading.Thread(target=lambda: codes.append(self.supervisor.run()))
        thread.start()
        deadline = time.monotonic() + 20
        while not condition() and thread.is_alive():
            assert time.monotonic() < deadline, "the condition never held"
            time.sleep(0.02)
        self.life.stop.set()
        thread.join(20)
        return codes[0]


def test_a_killed_child_is_started_again_and_the_reason_is_said(tmp_path: Path) -> None:
    play = Play(tmp_path, False, capture="run", sink_a="killed run")
    assert play.run_until(lambda: play.starts("sink-a") == 2) == 0
    assert play.display.sentences == ["sink-a was killed by SIGKILL; starting it again in 0.5 s"]
    assert play.starts("capture") == 1
    assert play.heard("capture")[-1] == play.heard("sink-a")[-1] == "stop"
    assert play.state.read_status("run")["restarts"] == {"capture": 0, "sink-a": 1}


def test_pauses_between_restarts_grow(tmp_path: Path) -> None:
    play = Play(tmp_path, False, capture="killed killed run", sink_a="run")
    play.run_until(lambda: play.starts("capture") == 3)
    assert [text.split()[-2] for text in play.display.sentences] == ["0.5", "1"]


def test_a_child_that_drained_because_somebody_else_told_it_is_started_again(tmp_path: Path) -> None:
    play = Play(tmp_path, True, capture="early run", sink_a="run")
    play.run_until(lambda: play.starts("capture") == 2)
    assert "ended before its work was done" in play.display.sentences[0]


def test_an_error_of_capture_that_needs_a_person_ends_the_run_with_its_code(tmp_path: Path) -> None:
    play = Play(tmp_path, False, capture="lost", sink_a="run")
    assert play.supervisor.run() == 5
    assert play.supervisor.failures() == [("capture", {"code": "LOST", "message": "gone", "remedy": "r"})]
    assert play.state.read_status("run")["state"] == "failed"
    assert play.heard("sink-a")[-1] == "stop"


def test_one_stopped_sink_does_not_stop_the_others(tmp_path: Path) -> None:
    play = Play(tmp_path, False, capture="run", sink_a="lost", sink_b="killed killed run")
    play.run_until(lambda: play.starts("sink-b") == 3)
    assert play.starts("sink-a") == 1
    assert play.starts("capture") == 1
    assert "sink-a stopped: LOST: gone; the other sinks go on" in play.display.sentences
    last = Play(tmp_path / "last", False, capture="run", sink_a="lost", sink_b="lost")
    assert last.supervisor.run() == 5


def test_a_bounded_run_ends_when_the_sinks_have_reached_the_end_of_the_log(tmp_path: Path) -> None:
    play = Play(tmp_path, True, capture="finish", sink_a="until")
    log = EmbeddedLog(play.state.log_file, "shop")
    writer = log.writer("shop", ["a"])
    writer.open()
    writer.write([], CommitRecord(0, "shop", "stream", {}, "lsn:0/1", load_full=True))
    writer.close()
    log.close()
    assert play.supervisor.run() == 0
    assert "until 0" in play.heard("sink-a")
    assert "--until-current" in play.heard("capture")[0]


def test_a_bounded_run_with_a_stopped_table_ends_with_1(tmp_path: Path) -> None:
    play = Play(tmp_path, True, capture="stopped-table", sink_a="until")
    EmbeddedLog(play.state.log_file, "shop").close()
    assert play.supervisor.run() == 1


def test_passwords_reach_children_by_their_environment_alone(tmp_path: Path) -> None:
    play = Play(tmp_path, False, capture="run", sink_a="run")
    play.run_until(lambda: play.starts("capture") + play.starts("sink-a") == 2)
    variables = json.loads((tmp_path / "capture.env").read_text())
    assert variables["TAILRACE_SOURCE_PASSWORD"] == "c4nary"
    assert variables["TAILRACE_A_PASSWORD"] == "c4nary-a"
    for path in (*tmp_path.glob("*.heard"), play.state.pipeline_file, *(tmp_path / "status").iterdir()):
        assert "c4nary" not in path.read_text(), path


def test_what_children_write_to_stderr_is_passed_on(tmp_path: Path) -> None:
    play = Play(tmp_path, False, capture="run", sink_a="run")
    play.run_until(lambda: len(play.display.lines) == 2)
    assert sorted(play.display.lines) == ["line of capture", "line of sink-a"]
    assert play.display.states[-2:] == ["stopping", "stopped"]


@pytest.mark.parametrize("seconds", [0.5])
def test_a_child_that_does_not_end_when_told_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr("tailrace.supervisor.DRAIN_SECONDS", seconds)
    play = Play(tmp_path, False, capture="run", sink_a="run")
    script = tmp_path / "fake.py"
    script.write_text(FAKE.replace('    listen("stop")', "    import time; time.sleep(600)"))
    began = time.monotonic()
    assert play.run_until(lambda: play.starts("capture") + play.starts("sink-a") == 2) == 0
    assert time.monotonic() - began < 10

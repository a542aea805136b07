"""One run, top to bottom: tables, history, fill; then load and changes at once, with kills; drain; judge."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import unquote, urlsplit

from bed.processes import wait_until
from pipeline.matrix import compare, history
from pipeline.matrix.command import Command, environment, kill_at_random
from pipeline.matrix.engine import Side, add_target_constraints, create_tables
from pipeline.matrix.fill import fill


@dataclass(frozen=True, slots=True)
class Scale:
    """`rows`: filled in before; `rate`: changes a second by `writers` processes, while the load lasts (at most `load`
    seconds) and `seconds` longer; `kills`: SIGKILLs meanwhile, `pause` seconds apart, at most half of them during the
    load; `drain`: how long the rest may take."""

    rows: int = 20_000
    rate: float = 500
    seconds: float = 10
    writers: int = 2
    kills: int = 0
    pause: tuple[float, float] = (0.5, 3.0)
    chunk_rows: int = 700
    load: float = 120
    drain: float = 120


@dataclass(slots=True)
class Story:
    """What a run was, for the reader of a report."""

    seed: int
    filled: int = 0
    fill_seconds: float = 0.0
    load_seconds: float = 0.0
    changes_seconds: float = 0.0
    drain_seconds: float = 0.0
    compared: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    applied: dict[str, int] = field(default_factory=dict)
    kills: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        rate = self.changes["changes"] / max(self.changes_seconds, 0.001)
        return (
            f"seed {self.seed}: {self.filled} rows filled in {self.fill_seconds:.0f} s, loaded in"
            f" {self.load_seconds:.1f} s; {self.changes['changes']} changes in {self.changes_seconds:.0f} s"
            f" ({rate:.0f}/s); drained in {self.drain_seconds:.1f} s; {self.compared} rows compared;"
            f" applied {self.applied}; killed {dict(self.kills)}; {dict(self.changes)}"
        )


@dataclass(slots=True)
class Case:
    """A source with an empty namespace, a target, a log, and a name that is nobody else's."""

    name: str
    source: Side
    target: Side
    log: str
    folder: Path
    seed: int
    scale: Scale

    def run(self) -> Story:
        """Play it and judge it; the seed and the figures are in what it returns, and in every failure."""
        story = Story(self.seed)
        command = self._command(self.folder, self.name, self.log)
        try:
            self._prepare()
            began = time.monotonic()
            story.filled = fill(self.source, self.seed, self.scale.rows)
            story.fill_seconds = time.monotonic() - began
            with self._writers() as writers:
                self._replicate(command, story, writers)
            self._drain(command, story)
            self._judge(story)
            assert "Traceback" not in command.log.read_text(errors="replace"), command.said()
        except AssertionError as error:
            raise AssertionError(f"{story}\n{error}") from error
        finally:
            command.close()
        return story

    def _command(self, folder: Path, name: str, log: str) -> Command:
        return pipeline_command(folder, self.source, self.target, name, log, self.scale.chunk_rows)

    def _prepare(self) -> None:
        """A pipeline makes the target's tables and is forgotten; then they get their triggers."""
        create_tables(self.source)
        first = self._command(self.folder / "first", f"{self.name}_first", "sqlite")
        try:
            first.finish(90)
            first.drop()
        finally:
            first.close()
        add_target_constraints(self.target)
        history.create_history(self.target)

    @contextmanager
    def _writers(self) -> Iterator[list[subprocess.Popen[str]]]:
        scale = self.scale
        words: dict[str, object] = {"side": asdict(self.source), "seed": self.seed, "rows": scale.rows}
        words |= {"writers": scale.writers, "rate": scale.rate / scale.writers}
        writers = [
            subprocess.Popen(
                [sys.executable, "-m", "pipeline.matrix.writer", json.dumps(words | {"writer": number})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment(),
            )
            for number in range(scale.writers)
        ]
        try:
            yield writers
        finally:
            for writer in writers:
                writer.kill()
                writer.communicate()

    def _replicate(self, command: Command, story: Story, writers: list[subprocess.Popen[str]]) -> None:
        command.start()
        began = time.monotonic()
        draw, scale = Random(f"{self.seed} kills"), self.scale
        killed = kill_at_random(command, draw, scale.kills // 2, scale.pause, command.is_loaded)
        wait_until(command.is_loaded, scale.load, f"every table is loaded\n{command.said()}")
        story.load_seconds = time.monotonic() - began
        streamed = time.monotonic() + scale.seconds
        kill_at_random(command, draw, scale.kills - killed, scale.pause, lambda: False)
        while time.monotonic() < streamed:
            command.check()
            time.sleep(0.05)
        for writer in writers:
            done = _end_of(writer)
            story.changes_seconds = max(story.changes_seconds, done.pop("milliseconds") / 1000)
            story.changes.update(done)
        command.check()
        story.kills.update(command.kills)

    def _drain(self, command: Command, story: Story) -> None:
        began = time.monotonic()
        command.stop()
        command.finish(self.scale.drain)
        story.drain_seconds = time.monotonic() - began

    def _judge(self, story: Story) -> None:
        story.applied = history.counts(self.target)
        differences = compare.differences(self.source, self.target)
        faults = history.faults(self.target)
        assert not differences + faults, "\n".join(differences + faults)
        story.compared = compare.total_rows(self.source)
        assert story.kills.total() == self.scale.kills
        wanted = ("inserts", "updates", "deletes", "deletes_with_insert", "key_changes", "swaps", "rolled_back")
        assert all(story.changes[kind] for kind in (*wanted, "savepoint_undone", "cascades")), story


def pipeline_command(folder: Path, source: Side, target: Side, name: str, log: str, chunk_rows: int) -> Command:
    """A pipeline of every table of the source's namespace, its passwords by reference."""
    here, there = source.namespace, target.namespace
    variables: dict[str, str] = {}
    pipeline = {
        "name": name,
        "source": {"url": _without_password(source.url, "SOURCE", variables), "tables": [f"{here}.*"]},
        "log": log,
        "load": {"readers": 2, "chunk_rows": chunk_rows},
        "map": {} if here == there else {here: there},
        "sinks": [{"name": "replica", "url": _without_password(target.url, "TARGET", variables)}],
    }
    return Command(folder, pipeline, variables)


def _without_password(url: str, word: str, variables: dict[str, str]) -> str:
    """The URL with a reference in the place of its password, which goes to `variables`."""
    password = urlsplit(url).password
    if password is None:
        return url
    variable = f"TAILRACE_MATRIX_{word}_PASSWORD"
    variables[variable] = unquote(password)
    return url.replace(f":{password}@", f":${{env:{variable}}}@", 1)


def _end_of(writer: subprocess.Popen[str]) -> Counter[str]:
    out, err = writer.communicate(timeout=60)
    assert writer.returncode == 0, f"a writer failed: {err[-3000:]}"
    return Counter(json.loads(out))

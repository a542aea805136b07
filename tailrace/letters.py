"""`tailrace dead-letter`: what a target refused, and its way back in.

The target's table of letters says what became of each; their events are in the log. The rules of replaying are the
sink's (`tailrace_sinks.replay`); a sink that runs meanwhile is fenced at its next batch and goes on by itself.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, cast

import fastavro.read
from rich.console import Console
from rich.table import Table

from tailrace.boundary import print_json
from tailrace.pipeline import open_event_log, open_sink
from tailrace.state import StateFolder
from tailrace.tail import decode, plain
from tailrace_log.log import DeadLetter, EventLog, SchemaRegistry
from tailrace_schemas.errors import EXIT_DONE, EXIT_ERROR, ConfigError, StopError
from tailrace_schemas.settings import PipelineSettings
from tailrace_sinks.letters import KeptLetter, LetterId
from tailrace_sinks.replay import KeepsLetters, Verdict
from tailrace_sinks.service import Schemas


class Act(Enum):
    LIST = "list"
    SHOW = "show"
    REPLAY = "replay"
    DISCARD = "discard"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    Act.LIST: "What was set aside, why, and what became of it. Those done with only with --all.",
    Act.SHOW: "The whole event of one or more: its key, the row before and after. Row values are printed.",
    Act.REPLAY: "Apply them once more, each exactly once, never over a newer row; says which could not go, and why.",
    Act.DISCARD: "Note that they are done with; their rows stay as they are at the target.",
}


@dataclass(frozen=True, slots=True)
class Chosen:
    """`ids` as the user wrote them; `every`: all that are not done with; `sink`: of one sink only."""

    ids: tuple[str, ...] = ()
    every: bool = False
    sink: str | None = None


@dataclass(frozen=True, slots=True)
class _Sink:
    name: str
    work: KeepsLetters
    kept: list[KeptLetter]
    wanted: list[KeptLetter]


def work(act: Act, chosen: Chosen, settings: PipelineSettings, state: StateFolder, as_json: bool) -> int:
    """`settings` are resolved. The exit code: 1 where a letter that was to go could not.

    Raises:
        ConfigError: nothing is chosen, or something that is not there.
        TailraceError: of the log or a target.
    """
    if act is not Act.LIST and not chosen.ids and not chosen.every:
        raise ConfigError("say which dead letters", hint=f"tailrace dead-letter {act.value} ID… or --all")
    with closing(open_event_log(settings, state)) as event_log, _sinks(settings, chosen, event_log) as sinks:
        known = {str(letter.id) for sink in sinks for letter in sink.wanted}
        if missing := [text for text in chosen.ids if text not in known]:
            raise ConfigError(f"there is no dead letter {missing[0]}", hint="tailrace dead-letter list --all")
        return _ACTS[act](sinks, event_log, chosen, as_json)


@contextmanager
def _sinks(settings: PipelineSettings, chosen: Chosen, event_log: EventLog) -> Iterator[list[_Sink]]:
    ids = {LetterId.parse(text) for text in chosen.ids}
    out = []
    for one in settings.sinks if chosen.sink is None else (settings.sink(chosen.sink),):
        sink = cast("KeepsLetters", open_sink(settings, one, event_log.log_id))
        kept = sink.kept_letters()
        wanted = [letter for letter in kept if (letter.id in ids if ids else not letter.done)]
        out.append(_Sink(one.name, sink, kept, wanted))
    yield out


def _events(event_log: EventLog) -> Callable[[str, KeptLetter], bytes | None]:
    """Sink and letter → its event: from the target until the log has it, then from there."""
    with closing(event_log.reader()) as reader:
        found = {(one.sink, one.topic, one.partition, one.offset): one for one in reader.dead_letters()}

    def event(sink: str, kept: KeptLetter) -> bytes | None:
        if kept.letter.value is not None:
            return kept.letter.value
        there = found.get((sink, kept.id.topic, kept.id.partition, kept.id.offset))
        # The same place of a log that was deleted and made again is another event.
        return there.value if there is not None and _same(there, kept.letter) else None

    return event


def _same(one: DeadLetter, other: DeadLetter) -> bool:
    return (one.seq, one.position, one.code, one.key) == (other.seq, other.position, other.code, other.key)


def _list(sinks: list[_Sink], event_log: EventLog, chosen: Chosen, as_json: bool) -> int:
    registry = event_log.registry
    shown = [
        _letter_json(sink.name, letter, registry)
        for sink in sinks
        for letter in (sink.kept if chosen.every else sink.wanted)
    ]
    states = Counter(letter.state for sink in sinks for letter in sink.kept)
    if as_json:
        print_json({"letters": shown, "states": dict(states)})
        return EXIT_DONE
    table = Table("id", "sink", "state", "table", "key", "code", "reason", box=None, pad_edge=False)
    for letter in shown:
        key = json.dumps(letter["key"], ensure_ascii=False)
        words = (letter["id"], letter["sink"], letter["state"], letter["target"], key, letter["code"], letter["reason"])
        table.add_row(*words)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if shown:
        console.print(table)
    console.print(", ".join(f"{count:,} {state}" for state, count in sorted(states.items())) or "no dead letters")
    return EXIT_DONE


def _letter_json(sink: str, kept: KeptLetter, registry: SchemaRegistry) -> dict[str, Any]:
    letter = kept.letter
    return {
        "sink": sink,
        "id": str(kept.id),
        "state": kept.state,
        "target": letter.target,
        "key": _decoded(registry, letter.key),
        "code": letter.code,
        "reason": letter.reason,
        "position": letter.position,
        "commit_seq": letter.seq,
        "set_aside_at": kept.at,
    }


def _decoded(registry: SchemaRegistry, data: bytes | None) -> Any:
    """What JSON can carry of a record; of one that cannot be read its bytes."""
    if data is None:
        return None
    try:
        return plain(decode(registry, data))
    except (ValueError, IndexError, EOFError, StopError, fastavro.read.SchemaResolutionError):
        return {"bytes": data.hex()}


def _show(sinks: list[_Sink], event_log: EventLog, _chosen: Chosen, as_json: bool) -> int:
    event = _events(event_log)
    for sink in sinks:
        for letter in sink.wanted:
            data = _letter_json(sink.name, letter, event_log.registry)
            data["event"] = _decoded(event_log.registry, event(sink.name, letter))
            if as_json:
                print_json(data)
            else:
                sys.stdout.write(json.dumps(data, ensure_ascii=False, indent=2) + "\n")
    return EXIT_DONE


def _replay(sinks: list[_Sink], event_log: EventLog, chosen: Chosen, as_json: bool) -> int:
    event, schema = _events(event_log), Schemas(event_log)
    told: list[tuple[str, Verdict]] = []
    for sink in sinks:
        wanted = [letter for letter in sink.wanted if chosen.ids or letter.waits]
        if wanted:
            events = {letter.id: event(sink.name, letter) for letter in wanted}
            told += [(sink.name, verdict) for verdict in sink.work.replay(events, schema)]
    left = [(sink, verdict) for sink, verdict in told if not verdict.went]
    if as_json:
        rows = [{"sink": sink, "id": str(v.letter.id), "replayed": v.went, "why": v.why} for sink, v in told]
        print_json({"replayed": len(told) - len(left), "left": len(left), "letters": rows})
    else:
        sys.stdout.write(f"{len(told) - len(left):,} replayed, {len(left):,} left\n")
        sys.stdout.write("".join(f"{v.letter.id} [{sink} {v.letter.letter.target}]: {v.why}\n" for sink, v in left))
    return EXIT_ERROR if left else EXIT_DONE


def _discard(sinks: list[_Sink], _event_log: EventLog, _chosen: Chosen, as_json: bool) -> int:
    count = sum(sink.work.discard({letter.id for letter in sink.wanted}) for sink in sinks if sink.wanted)
    if as_json:
        print_json({"discarded": count})
    else:
        sys.stdout.write(f"{count:,} discarded\n")
    return EXIT_DONE


_ACTS: dict[Act, Callable[[list[_Sink], EventLog, Chosen, bool], int]] = {
    Act.LIST: _list,
    Act.SHOW: _show,
    Act.REPLAY: _replay,
    Act.DISCARD: _discard,
}

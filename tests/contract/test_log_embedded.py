"""The embedded log where the contract meets the disk: killed writers, watching readers, a full disk, a foreign file."""

import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO

import fix_log_child
import pytest
from librt.strings import BytesWriter

import tailrace_log.sqlite_file
from tailrace_log.embedded import EmbeddedLog, EmbeddedReader, EmbeddedWriter
from tailrace_log.log import Batch, CommitRecord
from tailrace_schemas.errors import ConfigError, FencedError, LogUnavailableError, StopError
from tailrace_schemas.wire import put_frame

TOPIC = "p.public.t"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def a_log(path: Path, stack: ExitStack, **options: int) -> EmbeddedLog:
    log = EmbeddedLog(path, "p", 1, **options)
    stack.callback(log.close)
    return log


def a_writer(log: EmbeddedLog, stack: ExitStack, *, sinks: tuple[str, ...] = ("replica",)) -> EmbeddedWriter:
    writer = log.writer("p", list(sinks))
    stack.callback(writer.close)
    writer.open()
    writer.ensure_topics({TOPIC: 1})
    return writer


def a_reader(log: EmbeddedLog, stack: ExitStack) -> EmbeddedReader:
    reader = log.reader()
    stack.callback(reader.close)
    return reader


def record(seq: int) -> CommitRecord:
    return CommitRecord(seq, "p", "stream", {}, f"{seq}", load_full=seq % 10 == 0)


def one_batch(size: int, chance: random.Random) -> Batch:
    out = BytesWriter()
    put_frame(out, b"key", chance.randbytes(size))
    return Batch(TOPIC, 0, 1, out.getvalue())


# ---- killed


def child(word: str, path: Path, last: int) -> "subprocess.Popen[bytes]":
    arguments = [sys.executable, fix_log_child.__file__, word, str(path), str(last)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)


def next_line(stream: IO[bytes], seconds: float) -> bytes:
    """The next line, b"" at the end of the stream or when the time is over."""
    ready, _, _ = select.select([stream], [], [], seconds)
    return stream.readline() if ready else b""


def acknowledged_before_kill(path: Path, last: int, chance: random.Random) -> int:
    """Start a writer, kill it at a random moment after some acknowledgements; the last one it gave, -1 for none."""
    acknowledged = -1
    with child("write", path, last) as writer:
        assert writer.stdout is not None
        for _ in range(chance.randint(1, 25)):
            if not (line := next_line(writer.stdout, 60)):
                break
            acknowledged = int(line)
        select.select([], [], [], chance.uniform(0, 0.004))
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split(b"\n")
    # A last line cut short was not acknowledged to anyone.
    return max([acknowledged, *(int(line) for line in rest[:-1])])


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_killed_writer_leaves_whole_log_transactions_and_all_it_acknowledged(
    number: int, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(f"{seed} kill the embedded writer {number}")
    path, last, kills = tmp_path / "log.db", 199, 0
    with child("read", path, last) as watcher:
        acknowledged = -1
        while acknowledged < last:
            acknowledged = max(acknowledged, acknowledged_before_kill(path, last, chance))
            kills += 1
            with closing(EmbeddedLog(path, "crash", 2)) as log, closing(log.reader()) as reader:
                assert reader.last_seq() >= acknowledged
        seen, complaints = watcher.communicate(timeout=120)
    assert (seen, complaints) == (b"seen\n", b"")
    assert kills > 3
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_a_writer_frozen_while_another_took_over_writes_nothing_more(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailrace_log.sqlite_file, "BUSY_SECONDS", 1)
    path, last = tmp_path / "log.db", 100_000
    with child("write", path, last) as zombie:
        assert zombie.stdout is not None and zombie.stderr is not None
        assert next_line(zombie.stdout, 60)
        zombie.send_signal(signal.SIGSTOP)
        log = EmbeddedLog(path, "crash", 2)
        stack.callback(log.close)
        writer = log.writer("crash", [fix_log_child.SINK])
        stack.callback(writer.close)
        following = -1
        while following < 0:
            try:
                following = writer.open()[-1].seq + 1
            except LogUnavailableError:  # frozen inside a transaction it holds the file's lock: freeze it elsewhere
                zombie.send_signal(signal.SIGCONT)
                assert next_line(zombie.stdout, 60)
                zombie.send_signal(signal.SIGSTOP)
        writer.ensure_topics(dict.fromkeys(fix_log_child.topics_of(), 2))

        zombie.send_signal(signal.SIGCONT)
        assert b"FencedError" in zombie.communicate(timeout=60)[1]

    writer.write([], fix_log_child.record_of(following))
    assert [found.seq for found in writer.open()][-1] == following


# ---- bounded


def test_the_file_stays_bounded_while_its_sinks_keep_up(tmp_path: Path, stack: ExitStack, seed: int) -> None:
    chance = random.Random(f"{seed} bounded")
    log = a_log(tmp_path / "log.db", stack)
    writer, reader = a_writer(log, stack), a_reader(log, stack)
    reader._noted_at = float("-inf")
    for seq in range(400):
        writer.write([one_batch(1 << 20, chance)], record(seq))
        reader.applied("replica", seq - 5)
        reader._note_progress(at_once=True)

    # 400 MB went through; what waits is 6 MB, the rest free pages and the WAL.
    assert log.size_bytes() < 120 << 20


def test_a_file_that_grew_while_a_sink_was_away_shrinks_again(tmp_path: Path, stack: ExitStack, seed: int) -> None:
    chance = random.Random(f"{seed} shrink")
    path = tmp_path / "log.db"
    log = a_log(path, stack)
    writer = a_writer(log, stack)
    for seq in range(160):
        writer.write([one_batch(1 << 20, chance)], record(seq))
    grown = path.stat().st_size
    with closing(log.reader()) as reader:
        reader.applied("replica", 158)

    for seq in range(160, 1160):
        writer.write([], record(seq))

    assert grown > 150 << 20
    assert path.stat().st_size < 100 << 20


def test_the_wal_does_not_grow_under_a_reader_that_waits(tmp_path: Path, stack: ExitStack, seed: int) -> None:
    chance = random.Random(f"{seed} wal")
    log = a_log(tmp_path / "log.db", stack)
    writer, reader = a_writer(log, stack), a_reader(log, stack)
    for seq in range(200):
        writer.write([one_batch(1 << 20, chance)], record(seq))
        [found] = reader.commits(seq - 1, 1, 1)
        reader.read(found)

    assert (tmp_path / "log.db-wal").stat().st_size < 80 << 20


# ---- full


def test_a_full_log_waits_for_its_sinks_and_loses_nothing(tmp_path: Path, stack: ExitStack, seed: int) -> None:
    chance = random.Random(f"{seed} full")
    log = a_log(tmp_path / "log.db", stack, max_bytes=8 << 20)
    writer, reader = a_writer(log, stack), a_reader(log, stack)
    sent: list[Batch] = []
    with pytest.raises(LogUnavailableError) as caught:
        for seq in range(100):
            batch = one_batch(1 << 20, chance)
            writer.write([batch], record(seq))
            sent.append(batch)

    assert caught.value.code == "LOG_FULL"
    assert 3 < len(sent) < 9
    assert reader.last_seq() == len(sent) - 1
    records = reader.commits(-1, 100, 1)
    assert [reader.read(found) for found in records] == [[batch] for batch in sent]

    reader.applied("replica", len(sent) - 2)
    reader._note_progress(at_once=True)
    written = writer.write([batch], record(len(sent)))
    assert reader.read(written) == [batch]
    assert reader.read(records[-1]) == [sent[-1]]


@pytest.mark.parametrize("reserve", [0, 24 << 20], ids=["freed by a person", "freed by a sink"])
def test_a_full_disk_loses_nothing_and_is_used_again_when_freed(reserve: int, tmp_path: Path) -> None:
    mount = f"mount -t tmpfs -o size=80m tmpfs {tmp_path}"
    inside = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*inside, mount], capture_output=True).returncode:
        pytest.skip("this system gives no user its own mounts, so there is no small disk to fill")

    path = tmp_path / "log.db"
    command = f"{mount} && exec {sys.executable} {fix_log_child.__file__} fill {path} {reserve}"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    filled = subprocess.run([*inside, command], capture_output=True, env=environment, timeout=120)

    assert (filled.returncode, filled.stdout) == (0, b"full, freed, whole\n"), filled.stderr.decode()


def test_nothing_is_written_into_the_last_free_space_of_a_disk(tmp_path: Path, stack: ExitStack) -> None:
    log = a_log(tmp_path / "log.db", stack, reserve_bytes=1 << 60)
    writer = a_writer(log, stack)

    with pytest.raises(LogUnavailableError) as caught:
        writer.write([], record(0))

    assert caught.value.code == "LOG_FULL"
    log.reserve_bytes = 0
    assert writer.write([], record(0)).seq == 0


# ---- what the file is


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    path.write_bytes(b"not a database, but quite long for a text file\n" * 200)

    with pytest.raises(StopError, match=r"log\.db") as caught:
        EmbeddedLog(path, "p")

    assert caught.value.code == "LOG_DAMAGED"


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table theirs(x)")
    before = path.read_bytes()

    with pytest.raises(ConfigError) as caught:
        EmbeddedLog(path, "p")

    assert caught.value.code == "LOG_FOREIGN"
    assert path.read_bytes() == before


def test_a_log_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    EmbeddedLog(path, "p").close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma user_version = 2")

    with pytest.raises(ConfigError, match="format 2") as caught:
        EmbeddedLog(path, "p")

    assert caught.value.code == "LOG_VERSION"


def test_a_log_of_another_prefix_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    EmbeddedLog(path, "p").close()

    with pytest.raises(ConfigError) as caught:
        EmbeddedLog(path, "q")

    assert caught.value.code == "PREFIX_TAKEN"


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError) as caught:
        EmbeddedLog(tmp_path / "file" / "log.db", "p")

    assert caught.value.code == "LOG_PATH"


@pytest.mark.case("K7", verdict="STOP(LOG_DAMAGED)")
def test_a_damaged_batch_is_found_before_it_is_applied(tmp_path: Path, stack: ExitStack, seed: int) -> None:
    path = tmp_path / "log.db"
    log = a_log(path, stack)
    writer, reader = a_writer(log, stack), a_reader(log, stack)
    out = BytesWriter()
    put_frame(out, b"key", random.Random(f"{seed} damage").randbytes(500) * 40)
    written = writer.write([Batch(TOPIC, 0, 1, out.getvalue())], record(0))
    with closing(sqlite3.connect(path)) as connection:
        content = bytearray(connection.execute("select frames from batches").fetchone()[0])
        content[len(content) // 2] ^= 1
        connection.execute("update batches set frames = ?", (bytes(content),))
        connection.commit()

    with pytest.raises(StopError) as caught:
        reader.read(written)

    assert caught.value.code == "LOG_DAMAGED"


def test_a_batch_that_vanished_is_a_hole(tmp_path: Path, stack: ExitStack, seed: int) -> None:
    path = tmp_path / "log.db"
    log = a_log(path, stack)
    writer, reader = a_writer(log, stack), a_reader(log, stack)
    written = writer.write([one_batch(10, random.Random(seed))], record(0))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("delete from batches")
        connection.commit()

    with pytest.raises(StopError) as caught:
        reader.read(written)

    assert caught.value.code == "OFFSET_LOST"


def test_a_log_removed_while_open_stops_the_writer(tmp_path: Path, stack: ExitStack) -> None:
    path = tmp_path / "log.db"
    writer = a_writer(a_log(path, stack), stack)
    writer.write([], record(0))
    path.unlink()

    with pytest.raises(StopError) as caught:
        writer.write([], record(1))

    assert caught.value.code == "LOG_MOVED"
    assert not path.exists()


def test_only_the_owner_may_read_the_file(tmp_path: Path, stack: ExitStack) -> None:
    path = tmp_path / "state" / "log.db"
    a_writer(a_log(path, stack), stack).write([], record(0))

    assert [file.stat().st_mode & 0o077 for file in path.parent.iterdir()] == [0, 0, 0]


def test_two_processes_that_make_the_log_at_once_share_one(tmp_path: Path, stack: ExitStack) -> None:
    path = tmp_path / "log.db"
    with child("write", path, 3) as one, child("write", path, 3) as other:
        ends = [one.communicate(timeout=60), other.communicate(timeout=60)]

    assert all(not error or b"FencedError" in error for _, error in ends), ends
    log = EmbeddedLog(path, "crash", 2)
    stack.callback(log.close)
    assert sorted(file.name for file in tmp_path.iterdir() if ".new-" in file.name) == []


def test_an_epoch_taken_between_two_writes_is_noticed_by_ensure_topics(tmp_path: Path, stack: ExitStack) -> None:
    log = a_log(tmp_path / "log.db", stack)
    first = a_writer(log, stack)
    a_writer(log, stack)

    with pytest.raises(FencedError):
        first.ensure_topics({"p.public.new": 1})


def test_a_batch_of_several_parts_comes_back_whole(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace_log.embedded.PART_BYTES", 1000)
    log = a_log(tmp_path / "log.db", stack)
    writer, reader = a_writer(log, stack), a_reader(log, stack)
    sent = one_batch(123_456, random.Random(1))

    assert reader.read(writer.write([sent], record(0))) == [sent]

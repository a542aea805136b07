"""The state folder: locks that end with their process, files replaced whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tailrace.state import StateFolder
from tailrace_schemas.errors import ConfigError, StopError


@pytest.fixture
def state(tmp_path: Path) -> StateFolder:
    folder = StateFolder(tmp_path / "state")
    folder.make()
    return folder


def test_a_held_lock_names_its_holder(state: StateFolder) -> None:
    lock = state.lock()
    with pytest.raises(StopError) as caught:
        state.lock(patience=0)
    assert caught.value.code == "STATE_HELD"
    assert f"process {os.getpid()}" in caught.value.detail
    assert state.is_locked()
    lock.release()
    assert not state.is_locked()
    state.lock().release()


def test_locks_of_different_roles_do_not_meet(state: StateFolder) -> None:
    locks = [state.lock(role) for role in ("", "capture", "sink-a")]
    assert not state.is_locked("sink-b")
    for lock in locks:
        lock.release()


def test_a_lock_ends_with_its_process_however_that_ends(state: StateFolder) -> None:
    code = (
        "import sys; from pathlib import Path; from tailrace.state import StateFolder;"
        f"lock = StateFolder(Path({str(state.path)!r})).lock('capture'); print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"held\n"
        assert state.is_locked("capture")
        child.kill()
        child.wait()
    state.lock("capture", patience=5).release()


def test_a_status_that_was_never_written_or_is_broken_is_empty(state: StateFolder) -> None:
    assert state.read_status("capture") == {}
    state.status_file("capture").write_text("{")
    assert state.read_status("capture") == {}
    state.write_status("capture", {"state": "running"})
    assert state.read_status("capture") == {"state": "running"}
    assert [path.name for path in (state.path / "status").iterdir()] == ["capture.json"]


def test_files_are_for_the_owner_only(state: StateFolder) -> None:
    state.write_pipeline("name: x\n")
    state.write_status("capture", {})
    for path in (state.pipeline_file, state.status_file("capture")):
        assert path.stat().st_mode & 0o077 == 0
    assert (state.path / "status").stat().st_mode & 0o077 == 0


def test_a_folder_that_cannot_be_made_is_a_named_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be made"):
        StateFolder(tmp_path / "file" / "state").make()

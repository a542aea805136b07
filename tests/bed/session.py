"""A test session's own servers: a folder with their pid files, logs and data, and the scripts that start them.

`<cache>/sessions/<pid>-<start_ticks>/{run,log,data}`, named after the pytest process that owns it. Its workers start
servers in the same folder; the owner stops them all at its end, the next session those of an owner that was killed.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bed import processes

SCRIPTS = Path(__file__).parent
LOGS_KEPT_SECONDS = 86400


class ServerStartError(RuntimeError):
    """A server could not be had; the message holds the end of its log."""


def cache_folder() -> Path:
    """Where programs are kept between runs; lib.sh says the same."""
    uid = os.getuid()
    default = f"/var/tmp/tailrace-bed-{uid}" if uid else "/var/tmp/tailrace-bed"
    return Path(os.environ.get("TAILRACE_TEST_CACHE") or default).resolve()


@dataclass(frozen=True, slots=True)
class Session:
    """The folder of one session. Making the value touches no disk."""

    folder: Path

    def log(self, instance: str) -> Path:
        """The log of the present run of a server; the one before ends in `.log.before`."""
        return self.folder / "log" / f"{instance}.log"

    def pid_file(self, instance: str) -> Path:
        """Present while the server runs."""
        return self.folder / "run" / f"{instance}.pid"

    def process(self, instance: str) -> processes.Process | None:
        """The running server, or None."""
        process = processes.from_pid_file(self.pid_file(instance))
        return process if process and processes.is_running(process) else None

    def kill(self, instance: str) -> None:
        """End a server as a crash would; return when it is gone. Its data stays."""
        if process := self.process(instance):
            processes.kill(process, self.pid_file(instance))

    def destroy(self, instance: str) -> None:
        """Kill a server and remove its data; its log stays."""
        self.kill(instance)
        data = self.folder / "data" / instance
        _remove_shared_memory(data / "postmaster.pid")
        shutil.rmtree(data, ignore_errors=True)

    def end(self, *, keep_logs: bool) -> None:
        """Destroy every server of the session, and the folder but for the logs that are to be kept."""
        instances = [pid_file.stem for pid_file in (self.folder / "run").glob("*.pid")]
        with ThreadPoolExecutor(max(1, len(instances))) as pool:
            list(pool.map(self.destroy, instances))
        for part in self.folder.iterdir() if self.folder.exists() else ():
            if part.name != "log" or not keep_logs:
                shutil.rmtree(part, ignore_errors=True)
        if not keep_logs:
            shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Launch:
    """How a server is started, each time the same way: `script verb version instance arguments…`."""

    script: str
    verb: str
    version: str
    instance: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, session: Session) -> str:
        """Start it, wait until it answers and return its version; programs are fetched when they are missing.

        Raises:
            ServerStartError: it could not be fetched or did not start.
        """
        words = [str(SCRIPTS / self.script), self.verb, self.version, self.instance, *self.arguments]
        blank = dict.fromkeys(("BED_EXTRA", "BED_HBA", "BED_FAST", "BED_TLS"), "")
        places = {"TAILRACE_TEST_CACHE": str(cache_folder()), "BED_SESSION": str(session.folder)}
        done = subprocess.run(
            words,
            env={**os.environ, **blank, **self.environment, **places},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
        )
        if done.returncode:
            raise ServerStartError(f"{' '.join(words)}\n{done.stderr.strip()}\nlog: {session.log(self.instance)}")
        return done.stdout.strip()


def session_of_this_process() -> Session:
    """The session that the calling process owns."""
    owner = processes.this_process()
    return Session(cache_folder() / "sessions" / f"{owner.pid}-{owner.start_ticks}")


def end_abandoned_sessions() -> None:
    """Stop the servers of sessions whose owner is gone and remove their folders; logs stay for a day."""
    for folder in (cache_folder() / "sessions").glob("*-*"):
        pid, _, start_ticks = folder.name.partition("-")
        if not processes.is_running(processes.Process(int(pid), int(start_ticks))):
            Session(folder).end(keep_logs=_changed_lately(folder))


def _changed_lately(folder: Path) -> bool:
    try:
        return time.time() - folder.stat().st_mtime < LOGS_KEPT_SECONDS
    except FileNotFoundError:  # another session was quicker
        return False


def _remove_shared_memory(postmaster_pid: Path) -> None:
    """Give back the System V segment (a few bytes, but their number is limited) that a killed Postgres leaves."""
    if postmaster_pid.exists():
        # Line 7 holds its key and id (PostgreSQL source, miscadmin.h, LOCK_FILE_LINE_SHMEM_KEY).
        lines = postmaster_pid.read_text().splitlines()
        if len(lines) > 6 and lines[6].split():
            subprocess.run(["ipcrm", "-m", lines[6].split()[1]], capture_output=True, check=False)

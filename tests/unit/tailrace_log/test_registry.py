"""The registry client against a small server that answers as Confluent's documentation says, and the ways it fails."""

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from fix_servers import certificates, free_ports

from tailrace_log.registry import ConfluentRegistry, RegistrySettings
from tailrace_schemas.errors import ConfigError, LogUnavailableError, StopError
from tailrace_schemas.uri import Secret

Answer = Callable[[str, str, Any, str], tuple[int, Any]]


@contextmanager
def a_server(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """`answer(method, path, body, authorization)` → status and JSON; text goes out as it is."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(None)

        def do_POST(self) -> None:
            self.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def answer(self, body: Any) -> None:
            status, data = answer(self.command, self.path, body, self.headers.get("Authorization", ""))
            content = data.encode() if isinstance(data, str) else json.dumps(data).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def registry(url: str, **more: Any) -> ConfluentRegistry:
    return ConfluentRegistry(RegistrySettings(url, **more))


def test_an_id_is_asked_for_once() -> None:
    asked: list[tuple[str, str, Any]] = []

    def answer(method: str, path: str, body: Any, _: str) -> tuple[int, Any]:
        asked.append((method, path, body))
        return 200, {"id": 7, "schema": '"int"'}

    with a_server(answer) as url:
        client = registry(url + "/")
        assert [client.register("a/b-value", '"int"') for _ in range(2)] == [7, 7]
        assert [client.schema(7) for _ in range(2)] == ['"int"', '"int"']

    assert asked == [
        ("POST", "/subjects/a%2Fb-value/versions", {"schema": '"int"'}),
        ("GET", "/schemas/ids/7", None),
    ]


def test_login_goes_along() -> None:
    expected = "Basic " + base64.b64encode("bob:pä:ss".encode()).decode()

    def answer(_method: str, _path: str, _body: Any, authorization: str) -> tuple[int, Any]:
        return (200, {"id": 1}) if authorization == expected else (401, {"error_code": 40101, "message": "no"})

    with a_server(answer) as url:
        assert registry(url, user="bob", password=Secret("pä:ss")).register("s", '"int"') == 1
        with pytest.raises(ConfigError) as caught:
            registry(url, user="bob", password=Secret("c4nary")).register("s", '"int"')

    assert caught.value.code == "REGISTRY_AUTH"
    assert "c4nary" not in str(caught.value)


def test_a_refused_schema_names_subject_and_the_registered_one() -> None:
    def answer(_method: str, path: str, _body: Any, _: str) -> tuple[int, Any]:
        if path.endswith("latest"):
            return 200, {"id": 31, "version": 4, "subject": "s-value"}
        return 409, {"error_code": 409, "message": "reader lacks a default"}

    with a_server(answer) as url, pytest.raises(StopError) as caught:
        registry(url).register("s-value", '"int"')

    error = caught.value
    assert (error.code, "s-value" in error.message, "s-value" in error.hint) == ("SCHEMA", True, True)
    assert "version 4, id 31" in error.detail
    assert "reader lacks a default" in error.detail


@pytest.mark.parametrize(("code", "words"), [(40401, "is not there"), (40403, "has other schemas")])
def test_with_registering_off_a_missing_schema_is_named(code: int, words: str) -> None:
    asked: list[str] = []

    def answer(_method: str, path: str, _body: Any, _: str) -> tuple[int, Any]:
        asked.append(path)
        return 404, {"error_code": code, "message": "not found"}

    with a_server(answer) as url, pytest.raises(StopError) as caught:
        registry(url, auto_register=False).register("s-value", '"long"')

    assert asked == ["/subjects/s-value"]
    assert caught.value.code == "SCHEMA"
    assert words in caught.value.detail
    assert '"long"' in caught.value.hint


def test_with_registering_off_a_registered_schema_is_found() -> None:
    with a_server(lambda *_: (200, {"id": 12, "version": 1, "subject": "s"})) as url:
        assert registry(url, auto_register=False).register("s", '"int"') == 12


@pytest.mark.parametrize("status", [500, 503, 429])
def test_trouble_of_the_registry_passes(status: int) -> None:
    with a_server(lambda *_: (status, "<html>no</html>")) as url, pytest.raises(LogUnavailableError):
        registry(url).register("s", '"int"')


def test_an_address_that_is_no_registry_is_a_configuration_error() -> None:
    with a_server(lambda *_: (404, "<html>nothing here</html>")) as url, pytest.raises(ConfigError, match="registry"):
        registry(url).register("s", '"int"')


def test_a_registry_out_of_reach_passes() -> None:
    [port] = free_ports(1)

    with pytest.raises(LogUnavailableError, match="cannot be reached"):
        registry(f"http://127.0.0.1:{port}").schema(1)


def test_a_silent_registry_passes() -> None:
    release = threading.Event()

    def answer(*_: object) -> tuple[int, Any]:
        release.wait(60)
        return 200, {}

    with a_server(answer) as url:
        with pytest.raises(LogUnavailableError):
            registry(url, timeout_seconds=0.2).schema(1)
        release.set()


def test_tls_is_verified() -> None:
    folder = certificates()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")

    with a_server(lambda *_: (200, {"schema": '"int"'}), context) as url:
        assert registry(url, ca_file=str(folder / "ca.crt")).schema(1) == '"int"'
        with pytest.raises(ConfigError) as caught:
            registry(url, ca_file=str(folder / "other-ca.crt")).schema(1)

    assert caught.value.code == "REGISTRY_TLS"


def test_a_missing_ca_file_is_named() -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        registry("https://127.0.0.1:1", ca_file="/nowhere/ca.crt")

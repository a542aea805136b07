"""Client of a Confluent-compatible schema registry: Confluent's own, Apicurio (`/apis/ccompat/v7`), Karapace.

Two calls matter: the id of a schema text under a subject, and the text of an id. Both never change, so each is asked
once. Source: Confluent documentation, "Schema Registry API Reference".
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import quote

from tailrace_schemas.errors import ConfigError, LogUnavailableError, StopError, TailraceError
from tailrace_schemas.uri import Secret

MEDIA_TYPE = "application/vnd.schemaregistry.v1+json"
SCHEMA_NOT_FOUND = 40403


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """`url`: up to where `/subjects` follows. `ca_file`: PEM, None = the system's; `cert_file` and `key_file`: the
    client's own. `auto_register` False: schemas are only looked up."""

    url: str
    user: str | None = None
    password: Secret | None = None
    auto_register: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    timeout_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    data: Any


class ConfluentRegistry:
    """May be shared by threads."""

    def __init__(self, settings: RegistrySettings) -> None:
        self._settings = settings
        self._url = settings.url.rstrip("/")
        # No proxy from the environment: where a registry is reached is said in the settings.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=_tls_context(settings))
        )
        self._lock = threading.Lock()
        self._ids: dict[tuple[str, str], int] = {}
        self._schemas: dict[int, str] = {}

    def register(self, subject: str, schema: str) -> int:
        with self._lock:
            if (subject, schema) not in self._ids:
                ask = self._register if self._settings.auto_register else self._look_up
                self._ids[subject, schema] = ask(subject, schema)
            return self._ids[subject, schema]

    def schema(self, schema_id: int) -> str:
        with self._lock:
            if schema_id not in self._schemas:
                answer = self._ask(f"/schemas/ids/{schema_id}")
                if answer.status == 404:
                    raise StopError(
                        f"schema {schema_id} is not in the registry {self._url}",
                        code="UNKNOWN_SCHEMA",
                        hint="point the pipeline at the registry that was used when its events were written",
                    )
                self._schemas[schema_id] = str(self._good(answer)["schema"])
            return self._schemas[schema_id]

    def _register(self, subject: str, schema: str) -> int:
        answer = self._ask(f"/subjects/{quote(subject, safe='')}/versions", {"schema": schema})
        if answer.status in (409, 422):
            raise self._refused(subject, answer)
        return int(self._good(answer)["id"])

    def _look_up(self, subject: str, schema: str) -> int:
        answer = self._ask(f"/subjects/{quote(subject, safe='')}", {"schema": schema})
        if answer.status == 404:
            known = "has other schemas" if _error_code(answer) == SCHEMA_NOT_FOUND else "is not there"
            raise StopError(
                f"the schema of subject {subject} is not registered, and registering is off",
                code="SCHEMA",
                detail=f"subject {subject} {known} in {self._url}",
                hint=f"register this schema under {subject}, or set registry.auto_register: true: {schema}",
            )
        return int(self._good(answer)["id"])

    def _refused(self, subject: str, answer: _Answer) -> StopError:
        latest = self._ask(f"/subjects/{quote(subject, safe='')}/versions/latest")
        known = latest.data if latest.status == 200 else {}
        return StopError(
            f"the registry refuses the new schema of subject {subject}",
            code="SCHEMA",
            detail=f"latest is version {known.get('version')}, id {known.get('id')}; {_message(answer)}",
            hint=f"let the subject change as its table does: PUT {self._url}/config/{quote(subject, safe='')}"
            ' with {"compatibility": "NONE"}',
        )

    def _good(self, answer: _Answer) -> Any:
        """
        Raises:
            ConfigError: not allowed, or no registry at this address.
            LogUnavailableError: it has trouble of its own.
        """
        if answer.status == 200:
            return answer.data
        detail = f"HTTP {answer.status} {_message(answer)}"
        if answer.status in (401, 403):
            hint = "set registry_user and registry_password in the log's URI, or give that user the right"
            raise ConfigError(f"the registry {self._url} refuses us", code="REGISTRY_AUTH", detail=detail, hint=hint)
        if answer.status in (408, 429) or answer.status >= 500:
            raise LogUnavailableError(f"the registry {self._url} has trouble", detail=detail)
        raise ConfigError(
            f"{self._url} does not answer as a schema registry",
            code="REGISTRY",
            detail=detail,
            hint="registry= is the address before /subjects, with Apicurio …/apis/ccompat/v7",
        )

    def _ask(self, path: str, body: dict[str, str] | None = None) -> _Answer:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, content, {"Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE})  # noqa: S310  http or https, checked in the log's URI
        if self._settings.user is not None:
            password = "" if self._settings.password is None else self._settings.password.reveal()
            token = base64.b64encode(f"{self._settings.user}:{password}".encode()).decode()
            request.add_unredirected_header("Authorization", f"Basic {token}")
        try:
            with self._opener.open(request, timeout=self._settings.timeout_seconds) as response:
                return _Answer(response.status, _json(response.read()))
        except urllib.error.HTTPError as error:
            with error:
                return _Answer(error.code, _json(error.read()))
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: Exception) -> TailraceError:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(reason, ssl.SSLCertVerificationError):
            return ConfigError(
                f"the certificate of the registry {self._url} cannot be trusted",
                code="REGISTRY_TLS",
                detail=reason.verify_message,
                hint="name the file of its CA, registry_ca= in the log's URI, or the host as its certificate does",
            )
        return LogUnavailableError(f"the registry {self._url} cannot be reached", detail=str(reason))


def _tls_context(settings: RegistrySettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file is not None:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(filter(None, (settings.ca_file, settings.cert_file, settings.key_file)))
        raise ConfigError(f"a TLS file of the registry cannot be read: {files}", detail=str(error)) from error
    return context


def _json(content: bytes) -> Any:
    """None where the answer is not JSON, as from a proxy in between."""
    try:
        return json.loads(content)
    except ValueError:
        return None


def _error_code(answer: _Answer) -> int:
    return int(answer.data.get("error_code", 0)) if isinstance(answer.data, dict) else 0


def _message(answer: _Answer) -> str:
    # Registries quote the schema here, which holds names of columns but never values.
    return str(answer.data.get("message", ""))[:500] if isinstance(answer.data, dict) else ""

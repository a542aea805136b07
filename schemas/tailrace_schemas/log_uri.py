"""Log URIs: where a pipeline's event log lives.

    sqlite                                 the embedded log at <state>/log.db
    sqlite:///path/log.db                  the embedded log at /path/log.db
    kafka://h:p[,h:p]?registry=URL&prefix=P&partitions=4&replication=N&security_protocol=…&sasl_mechanism=…
                                           user:password@ before the hosts for SASL; registry_user, registry_password;
                                           registry_ca, registry_cert, registry_key: PEM files for its TLS

Passwords may be `${env:NAME}` or `${file:/path}`, as in database URIs, and are printed as little.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote, unquote

from tailrace_schemas.errors import ConfigError
from tailrace_schemas.uri import Secret, resolve_secret, shown_scheme

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]

SECURITY_PROTOCOLS: tuple[SecurityProtocol, ...] = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
SASL_MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI")
DEFAULT_PARTITIONS = 4
_BROKER_PASSWORD, _REGISTRY_PASSWORD = "TAILRACE_KAFKA_PASSWORD", "TAILRACE_REGISTRY_PASSWORD"  # variables
_KEYS = (
    "registry",
    "prefix",
    "partitions",
    "replication",
    "security_protocol",
    "sasl_mechanism",
    "registry_user",
    "registry_password",
    "registry_ca",
    "registry_cert",
    "registry_key",
)
_FILES = ("registry_ca", "registry_cert", "registry_key")
_REFERENCE = re.compile(r"\$\{(?:env|file):[^{}]+\}")


@dataclass(frozen=True, slots=True)
class SqliteLogUrl:
    """`path` None: `log.db` in the state folder."""

    path: str | None = None

    def with_references(self) -> str:
        return "sqlite" if self.path is None else f"sqlite://{quote(self.path)}"

    def resolve(self, environment: Mapping[str, str], read_file: Callable[[str], str]) -> SqliteLogUrl:  # noqa: ARG002
        """It holds no secrets."""
        return self

    def secrets(self) -> list[tuple[str, Secret | None]]:
        return []

    def __str__(self) -> str:
        return self.with_references()


@dataclass(frozen=True, slots=True)
class KafkaLogUrl:
    """`brokers` are host:port texts. `prefix` None: the pipeline's name. `replication` None: the broker's default.
    `registry_ca` None: the system's CAs; `registry_cert` and `registry_key`: the client's own."""

    brokers: tuple[str, ...]
    registry: str
    prefix: str | None = None
    partitions: int = DEFAULT_PARTITIONS
    replication: int | None = None
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: str | None = None
    user: str | None = None
    password: Secret | None = None
    registry_user: str | None = None
    registry_password: Secret | None = None
    registry_ca: str | None = None
    registry_cert: str | None = None
    registry_key: str | None = None

    def with_references(self) -> str:
        """The full text; a password written out becomes `${env:TAILRACE_KAFKA_PASSWORD}` or `…_REGISTRY_PASSWORD`."""

        def shown(secret: Secret, variable: str) -> str:
            return secret.reference or f"${{env:{variable}}}"

        return self._text(shown)

    def secrets(self) -> list[tuple[str, Secret | None]]:
        """(variable, password) by the names that `with_references` uses."""
        return [(_BROKER_PASSWORD, self.password), (_REGISTRY_PASSWORD, self.registry_password)]

    def resolve(self, environment: Mapping[str, str], read_file: Callable[[str], str]) -> KafkaLogUrl:
        """With the passwords looked up.

        Raises:
            ConfigError: see `uri.resolve_secret`.
        """

        def look_up(secret: Secret | None) -> Secret | None:
            return None if secret is None else resolve_secret(secret, environment, read_file)

        return replace(self, password=look_up(self.password), registry_password=look_up(self.registry_password))

    def __str__(self) -> str:
        return self._text(lambda _secret, _variable: "***")

    def _text(self, shown: Callable[[Secret, str], str]) -> str:
        login = ""
        if self.user is not None and self.password is not None:
            login = f"{quote(self.user, safe='')}:{shown(self.password, _BROKER_PASSWORD)}@"
        query = [f"registry={quote(self.registry, safe=':/')}"]
        if self.prefix is not None:
            query.append(f"prefix={quote(self.prefix, safe='')}")
        query.append(f"partitions={self.partitions}")
        if self.replication is not None:
            query.append(f"replication={self.replication}")
        if self.security_protocol != "PLAINTEXT":
            query.append(f"security_protocol={self.security_protocol}")
        if self.sasl_mechanism is not None:
            query.append(f"sasl_mechanism={self.sasl_mechanism}")
        if self.registry_user is not None:
            query.append(f"registry_user={quote(self.registry_user, safe='')}")
        if self.registry_password is not None:
            query.append(f"registry_password={shown(self.registry_password, _REGISTRY_PASSWORD)}")
        files = {key: getattr(self, key) for key in _FILES}
        query += [f"{key}={quote(path, safe='/')}" for key, path in files.items() if path is not None]
        return f"kafka://{login}{','.join(self.brokers)}?{'&'.join(query)}"


LogUrl = SqliteLogUrl | KafkaLogUrl


def parse_log_url(text: str) -> LogUrl:
    """
    Raises:
        ConfigError: not a log URI, or a part of it is unknown or missing.
    """
    scheme, separator, rest = text.partition("://")
    if text == "sqlite":
        return SqliteLogUrl()
    if separator and scheme == "sqlite":
        return _sqlite(rest)
    if separator and scheme == "kafka":
        return _kafka(rest)
    hint = "sqlite, sqlite:///path/log.db or kafka://host:port?registry=URL"
    raise ConfigError(f"{shown_scheme(text)} is not a log URI", hint=hint)


def _sqlite(path: str) -> SqliteLogUrl:
    if not path.startswith("/") or path.endswith("/") or "?" in path:
        raise ConfigError("sqlite:// needs the full path of a file", hint="sqlite:///path/log.db, with three slashes")
    return SqliteLogUrl(unquote(path))


def _kafka(rest: str) -> KafkaLogUrl:
    references: list[str] = []

    def cut(match: re.Match[str]) -> str:
        references.append(match.group())
        return f"\0{len(references) - 1}\0"

    authority, _, query = _REFERENCE.sub(cut, rest).partition("?")
    login, _, hosts = authority.rpartition("@")
    values = _query(query)
    user, password = _login(login, references)
    mechanism, protocol = _security(values, user is not None)
    registry = _required_registry(values)
    return KafkaLogUrl(
        brokers=_brokers(hosts.rstrip("/")),
        registry=registry,
        prefix=unquote(values["prefix"]) if "prefix" in values else None,
        partitions=_number(values, "partitions") or DEFAULT_PARTITIONS,
        replication=_number(values, "replication"),
        security_protocol=protocol,
        sasl_mechanism=mechanism,
        user=user,
        password=password,
        registry_user=unquote(values["registry_user"]) if "registry_user" in values else None,
        registry_password=_secret(values["registry_password"], references) if "registry_password" in values else None,
        **_tls_files(values, registry),
    )


def _query(query: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        key, _, value = pair.partition("=")
        if key not in _KEYS:
            raise ConfigError(
                f"unknown key in the log URI: {key}",
                hint=f"known keys: {', '.join(_KEYS)}; any librdkafka key goes under kafka: in pipeline.yaml",
            )
        if key in out:
            raise ConfigError(f"{key!r} stands twice in the log URI")
        out[key] = value
    return out


def _secret(text: str, references: list[str]) -> Secret:
    match = re.fullmatch("\0([0-9]+)\0", text)
    return Secret.parse(references[int(match[1])]) if match else Secret(unquote(text))


def _login(login: str, references: list[str]) -> tuple[str | None, Secret | None]:
    if not login:
        return None, None
    user, colon, password = login.partition(":")
    if not (user and colon and password):
        raise ConfigError("SASL needs user:password before the broker's host")
    return unquote(user), _secret(password, references)


def _security(values: dict[str, str], has_login: bool) -> tuple[str | None, SecurityProtocol]:
    """A login without a protocol means SASL over TLS; plain text must be written."""
    text = values.get("security_protocol", "SASL_SSL" if has_login else "PLAINTEXT")
    protocol = next((known for known in SECURITY_PROTOCOLS if known == text.upper()), None)
    if protocol is None:
        raise ConfigError(f"security_protocol {text!r} is unknown", hint=f"one of {', '.join(SECURITY_PROTOCOLS)}")
    mechanism = values.get("sasl_mechanism", "PLAIN" if has_login else None)
    if mechanism is not None and mechanism not in SASL_MECHANISMS:
        raise ConfigError(f"sasl_mechanism {mechanism!r} is unknown", hint=f"one of {', '.join(SASL_MECHANISMS)}")
    if has_login and not protocol.startswith("SASL"):
        raise ConfigError(f"user and password are not used with security_protocol {protocol}")
    return mechanism, protocol


def _brokers(hosts: str) -> tuple[str, ...]:
    brokers = tuple(hosts.split(","))
    for broker in brokers:
        if not re.fullmatch(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}", broker):
            raise ConfigError(
                "a broker of the log URI is not host:port", hint="kafka://host:9092,other:9092?registry=…"
            )
    return brokers


def _required_registry(values: dict[str, str]) -> str:
    registry = unquote(values.get("registry", ""))
    if not re.match("https?://[^@]+$", registry):
        raise ConfigError(
            "a Kafka log needs a schema registry",
            hint="registry=http://host:8081; its login as registry_user and registry_password",
        )
    return registry


def _tls_files(values: dict[str, str], registry: str) -> dict[str, str]:
    files = {key: unquote(values[key]) for key in _FILES if key in values}
    if files and not registry.startswith("https://"):
        raise ConfigError(f"{', '.join(files)}: not used with a registry on http://", hint="registry=https://…")
    if ("registry_cert" in files) != ("registry_key" in files):
        raise ConfigError("registry_cert and registry_key belong together", hint="give both or neither")
    return files


def _number(values: dict[str, str], key: str) -> int | None:
    if key not in values:
        return None
    if not re.fullmatch("[1-9][0-9]{0,4}", values[key]):
        raise ConfigError(f"{key} of the log URI is not a number from 1 to 99999")
    return int(values[key])

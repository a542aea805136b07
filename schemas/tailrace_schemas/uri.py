"""Database URIs: text to one frozen `DatabaseUrl` that sources and sinks connect with, and back without the password.

    engine       "postgresql" | "mysql" | "mariadb" ("postgres" is an alias); either MySQL word accepts both servers
    host         a name, an IPv4 or IPv6 address, or a path that begins with "/": a Unix socket
                 (Postgres: its folder, MySQL: the socket file)
    port         the engine's own where the text has none
    user         "" = the driver's default, the account of the process
    password     Secret | None; `url.password.reveal()` is the one way to its text
    database     "" = none named
    sslmode      "disable" | "require" | "verify-ca" | "verify-full"
    sslrootcert  path of the CA file, None = the system's
    sslcert      path of the client certificate, with `sslkey`
    sslkey       path of the client key
    options      what else the query may say, by key: see OPTIONS

    postgresql://user:password@host:port/database?sslmode=…&sslrootcert=…&sslcert=…&sslkey=…&progress=schema.table
    postgresql://user@/database?host=/run/postgresql      mysql://user@%2Frun%2Fmysqld%2Fmysqld.sock/database

Parts are percent-decoded; a `+` stays a `+`, as in libpq. A password may be `${env:NAME}` or `${file:/path}`; it stays
a reference until `resolve_secret` is given the environment, at the edge of the process. No error raised here quotes
the text it was given, since that may hold a password.
Source: PostgreSQL manual, "Connection URIs"; RFC 3986.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, cast
from urllib.parse import quote, unquote

from tailrace_schemas.errors import ConfigError
from tailrace_schemas.table import Engine

SslMode = Literal["disable", "require", "verify-ca", "verify-full"]

SCHEMES: dict[str, Engine] = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mariadb",
}
DEFAULT_PORTS: dict[Engine, int] = {"postgresql": 5432, "mysql": 3306, "mariadb": 3306}
SSL_MODES: tuple[SslMode, ...] = ("disable", "require", "verify-ca", "verify-full")
TLS_FILES = ("sslrootcert", "sslcert", "sslkey")
OPTIONS = {"progress": "schema.table that keeps a sink's progress, instead of tailrace.progress"}

_REFERENCE = re.compile(r"\$\{(env|file):([^{}]+)\}")
_LOGIN = re.compile(r"""(://[^:/@\s]*):[^\s"']*@""")
_AUTHORITY = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*)(?::(?P<port>[0-9]*))?\Z")


class Secret:
    """A password, or a reference to one. Its text comes out of `reveal` alone, never by print, format or repr."""

    __slots__ = ("_text", "reference")

    def __init__(self, text: str, reference: str | None = None) -> None:
        self._text = text
        self.reference = reference

    @staticmethod
    def parse(text: str) -> Secret:
        """`text` as it stands, or an unresolved `${env:NAME}` / `${file:/path}`.

        Raises:
            ConfigError: it begins like a reference and is none.
        """
        if _REFERENCE.fullmatch(text):
            return Secret("", reference=text)
        if text.startswith("${"):
            raise ConfigError(
                "a password that begins with ${ must be a reference",
                hint="write ${env:NAME} or ${file:/path}; a password that really begins so: %24%7B",
            )
        return Secret(text)

    @property
    def resolved(self) -> bool:
        return self.reference is None or self._text != ""

    def reveal(self) -> str:
        """
        Raises:
            ConfigError: still a reference; `resolve_secret` was not called.
        """
        if not self.resolved:
            raise ConfigError(f"the password {self.reference} has not been looked up")
        return self._text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and (self._text, self.reference) == (other._text, other.reference)

    def __hash__(self) -> int:
        return hash((self._text, self.reference))

    def __repr__(self) -> str:
        return "***"


def resolve_secret(secret: Secret, environment: Mapping[str, str], read_file: Callable[[str], str]) -> Secret:
    """The secret with the text its reference names; one line break at the end of a file is not part of it.

    Raises:
        ConfigError: the variable is not set, the file cannot be read, or either is empty.
    """
    match = _REFERENCE.fullmatch(secret.reference or "")
    if match is None:
        return secret
    kind, name = match.groups()
    text = _from_environment(name, environment) if kind == "env" else _from_file(name, read_file)
    if not text:
        raise ConfigError(f"the password {secret.reference} is empty")
    return Secret(text, secret.reference)


def _from_environment(name: str, environment: Mapping[str, str]) -> str:
    if name not in environment:
        raise ConfigError(f"environment variable {name} is not set", hint=f"export {name}=… before the command")
    return environment[name]


def _from_file(path: str, read_file: Callable[[str], str]) -> str:
    try:
        return read_file(path).removesuffix("\n").removesuffix("\r")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"password file {path} cannot be read", detail=str(reason)) from error


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """One database to connect to; fields as in the module's header. Neither str nor repr shows the password."""

    engine: Engine
    host: str
    port: int
    user: str
    password: Secret | None
    database: str
    sslmode: SslMode
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    options: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def is_socket(self) -> bool:
        return self.host.startswith("/")

    @property
    def is_local(self) -> bool:
        return self.is_socket or is_loopback(self.host)

    @property
    def weak_tls(self) -> bool:
        """A remote host whose name and certificate are not both verified: allowed when written, and logged."""
        return not self.is_local and self.sslmode != "verify-full"

    @property
    def place(self) -> str:
        """Where it is, for messages: `host:port/database`."""
        return f"{self._host_text()}:{self.port}/{self.database}"

    def redacted(self) -> str:
        """The full text with `***` for the password."""
        return self._text(None if self.password is None else "***")

    def with_references(self, variable: str) -> str:
        """The full text with the password's reference; a password written out becomes `${env:<variable>}`."""
        if self.password is None:
            return self._text(None)
        return self._text(self.password.reference or f"${{env:{variable}}}")

    def resolve(self, environment: Mapping[str, str], read_file: Callable[[str], str]) -> DatabaseUrl:
        """With the password looked up, and the files of TLS seen to be readable.

        Raises:
            ConfigError: see `resolve_secret`; code TLS: a file cannot be read.
        """
        for key in TLS_FILES:
            _check_file(key, cast("str | None", getattr(self, key)), read_file)
        if self.password is None:
            return self
        return replace(self, password=resolve_secret(self.password, environment, read_file))

    def __str__(self) -> str:
        return self.redacted()

    def _host_text(self) -> str:
        return f"[{self.host}]" if ":" in self.host and not self.is_socket else self.host

    def _text(self, password: str | None) -> str:
        user = quote(self.user, safe="")
        login = "" if not user and password is None else (f"{user}@" if password is None else f"{user}:{password}@")
        host = quote(self.host, safe="") if self.is_socket else self._host_text()
        query: dict[str, str] = {"sslmode": self.sslmode} if self.sslmode != default_sslmode(self.host) else {}
        query |= {key: value for key in TLS_FILES if (value := cast("str | None", getattr(self, key))) is not None}
        query |= self.options
        tail = "&".join(f"{key}={quote(value, safe='/:.,')}" for key, value in query.items())
        port = "" if self.is_socket and self.port == DEFAULT_PORTS[self.engine] else f":{self.port}"
        return f"{self.engine}://{login}{host}{port}/{quote(self.database, safe='')}" + (f"?{tail}" if tail else "")


def _check_file(key: str, path: str | None, read_file: Callable[[str], str]) -> None:
    if path is None or path == "system":  # libpq's word for the system's store
        return
    try:
        read_file(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text in PEM form"
        hint = f"name a file in PEM form that this user may read: {key}=…"
        raise ConfigError(f"{key} {path} cannot be read", code="TLS", detail=str(reason), hint=hint) from error


def is_loopback(host: str) -> bool:
    if host.rstrip(".").lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def default_sslmode(host: str) -> SslMode:
    return "disable" if host.startswith("/") or is_loopback(host) else "verify-full"


def looks_like_url(text: str) -> bool:
    """An argument with a scheme, of whatever kind; else it is a file name."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def redact(text: str) -> str:
    """`text` without the passwords of URIs in it: the last defence of whatever prints words that a user gave."""
    return _LOGIN.sub(r"\1:***@", text)


def shown_scheme(text: str) -> str:
    """As much of a URI as may be quoted whatever it is."""
    return f"{text.partition('://')[0]}://" if looks_like_url(text) else "a text without a scheme"


def parse_database_url(text: str) -> DatabaseUrl:
    """
    Raises:
        ConfigError: not a database URI, or a part of it is unknown or missing.
    """
    scheme, separator, rest = text.partition("://")
    engine = SCHEMES.get(scheme.lower())
    if not separator or engine is None:
        known = ", ".join(f"{name}://" for name in SCHEMES)
        raise ConfigError(f"{shown_scheme(text)} is not a database URI", hint=f"begin with one of {known}")
    rest, references = _cut_references(rest)
    authority, database, query = _split(rest)
    login, at, place = authority.rpartition("@")
    values = _query(query)
    host, port = _host_and_port(place, values.pop("host", None), DEFAULT_PORTS[engine])
    user, colon, password = login.partition(":")
    sslmode = _sslmode(values.pop("sslmode", default_sslmode(host)))
    return DatabaseUrl(
        engine=engine,
        host=host,
        port=port,
        user=unquote(_put_back(user, references)) if at else "",
        password=_password(password, references) if colon else None,
        database=unquote(database),
        sslmode=sslmode,
        **_tls_files(values, sslmode),
        options=_options(values),
    )


def _cut_references(text: str) -> tuple[str, list[str]]:
    """References may hold `/`, `@` and `?`; each is replaced by a character no URI holds while the text is split."""
    found: list[str] = []

    def cut(match: re.Match[str]) -> str:
        found.append(match.group())
        return "\0"

    return _REFERENCE.sub(cut, text), found


def _put_back(text: str, references: list[str]) -> str:
    for reference in references:
        text = text.replace("\0", reference, 1)
    return text


def _split(rest: str) -> tuple[str, str, str]:
    """Authority, database, query. The last `@` before the first `/` or `?` ends the login, so a password may hold `@`
    but writes `/` as %2F and `?` as %3F."""
    match = re.match(r"(?P<authority>[^/?#]*)(?:/(?P<database>[^?#]*))?(?:\?(?P<query>[^#]*))?\Z", rest)
    if match is None or re.search("[/@]", match["database"] or ""):
        raise ConfigError(
            "the URI does not have the form scheme://user:password@host:port/database?key=value",
            hint="percent-encode special characters inside a part: / is %2F, ? is %3F, # is %23, @ is %40",
        )
    return match["authority"], match["database"] or "", match["query"] or ""


def _query(query: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        key, _, value = pair.partition("=")
        if key in out:
            raise ConfigError(f"{key!r} stands twice in the URI")
        out[key] = unquote(value)
    return out


def _host_and_port(place: str, host_key: str | None, default_port: int) -> tuple[str, int]:
    match = _AUTHORITY.fullmatch(place)
    if match is None:
        raise ConfigError(
            "the host of the URI cannot be read",
            hint="host:port; an IPv6 address in brackets; @ and : inside a user or password as %40 and %3A",
        )
    port = int(match["port"] or default_port)
    if not 0 < port < 65536:
        raise ConfigError(f"{port} is not a port")
    host = unquote(match["host"])
    if host.startswith("["):
        host = _ipv6(host[1:-1])
    if host and host_key:
        raise ConfigError("the URI names two hosts: one after // and one as host=…")
    if not (host or host_key):
        raise ConfigError(
            "the URI has no host",
            hint="scheme://user@localhost/database, or scheme://user@/database?host=/path for a Unix socket",
        )
    return host or host_key or "", port


def _ipv6(text: str) -> str:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        raise ConfigError(f"[{text}] is not an IPv6 address") from None
    return text


def _password(text: str, references: list[str]) -> Secret | None:
    if text == "\0":
        return Secret.parse(references[0])
    if "\0" in text:
        raise ConfigError("a password is either a reference or written out, not both", hint="${env:NAME} alone")
    if text.startswith("${"):
        return Secret.parse(text)
    return Secret(unquote(text)) if text else None


def _sslmode(text: str) -> SslMode:
    for mode in SSL_MODES:
        if text == mode:
            return mode
    raise ConfigError(
        f"sslmode {text!r} is not supported",
        detail="prefer and allow of libpq protect against nothing" if text in ("prefer", "allow") else "",
        hint=f"one of {', '.join(SSL_MODES)}",
    )


def _tls_files(values: dict[str, str], sslmode: SslMode) -> dict[str, str | None]:
    files = {key: values.pop(key, None) or None for key in TLS_FILES}
    if (files["sslcert"] is None) != (files["sslkey"] is None):
        raise ConfigError("sslcert and sslkey belong together", hint="give both or neither")
    if sslmode == "verify-ca" and files["sslrootcert"] is None:
        # Any certificate of a public CA would pass; libpq refuses the combination too.
        raise ConfigError("sslmode verify-ca needs sslrootcert", hint="name the CA file, or use verify-full")
    return files


def _options(values: dict[str, str]) -> dict[str, str]:
    unknown = sorted(set(values) - set(OPTIONS))
    if unknown:
        known = ", ".join(("host", "sslmode", *TLS_FILES, *OPTIONS))
        raise ConfigError(f"unknown key in the URI: {', '.join(unknown)}", hint=f"known keys: {known}")
    return values


def libpq_parameters(url: DatabaseUrl) -> dict[str, str]:
    """Connection parameters for libpq and psycopg. Verifying without a CA file means the system's store (libpq 16)."""
    out = {"host": url.host, "port": str(url.port), "sslmode": url.sslmode}
    if url.user:
        out["user"] = url.user
    if url.password is not None:
        out["password"] = url.password.reveal()
    if url.database:
        out["dbname"] = url.database
    if url.sslrootcert is not None:
        out["sslrootcert"] = url.sslrootcert
    elif url.sslmode == "verify-full":
        out["sslrootcert"] = "system"
    if url.sslcert is not None and url.sslkey is not None:
        out |= {"sslcert": url.sslcert, "sslkey": url.sslkey}
    return out

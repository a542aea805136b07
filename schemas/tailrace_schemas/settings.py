"""The settings of one pipeline: what pipeline.yaml and the command line mean, as frozen values.

Every key, its type and its default stand here and nowhere else; `tailrace/pipeline.schema.json` is generated from these
models and docs name the same keys. `parse_settings` is the one way in: it reports every problem at once, each with the
path of its key, and fills in the names that depend on others (slot, publication, server_id, prefix). Nothing in a
pydantic error but its type and message is ever shown, because its input may be a URI with a password.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from tailrace_schemas.errors import ConfigError
from tailrace_schemas.log_uri import KafkaLogUrl, LogUrl, SqliteLogUrl, parse_log_url
from tailrace_schemas.mapping import NamespaceMap, TablePattern, TableSelection
from tailrace_schemas.position import parse_position
from tailrace_schemas.uri import DatabaseUrl, Secret, parse_database_url, resolve_secret

Mode = Literal["full-load", "cdc", "full-load-and-cdc"]
Consistency = Literal["transaction", "key"]

MAX_NAME = 54  # with "tailrace_" in front it is a slot name: NAMEDATALEN - 1 = 63 bytes
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SLOT = re.compile(r"[a-z0-9_]{1,63}")
# librdkafka keys on which the guarantees rest; another value would break them in silence.
OWN_KAFKA_KEYS = frozenset(
    {
        "acks",
        "auto.offset.reset",
        "bootstrap.servers",
        "delivery.timeout.ms",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "isolation.level",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "message.timeout.ms",
        "request.required.acks",
        "transaction.timeout.ms",
        "transactional.id",
    }
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in the settings. `path`: keys and list indexes from the top."""

    path: tuple[str | int, ...]
    message: str
    hint: str = ""
    line: int | None = None

    def __str__(self) -> str:
        key = ".".join(str(part) for part in self.path)
        where = f"line {self.line}: " if self.line is not None else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{key}: {self.message}{hint}" if key else f"{where}{self.message}{hint}"


class SettingsError(ConfigError):
    """Every problem of one file or command line. `origin`: the file's name, or `the command line`."""

    def __init__(self, problems: list[Problem], origin: str) -> None:
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{origin} has {count}", detail="\n".join(str(problem) for problem in problems))
        self.problems = problems


def _refuse(error: ConfigError) -> PydanticCustomError:
    text = f"{error.message}: {error.detail}" if error.detail else error.message
    return PydanticCustomError("settings", "{text}", {"text": text, "hint": error.hint})


def _problem(message: str, hint: str = "") -> PydanticCustomError:
    return _refuse(ConfigError(message, hint=hint))


def _database_url(value: object) -> DatabaseUrl:
    if isinstance(value, DatabaseUrl):
        return value
    if not isinstance(value, str):
        raise _problem("must be a URI in text")
    try:
        return parse_database_url(value)
    except ConfigError as error:
        raise _refuse(error) from None


def _log_url(value: object) -> LogUrl:
    if isinstance(value, SqliteLogUrl | KafkaLogUrl):
        return value
    if not isinstance(value, str):
        raise _problem("must be a URI in text")
    try:
        return parse_log_url(value)
    except ConfigError as error:
        raise _refuse(error) from None


def _pattern(value: str) -> str:
    try:
        TablePattern.parse(value)
    except ConfigError as error:
        raise _refuse(error) from None
    return value


def _name(value: str) -> str:
    if not _NAME.fullmatch(value) or len(value) > MAX_NAME:
        raise _problem(f"{value!r} is not a name", f"letters, digits, . _ and -, at most {MAX_NAME}, no . _ - in front")
    return value


def _scalar_text(value: object) -> object:
    """Kafka settings are texts; YAML gives numbers and booleans."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


_UNITS = {"": 1, "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_TIMES = {"": 1, "s": 1, "min": 60, "h": 3600, "d": 86_400}


def _amount(units: Mapping[str, int], example: str) -> Callable[[object], object]:
    """A number, or a text of number and unit, as a number of the smallest unit."""

    def parse(value: object) -> object:
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", value.strip())
        if found is None or found[2] not in units:
            raise _problem(f"{value!r} is not an amount", f"{example}; units: {', '.join(filter(None, units))}")
        return int(found[1]) * units[found[2]]

    return parse


def _own_keys(value: dict[str, str]) -> dict[str, str]:
    if own := sorted(OWN_KAFKA_KEYS & value.keys()):
        raise _problem(f"{', '.join(own)} cannot be set: Tailrace's guarantees rest on its own value")
    return value


_URL_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^(postgresql|postgres|mysql|mariadb)://"})
_LOG_SCHEMA = WithJsonSchema({"type": "string", "pattern": "^(sqlite$|sqlite://|kafka://)"})
_SCALAR_SCHEMA = WithJsonSchema({"type": ["string", "number", "boolean"]})

Url = Annotated[DatabaseUrl, PlainValidator(_database_url), _URL_SCHEMA]
Log = Annotated[LogUrl, PlainValidator(_log_url), _LOG_SCHEMA]
Pattern = Annotated[str, AfterValidator(_pattern)]
Name = Annotated[str, AfterValidator(_name)]
# In YAML a bare null is no text; here it is the word.
ZeroDates = Annotated[
    Literal["stop", "null"],
    BeforeValidator(lambda value: "null" if value is None else value),
    WithJsonSchema({"enum": ["stop", "null", None]}),
]
KafkaValue = Annotated[str, BeforeValidator(_scalar_text), _SCALAR_SCHEMA]


_AMOUNT_SCHEMA = WithJsonSchema({"anyOf": [{"type": ["integer", "null"]}, {"type": "string"}]})
_Least0 = Annotated[int, Field(ge=0)]
Bytes = Annotated[_Least0 | None, BeforeValidator(_amount(_UNITS, "10 GB")), _AMOUNT_SCHEMA]
Seconds = Annotated[_Least0 | None, BeforeValidator(_amount(_TIMES, "6 h")), _AMOUNT_SCHEMA]


class _Model(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
        populate_by_name=True,
        protected_namespaces=(),
    )


class WalSteps(_Model):
    """WAL that our slot keeps at the source. null: never."""

    warn: Bytes = 10 * 10**9
    pause_load: Bytes = None
    stop: Bytes = None


class BinlogSteps(_Model):
    """Time left until the binary log that is read next may be purged. null: never."""

    warn: Seconds = 6 * 3600
    pause_load: Seconds = None
    stop: Seconds = None


class SnapshotSteps(_Model):
    """How long a snapshot of the load may be open: then a warning; then it is ended and its table loaded in smaller
    chunks, or stopped. null: never."""

    warn: Seconds = 1800
    end: Seconds = None


class SourceSettings(_Model):
    """`slot`, `publication` and `ddl_trigger` are Postgres', `server_id` is MySQL's and MariaDB's; empty and 0 mean the
    default."""

    url: Url
    tables: tuple[Pattern, ...] = Field(
        default=(), strict=False, description="namespace.table; * and % any run, ! excludes"
    )
    slot: str = Field(default="", description="replication slot; default tailrace_<name>")
    publication: str = Field(default="", description="default tailrace_<name>")
    ddl_trigger: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Postgres: an event trigger tells of DDL; auto: where the role may make it, or it is there",
    )
    server_id: int = Field(default=0, ge=0, lt=2**32, description="our id as a replica; default from name and host")
    heartbeat_seconds: int = Field(default=10, ge=1, le=3600)
    max_wal_kept: WalSteps = Field(default=WalSteps(), description="WAL kept by the slot: bytes, or a text: 10 GB")
    min_binlog_left: BinlogSteps = Field(default=BinlogSteps(), description="seconds, or a text: 6 h")

    @property
    def selection(self) -> TableSelection:
        """A MySQL source that names a database takes that database unless patterns say more."""
        url = self.url
        if self.tables or url.engine == "postgresql" or not url.database:
            return TableSelection.parse(url.engine, self.tables)
        quoted = url.database.replace("`", "``")
        return TableSelection.parse(url.engine, [f"`{quoted}`.*"])

    @field_validator("url")
    @classmethod
    def _needs_a_database(cls, url: DatabaseUrl) -> DatabaseUrl:
        if url.engine == "postgresql" and not url.database:
            raise _problem("the source URI names no database", "postgresql://host:port/database")
        return url

    @field_validator("slot", "publication")
    @classmethod
    def _postgres_only(cls, value: str, info: ValidationInfo) -> str:
        url = info.data.get("url")
        if value and isinstance(url, DatabaseUrl) and url.engine != "postgresql":
            raise _problem("belongs to Postgres sources")
        if value and info.field_name == "slot" and not _SLOT.fullmatch(value):
            raise _problem(f"{value!r} is not a slot name", "a-z, 0-9 and _, at most 63")
        return value

    @field_validator("server_id")
    @classmethod
    def _mysql_only(cls, value: int, info: ValidationInfo) -> int:
        url = info.data.get("url")
        if value and isinstance(url, DatabaseUrl) and url.engine == "postgresql":
            raise _problem("belongs to MySQL and MariaDB sources")
        return value


class LoadSettings(_Model):
    readers: int = Field(default=4, ge=1, le=64, description="connections that read the first copy")
    chunk_rows: int = Field(default=50_000, ge=1)
    max_rows_per_second: int | None = Field(default=None, ge=1)
    max_snapshot_seconds: SnapshotSteps = Field(
        default=SnapshotSteps(), description="how long a snapshot may be open: seconds, or a text: 30 min"
    )


class SinkSettings(_Model):
    name: Name
    url: Url
    consistency: Consistency = "transaction"
    connections: int = Field(default=1, ge=1, le=64)
    on_row_error: Literal["stop", "dead_letter"] = "stop"
    max_dead_letters: int | None = Field(
        default=10_000, ge=0, description="set aside and neither replayed nor discarded; beyond it the sink stops"
    )
    max_dead_letter_share: float | None = Field(
        default=None, gt=0, le=1, description="of a process's events, once there were 1,000; beyond it the sink stops"
    )
    target_triggers: Literal["allow", "refuse"] = "allow"
    cascades: Literal["emulate", "refuse"] = "emulate"

    @field_validator("url")
    @classmethod
    def _postgres_needs_a_database(cls, url: DatabaseUrl) -> DatabaseUrl:
        if url.engine == "postgresql" and not url.database:
            raise _problem("the target URI names no database", "postgresql://host:port/database")
        return url

    @field_validator("connections")
    @classmethod
    def _one_connection_keeps_transactions(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and info.data.get("consistency") == "transaction":
            raise _problem(
                "consistency: transaction commits whole source transactions, and so uses one connection",
                "consistency: key spreads partitions over several, and keeps the order of each key only",
            )
        return value


class RegistrySettings(_Model):
    auto_register: bool = True
    subject_strategy: Literal["topic_name"] = "topic_name"


class PipelineSettings(_Model):
    """One pipeline. Comments on keys: interfaces.md, "pipeline.yaml"."""

    name: Name
    source: SourceSettings
    mode: Mode = "full-load-and-cdc"
    start: str = Field(
        default="now", alias="from", description="mode cdc without a stored position: a position, or now"
    )
    log: Log = SqliteLogUrl()
    load: LoadSettings = LoadSettings()
    map: dict[str, str] = Field(default={}, description="source namespace: target namespace")
    schema_changes: Literal["evolve", "stop", "ignore-unsafe"] = "evolve"
    sinks: tuple[SinkSettings, ...] = Field(default=(), strict=False)
    foreign_truncate: bool = False
    allow_partial_images: bool = False
    partition_by: Literal["fields", "key_bytes"] = "fields"
    zero_dates: ZeroDates = "stop"
    transaction_metadata: bool = False
    kafka: Annotated[dict[str, KafkaValue], AfterValidator(_own_keys)] = Field(default={}, repr=False)
    topics: dict[str, KafkaValue] = {}
    registry: RegistrySettings = RegistrySettings()

    @property
    def prefix(self) -> str:
        """First part of all topic names."""
        return self.log.prefix if isinstance(self.log, KafkaLogUrl) and self.log.prefix else self.name

    @property
    def namespaces(self) -> NamespaceMap:
        return NamespaceMap(self.map)

    def sink(self, name: str) -> SinkSettings:
        """
        Raises:
            ConfigError: no sink of that name.
        """
        for sink in self.sinks:
            if sink.name == name:
                return sink
        known = ", ".join(sink.name for sink in self.sinks) or "none"
        raise ConfigError(f"pipeline {self.name} has no sink {name!r}", hint=f"its sinks: {known}")

    @field_validator("start")
    @classmethod
    def _start_is_a_position_of_cdc(cls, value: str, info: ValidationInfo) -> str:
        if value == "now":
            return value
        if info.data.get("mode") != "cdc":
            raise _problem("a start position needs mode: cdc; a load says itself where the stream begins")
        try:
            parse_position(value)
        except ValueError:
            raise _problem(f"{value!r} is not a position", "lsn:0/16B3748, gtid:…, mariadb:… or file:…") from None
        return value

    @field_validator("sinks")
    @classmethod
    def _sink_names_differ(cls, sinks: tuple[SinkSettings, ...]) -> tuple[SinkSettings, ...]:
        twice = [name for name, count in Counter(sink.name for sink in sinks).items() if count > 1]
        if twice:
            raise _problem(f"two sinks have the name {', '.join(twice)}")
        return sinks


def parse_settings(data: Mapping[str, object]) -> PipelineSettings:
    """Settings with every dependent default filled in.

    Raises:
        SettingsError: with all problems, lines not yet known.
    """
    try:
        settings = PipelineSettings.model_validate(data)
    except ValidationError as error:
        raise SettingsError([_from_pydantic(one) for one in error.errors(include_url=False)], "the pipeline") from None
    return settings.model_copy(update={"source": _with_names(settings.source, settings.name)})


def _with_names(source: SourceSettings, name: str) -> SourceSettings:
    if source.url.engine == "postgresql":
        own = default_slot(name)
        return source.model_copy(update={"slot": source.slot or own, "publication": source.publication or own})
    return source.model_copy(update={"server_id": source.server_id or default_server_id(name, source.url.host)})


def default_slot(name: str) -> str:
    """Also the publication's name."""
    return "tailrace_" + re.sub("[^a-z0-9_]", "_", name)


def default_server_id(name: str, host: str) -> int:
    """A replica id in the upper half of the 32-bit range, where hand-numbered replicas are seldom."""
    digest = hashlib.sha256(f"{name}\0{host}".encode()).digest()
    return 2**31 + int.from_bytes(digest[:4], "big") % (2**31 - 1)


def resolve_settings(
    settings: PipelineSettings, environment: Mapping[str, str], read_file: Callable[[str], str]
) -> PipelineSettings:
    """With every password looked up. All that cannot be found is reported at once.

    Raises:
        SettingsError
    """
    problems: list[Problem] = []

    def resolved(url: DatabaseUrl, *path: str | int) -> DatabaseUrl:
        try:
            return url.resolve(environment, read_file)
        except ConfigError as error:
            problems.append(Problem(path, error.message, error.hint))
            return url

    source = settings.source.model_copy(update={"url": resolved(settings.source.url, "source", "url")})
    sinks = tuple(
        sink.model_copy(update={"url": resolved(sink.url, "sinks", at, "url")})
        for at, sink in enumerate(settings.sinks)
    )
    log, kafka = settings.log, settings.kafka
    try:
        log = log.resolve(environment, read_file)
        kafka = {key: _kafka_text(key, value, environment, read_file) for key, value in kafka.items()}
    except ConfigError as error:
        problems.append(Problem(("log",), error.message, error.hint))
    if problems:
        raise SettingsError(problems, f"pipeline {settings.name}")
    return settings.model_copy(update={"source": source, "sinks": sinks, "log": log, "kafka": kafka})


def _is_secret_key(key: str) -> bool:
    return re.search(r"password|secret|\.pem$|oauthbearer\.config", key) is not None


def _kafka_text(key: str, value: str, environment: Mapping[str, str], read_file: Callable[[str], str]) -> str:
    if not _is_secret_key(key):
        return value
    return resolve_secret(Secret.parse(value), environment, read_file).reveal()


def kafka_secrets(kafka: Mapping[str, str]) -> list[tuple[str, Secret | None]]:
    """(environment variable, secret) of the keys under `kafka:` that hold one."""
    return [(_kafka_variable(key), Secret.parse(value)) for key, value in kafka.items() if _is_secret_key(key)]


def kafka_with_references(kafka: Mapping[str, str]) -> dict[str, str]:
    """`kafka:` as it may be shown: secrets written out become `${env:…}`."""
    shown = {
        key: Secret.parse(value).reference or f"${{env:{_kafka_variable(key)}}}"
        for key, value in kafka.items()
        if _is_secret_key(key)
    }
    return {**kafka, **shown}


def _kafka_variable(key: str) -> str:
    return "TAILRACE_KAFKA_" + re.sub("[^A-Za-z0-9]", "_", key).upper()


def _from_pydantic(error: Any) -> Problem:
    path = tuple(error["loc"])
    match error["type"]:
        case "extra_forbidden":
            return Problem(path, "unknown key", _nearest(path))
        case "missing":
            return Problem(path, "is missing")
        case "settings":
            return Problem(path, error["ctx"]["text"], error["ctx"]["hint"])
        case "literal_error":
            return Problem(path, f"must be {error['ctx']['expected']}")
        case _:
            return Problem(path, error["msg"].replace("Input should be", "must be"))


def _nearest(path: tuple[str | int, ...]) -> str:
    """The known key that an unknown one was probably meant to be."""
    known = known_keys(path[:-1])
    near = difflib.get_close_matches(str(path[-1]), known, 1)
    return f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"


_MODELS: dict[str, type[BaseModel]] = {
    "source": SourceSettings,
    "load": LoadSettings,
    "sinks": SinkSettings,
    "registry": RegistrySettings,
}


_STEPS: dict[str | int, type[BaseModel]] = {
    "max_wal_kept": WalSteps,
    "min_binlog_left": BinlogSteps,
    "max_snapshot_seconds": SnapshotSteps,
}


def known_keys(path: Iterable[str | int]) -> list[str]:
    """The keys that the mapping at `path` may have."""
    parts = tuple(path)
    model: type[BaseModel] = PipelineSettings
    if parts:
        model = _STEPS.get(parts[-1]) or _MODELS[str(parts[0])]
    return [field.alias or name for name, field in model.model_fields.items()]


def json_schema() -> dict[str, Any]:
    """The JSON Schema of pipeline.yaml, for editors."""
    schema = PipelineSettings.model_json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Tailrace pipeline"}


def at_lines(error: SettingsError, lines: Mapping[tuple[str | int, ...], int], origin: str) -> SettingsError:
    """The same problems with the line of each key, or of the nearest key above one that is missing, in file order."""

    def line(path: tuple[str | int, ...]) -> int | None:
        return next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), None)

    placed = [replace(problem, line=problem.line or line(problem.path)) for problem in error.problems]
    return SettingsError(sorted(placed, key=lambda problem: problem.line or 0), origin)

"""Settings from a YAML file, validated before anything starts. Every setting says its unit, default and special values."""

from __future__ import annotations

import datetime
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, SecretStr, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from consumer.errors import ConfigError
from consumer.table import Mode

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
UNSAFE = {
    "enable.auto.commit": "offsets are committed only after the rows",
    "enable.auto.offset.store": "offsets are committed only after the rows",
    "auto.offset.reset": "a silent reset loses or repeats records; use `start`",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BatchSettings(_Strict):
    """When a batch is closed: by whichever bound is reached first."""

    max_records: int = Field(default=5000, ge=1, description="records")
    max_bytes: ByteSize = Field(default=ByteSize(8 * 1024 * 1024), ge=1, description="bytes of values; `8MiB` works")
    max_wait_ms: int = Field(default=500, ge=0, description="milliseconds since the first record of the batch")


class JsonFormat(_Strict):
    """Values are JSON objects, typed by the table's columns."""

    type: Literal["json"] = "json"
    on_null: Literal["reject", "delete", "skip"] = Field(
        default="reject",
        description="what a null value (tombstone) means: `reject` the record, `delete` its key's row, `skip` it",
    )


class RawFormat(_Strict):
    """Values are bytes, taken as they are: map them with `columns: {body: $value}`."""

    type: Literal["raw"]
    on_null: Literal["reject", "delete", "skip"] = Field(default="reject", description="as with `json`")


class TextFormat(_Strict):
    """Keys are UTF-8 text."""

    type: Literal["text"] = "text"


class AvroFormat(_Strict):
    """Values are Avro: of one local schema, or framed (0x00 and a 4-byte id) with each id's schema in a local file."""

    type: Literal["avro"]
    schema_file: Path | None = Field(
        default=None, alias="schema", description="the schema of every value: an .avsc file"
    )
    schemas: dict[int, Path] | None = Field(default=None, description="schema id of framed values -> .avsc file")
    reader: Path | None = Field(
        default=None, description="resolve every value to this schema (Avro's schema evolution)"
    )
    on_null: Literal["reject", "delete", "skip"] = Field(default="reject", description="as with `json`")


def _named(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


Format = Annotated[JsonFormat | AvroFormat | RawFormat, Field(discriminator="type"), BeforeValidator(_named)]
KeyFormat = Annotated[
    TextFormat | JsonFormat | AvroFormat | RawFormat, Field(discriminator="type"), BeforeValidator(_named)
]


class Constant(_Strict):
    """The same value in every row."""

    const: str | int | float | bool | None


class KeepIn(_Strict):
    """Where unknown fields are kept."""

    column: str


class TableSettings(_Strict):
    """How one table is written."""

    mode: Mode = Field(default=Mode.INSERT, description="`insert`, `upsert`, `increment` or `delete`")
    topics: list[str] | None = Field(default=None, description="topics whose records go here; default: all of them")
    key: list[str] = Field(default=[], description="columns that are unique together; default: the primary key")
    add: list[str] = Field(default=[], description="`increment`: the columns that are added up")
    version: str | None = Field(
        default=None, description="`upsert`, `delete`: never overwrite a newer value of this column"
    )
    select: list[str] | None = Field(default=None, description="fields taken by name; default: all that the table has")
    columns: dict[str, str | Constant] = Field(
        default={},
        description="column -> where it comes from: a field (`a`, `a.b`), `$topic`, `$partition`, `$offset`, "
        "`$timestamp`, `$key`, `$key.field`, `$headers.name`, `$value`, or `{const: ...}`",
    )
    unknown: Literal["drop", "reject"] | KeepIn = Field(
        default="drop",
        description="a field that the table does not have: `drop` it, `reject` the record, or `{column: extra}` to keep "
        "all such fields as one JSON object in that column",
    )


class SinkSettings(_Strict):
    """Where rows go."""

    dsn: SecretStr = Field(description="`postgresql://...` or `host=...` (PostgreSQL), `sqlite:///path` (SQLite)")
    tables: dict[str, TableSettings] = Field(default={}, description="default: each topic into the table of its name")
    write_deadline_ms: int = Field(
        default=60_000, ge=1000, description="milliseconds after which a blocked write's connection is cut"
    )


class AdminSettings(_Strict):
    """/metrics, /livez and /readyz over HTTP."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=9464, ge=0, le=65535, description="0: any free one, logged; see `enabled` to have none")
    enabled: bool = True


class Settings(_Strict):
    """The whole file."""

    kafka: dict[str, str | int | float | bool] = Field(
        description="librdkafka properties, verbatim; unsafe ones are refused"
    )
    topics: list[str] = Field(min_length=1, description="names; one that starts with ^ is a regular expression")
    start: Literal["earliest", "latest"] | datetime.datetime = Field(
        default="earliest", description="where a partition without any offset starts: or a time (ISO 8601 with zone)"
    )
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        default="exactly_once", description="`at_least_once` keeps no offset table in the database"
    )
    format: Format
    key_format: KeyFormat = Field(default=TextFormat(), description="how keys are read where `$key` is used")
    batch: BatchSettings = BatchSettings()
    transform: str | None = Field(
        default=None, description="`module:function`, your Python function from record to rows"
    )
    sink: SinkSettings
    admin: AdminSettings = AdminSettings()
    shutdown_grace_ms: int = Field(
        default=20_000, ge=0, description="milliseconds that SIGTERM leaves to the last batch"
    )


def load(path: Path) -> Settings:
    """Read and check a file. Raises ConfigError naming the field, its value and the reason."""
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text())
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("config", str(path), f"cannot be read: {error}") from None
    try:
        settings = Settings.model_validate(_filled(raw, "config"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(".".join(map(str, first["loc"])), "...", first["msg"]) from None
    for name, reason in UNSAFE.items():
        if name in settings.kafka:
            raise ConfigError(f"kafka.{name}", settings.kafka[name], f"is refused: {reason}; leave it out")
    for name in ("bootstrap.servers", "group.id"):
        if name not in settings.kafka:
            raise ConfigError(f"kafka.{name}", None, "is required")
    return settings


def _filled(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, where) for item in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(where, match[0], f"the environment variable {match[1]} is not set")
        return os.environ[match[1]]

    return _VARIABLE.sub(fill, value)

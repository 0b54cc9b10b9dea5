"""The settings and their types. Every setting says its unit, its default and its special values."""

from __future__ import annotations

import datetime
import difflib
import re
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Tag,
    ValidationInfo,
)

from consumer.table import Mode

METADATA = ("$topic", "$partition", "$offset", "$timestamp")
_NESTED = ("$key", "$value", "$headers")
_STATE = re.compile(r"[0-9A-Z]{5}|[0-9A-Z]{2}|SQLITE_[A-Z_]+")


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        _refuse("must be a whole number")
    return value


def _ratio(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        _refuse("must be a number from 0 to 1")
    try:
        return float(value)
    except (ValueError, OverflowError):
        _refuse("must be a number from 0 to 1")


def _state(value: str) -> str:
    if not _STATE.fullmatch(value):
        _refuse("must be a SQLSTATE (`23503`), its class (`23`), or SQLite's name of a result code (`SQLITE_BUSY`)")
    return value


def _property(value: Any) -> Any:
    if not isinstance(value, str | int | float | bool):
        _refuse("must be a text, a number, true or false; names keep their dots: `bootstrap.servers: x`")
    return value


def _scalar(value: Any) -> Any:
    if isinstance(value, dict | list):
        _refuse("must be a text, a number, true, false or null")
    return value


def _start(value: Any) -> Any:
    if value in ("earliest", "latest"):
        return value
    if isinstance(value, str):
        try:
            value = datetime.datetime.fromisoformat(value)
        except ValueError:
            value = None
    if not isinstance(value, datetime.datetime):
        _refuse("must be `earliest`, `latest` or a time such as 2026-01-31T08:00:00Z")
    if value.tzinfo is None:
        _refuse("a time needs a zone: put Z (for UTC) or +02:00 behind it")
    return value


def _source(value: str) -> str:
    name, dot, path = value.partition(".")
    if value.startswith("$") and name not in METADATA + _NESTED:
        close = difflib.get_close_matches(name, METADATA + _NESTED, 1)
        advice = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(METADATA + _NESTED)}"
        _refuse(f"is no source of values; {advice}")
    if name in METADATA and dot:
        _refuse(f"`{name}` has no fields: leave out what follows the dot")
    if not name or (dot and not path) or (name != "$headers" and "" in path.split(".")[1:]):
        _refuse("must be a field (`a`, `a.b`), one of the `$` names, or `{const: ...}`")
    return value


def _beside_the_file(path: Path, info: ValidationInfo) -> Path:
    return Path((info.context or {}).get("folder", "")) / path


def _named(value: Any) -> Any:
    return {"type": value} if isinstance(value, str) else value


Whole = Annotated[int, BeforeValidator(_no_boolean)]
Size = Annotated[ByteSize, BeforeValidator(_no_boolean, json_schema_input_type=int | str)]
Ratio = Annotated[float, BeforeValidator(_ratio, json_schema_input_type=float)]
State = Annotated[str, AfterValidator(_state)]
Property = Annotated[str | int | float | bool, BeforeValidator(_property)]
Start = Annotated[
    Literal["earliest", "latest"] | datetime.datetime, BeforeValidator(_start, json_schema_input_type=str)
]
SchemaFile = Annotated[Path, AfterValidator(_beside_the_file)]
AuthorityFile = Annotated[Path, AfterValidator(_beside_the_file)]
StateFolder = Annotated[Path, AfterValidator(_beside_the_file)]
Event = Literal["started", "milestone", "held", "resumed", "completed", "stopped", "failed"]
OnNull = Literal["reject", "delete", "skip"]
_NULL = "what a null value (tombstone) means: `reject` the record, `delete` its key's row, or `skip` it"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BatchSettings(_Strict):
    """When a batch is closed: by whichever bound is reached first."""

    max_records: Whole = Field(default=20_000, ge=1, description="records")
    max_bytes: Size = Field(default=ByteSize(5 * 1024 * 1024), ge=1, description="bytes of values; `8MiB` works")
    max_wait_ms: Whole = Field(default=500, ge=0, description="milliseconds since the first record of the batch")
    ready_records: Whole = Field(
        default=5000,
        ge=1,
        description="records that are enough while the database waits; while it is busy, a batch grows",
    )


class JsonFormat(_Strict):
    """JSON objects, typed by the table's columns."""

    type: Literal["json"] = "json"
    on_null: OnNull = Field(default="reject", description=_NULL)


class RawFormat(_Strict):
    """Bytes, taken as they are: map them with `columns: {body: $value}`."""

    type: Literal["raw"]
    on_null: OnNull = Field(default="reject", description=_NULL)


class TextFormat(_Strict):
    """UTF-8 text; for keys only."""

    type: Literal["text"] = "text"


class RegistrySettings(_Strict):
    """A Schema Registry with Confluent's API."""

    url: str = Field(description="`https://...`, with the path below which `/schemas/ids` is, without credentials")
    username: str | None = Field(default=None, description="of HTTP's basic authentication; needs `password`")
    password: SecretStr | None = Field(default=None, description="the user's: `${NAME}` takes it from the environment")
    token: SecretStr | None = Field(default=None, description="a bearer token, instead of `username`")
    ca: AuthorityFile | None = Field(
        default=None, description="PEM file with the authorities to trust; default: those of the system"
    )
    unknown_id_after_ms: Whole = Field(
        default=300_000,
        ge=0,
        description="milliseconds that writing waits for an id that the registry does not know; then its records are "
        "at fault",
    )


class AvroFormat(_Strict):
    """Avro: of one local schema, or framed (0x00 and a 4-byte id) with each id's schema in a local file or a registry.

    Paths of schemas are relative to the folder of the configuration file.
    """

    type: Literal["avro"]
    schema_file: SchemaFile | None = Field(
        default=None,
        alias="schema",
        description="`avro`: the schema of every value, an .avsc file; or else `schemas` or `registry`",
    )
    schemas: dict[int, SchemaFile] | None = Field(
        default=None, description="`avro`: schema id of framed values -> .avsc file; or else `schema` or `registry`"
    )
    registry: RegistrySettings | None = Field(
        default=None, description="`avro`: where framed values' schemas are asked for; or else `schema` or `schemas`"
    )
    reader: SchemaFile | None = Field(
        default=None, description="`avro`: resolve every value to this schema (Avro's schema evolution)"
    )
    on_null: OnNull = Field(default="reject", description=_NULL)


_FORMATS = Literal["json", "avro", "raw"]
Format = Annotated[
    Annotated[JsonFormat | AvroFormat | RawFormat, Field(discriminator="type")],
    BeforeValidator(_named, json_schema_input_type=_FORMATS | JsonFormat | AvroFormat | RawFormat),
]
KeyFormat = Annotated[
    Annotated[TextFormat | JsonFormat | AvroFormat | RawFormat, Field(discriminator="type")],
    BeforeValidator(
        _named, json_schema_input_type=_FORMATS | Literal["text"] | TextFormat | JsonFormat | AvroFormat | RawFormat
    ),
]


class Constant(_Strict):
    """The same value in every row."""

    const: Annotated[str | int | float | bool | None, BeforeValidator(_scalar)] = Field(
        description="a text, a number, true, false or null"
    )


class KeepIn(_Strict):
    """Where unknown fields are kept."""

    column: str = Field(description="a column that can hold JSON")


def _plain(value: Any) -> str:
    return "plain" if isinstance(value, str) else "nested"


Source = Annotated[
    Annotated[str, AfterValidator(_source), Tag("plain")] | Annotated[Constant, Tag("nested")], Discriminator(_plain)
]
Unknown = Annotated[
    Annotated[Literal["drop", "reject"], Tag("plain")] | Annotated[KeepIn, Tag("nested")], Discriminator(_plain)
]


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
    columns: dict[str, Source] = Field(
        default={},
        description="column -> where it comes from: a field (`a`, `a.b`), `$topic`, `$partition`, `$offset`, "
        "`$timestamp`, `$key`, `$key.field`, `$headers`, `$headers.name`, `$value`, `$value.field`, or `{const: ...}`",
    )
    unknown: Unknown = Field(
        default="drop",
        description="a field that the table does not have: `drop` it, `reject` the record, or `{column: extra}` to "
        "keep all such fields as one JSON object in that column",
    )


class SinkSettings(_Strict):
    """Where rows go."""

    dsn: SecretStr = Field(description="`postgresql://...` or `host=...` (PostgreSQL), `sqlite:///path` (SQLite)")
    tables: dict[str, TableSettings] = Field(default={}, description="default: each topic into the table of its name")
    write_deadline_ms: Whole = Field(
        default=60_000,
        ge=1000,
        description="milliseconds after which a blocked write's connection is cut; less than a quarter of "
        "`kafka.max.poll.interval.ms`",
    )
    errors: dict[State, Literal["reject", "retry", "reconnect", "stop"]] = Field(
        default={},
        description="what an error of the database means, where the built-in table is to be overruled: SQLSTATE, its "
        "class, or SQLite's name of a result code -> `reject` the record, `retry` the batch, `reconnect` and retry, or "
        "`stop`",
    )


class DeadLetterSettings(_Strict):
    """What becomes of records that cannot be written, and how many of them are too many."""

    topic: str | None = Field(
        default="{topic}.dlq",
        description="where they are published; `{topic}` is the topic they come from. The topics must exist, with "
        "`retention.ms: -1` or `message.timestamp.type: LogAppendTime`, because old records would soon be deleted. "
        "`null`: nowhere, they stay in the table `microbatch_dead_letters`",
    )
    max_consecutive: Whole = Field(
        default=500, ge=0, description="records in a row; more than that, and nothing is kept: see `on_limit`"
    )
    max_ratio: Ratio = Field(
        default=0.5, ge=0, le=1, description="share of the last 1,000 records; more than that: see `on_limit`"
    )
    on_limit: Literal["hold", "stop"] = Field(
        default="hold", description="`hold` everything until `microbatch resume` or a probe passes, or `stop`"
    )
    retry_after_ms: Whole = Field(
        default=300_000, ge=1000, description="milliseconds between probes of at most 100 records, while held"
    )
    max_pending: Whole = Field(
        default=10_000, ge=1, description="dead letters that may wait for their topics; more than that hold writing"
    )
    headers: Literal["kip-1191", "connect", "spring"] = Field(
        default="kip-1191",
        description="whose names of headers tell where a dead letter comes from: `__dlq.errors.*` (KIP-1191), "
        "`__connect.errors.*` or `kafka_dlt-*`; `microbatch.*` are always there as well",
    )
    too_large: Literal["keep", "cut"] = Field(
        default="keep",
        description="a value that its dead-letter topic does not take: `keep` it in the table and publish the rest "
        "(`at_least_once` has no table, and holds), or `cut` it to 4 kB",
    )
    keep_payload: bool = Field(
        default=True, description="`false`: the table forgets key, value and headers once the topic has them"
    )


class RetrySettings(_Strict):
    """What is done while the database or Kafka is away."""

    max_delay_ms: Whole = Field(
        default=3_000, ge=100, description="milliseconds: the longest wait between two tries; waits grow up to it"
    )
    give_up_after_ms: Whole | None = Field(
        default=None, ge=0, description="milliseconds after which the daemon stops with an error; default: never"
    )


class AdminSettings(_Strict):
    """The status page, /metrics, the probes and control over HTTP."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: Whole = Field(default=9464, ge=0, le=65535, description="0: any free one, logged; see `enabled` to have none")
    enabled: bool = Field(default=True, description="`false`: listen nowhere")
    token: SecretStr | None = Field(
        default=None,
        description="16 characters or more, which pause, resume, set and the status are asked with; without one, the "
        "first three work on loopback only. Metrics and probes never need it",
    )


class RunsSettings(_Strict):
    """The history of runs: a file for each, on this machine."""

    directory: StateFolder | None = Field(
        default=None,
        description="where they are kept; default: `microbatch/runs` in `$XDG_STATE_HOME`, or in `~/.local/state`. If "
        "it cannot be written, that is logged, and no more",
    )
    keep: Whole = Field(default=200, ge=0, description="how many runs; the oldest go. 0: no history")


class NotifySettings(_Strict):
    """Who is told of what: over HTTP, or by a program."""

    webhook: SecretStr | None = Field(
        default=None,
        description="`https://...` that gets each event as JSON by POST; or else `command`. Redirects are not followed",
    )
    secret: SecretStr | None = Field(
        default=None,
        description="16 characters or more, by which the body is signed (HMAC-SHA256, as standardwebhooks.com has it)",
    )
    command: list[str] | None = Field(
        default=None, description="a program and its arguments; it gets the event as JSON on stdin, without a shell"
    )
    events: list[Event] | None = Field(
        default=None,
        min_length=1,
        description="of `started`, `milestone` (each 10 % of a job), `held`, `resumed`, `completed`, `stopped`, "
        "`failed`; default: all",
    )
    min_interval_ms: Whole = Field(
        default=60_000,
        ge=0,
        description="milliseconds between two of one kind; of those that come meanwhile the last one is told then",
    )


class Settings(_Strict):
    """The whole file."""

    kafka: dict[str, Property] = Field(
        description="librdkafka's properties, verbatim: `bootstrap.servers` and `group.id`, and more if need be; "
        "unsafe ones are refused"
    )
    topics: list[str] = Field(min_length=1, description="names; one that starts with ^ is a regular expression")
    start: Start = Field(
        default="earliest",
        description="where a partition without any offset starts: `earliest`, `latest` or a time (ISO 8601 with zone)",
    )
    delivery: Literal["exactly_once", "at_least_once"] = Field(
        default="exactly_once", description="`at_least_once` keeps no offset table in the database"
    )
    format: Format = Field(description="what values are: `json`, `avro` or `raw`; or a mapping with that as its `type`")
    key_format: KeyFormat = Field(
        default=TextFormat(), description="how keys are read where `$key` is used: as `format`, or `text` (UTF-8)"
    )
    batch: BatchSettings = BatchSettings()
    transform: str | None = Field(
        default=None, description="`module:function`, your Python function from record to rows"
    )
    sink: SinkSettings
    dead_letter: DeadLetterSettings = DeadLetterSettings()
    retry: RetrySettings = RetrySettings()
    admin: AdminSettings = AdminSettings()
    runs: RunsSettings = RunsSettings()
    notify: list[NotifySettings] = []
    shutdown_grace_ms: Whole = Field(
        default=20_000, ge=0, description="milliseconds that SIGTERM leaves to the last batch"
    )

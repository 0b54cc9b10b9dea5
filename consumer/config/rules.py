"""What single settings cannot tell: those that exclude each other, or need each other."""

from __future__ import annotations

import difflib
import re

from consumer.config.model import METADATA, AvroFormat, Constant, KeepIn, RawFormat, Settings, TableSettings
from consumer.config.properties import check_properties
from consumer.errors import ConfigError
from consumer.table import Mode

_DEFAULT_POLL_INTERVAL_MS = 300_000  # librdkafka's default of max.poll.interval.ms
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
# librdkafka hands a topic's regular expression to POSIX regcomp, where these mean something else or nothing.
_NOT_POSIX = re.compile(r"\\[dDsSbBwWAZ]|\(\?|[*+?}][?+]|\[\[:")
_TRANSFORM = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def check_rules(settings: Settings) -> None:
    """Raises ConfigError for the first rule that is broken."""
    check_properties(settings.kafka)
    _check_intervals(settings)
    _check_topics(settings)
    _check_format("format", settings.format)
    _check_format("key_format", settings.key_format)
    _check_dsn(settings.sink.dsn.get_secret_value())
    if settings.transform is not None:
        _check_transform(settings)
    for name, table in settings.sink.tables.items():
        _check_table(f"sink.tables.{name}", table)
        _check_topics_of(settings, f"sink.tables.{name}", table)
    if settings.transform is None:
        _check_mapping(settings)


def subscribes(topic: str, name: str) -> bool:
    """Whether an entry of `topics` means the topic of this name."""
    # Of the expressions that are allowed, `re` understands the same as POSIX.
    return re.match(topic, name) is not None if topic.startswith("^") else topic == name


def _check_intervals(settings: Settings) -> None:
    deadline = settings.sink.write_deadline_ms
    interval = int(settings.kafka.get("max.poll.interval.ms", _DEFAULT_POLL_INTERVAL_MS))
    if interval <= 4 * deadline:
        reason = (
            f"must be less than a quarter of kafka.max.poll.interval.ms ({interval}), or Kafka gives the partitions "
            f"away during a slow write: lower it, or set kafka.max.poll.interval.ms above {4 * deadline}"
        )
        raise ConfigError("sink.write_deadline_ms", deadline, reason)


def _check_topics(settings: Settings) -> None:
    for index, topic in enumerate(settings.topics):
        field = f"topics.{index}"
        if topic in settings.topics[:index]:
            raise ConfigError(field, topic, "is there twice: remove one")
        if topic.startswith("^"):
            _check_expression(field, topic)
        elif not _TOPIC.fullmatch(topic) or topic in (".", ".."):
            reason = "is no topic name (letters, digits, `.`, `_`, `-`); a regular expression must start with ^"
            raise ConfigError(field, topic, reason)


def _check_expression(field: str, topic: str) -> None:
    if odd := _NOT_POSIX.search(topic):
        reason = f"uses {odd[0]}, which is not portable: write sets such as [0-9] and plain * + ? instead"
        raise ConfigError(field, topic, reason)
    try:
        re.compile(topic)
    except re.error as error:
        raise ConfigError(field, topic, f"is no regular expression: {error.msg}") from None


def _check_format(field: str, format_: object) -> None:
    if not isinstance(format_, AvroFormat):
        return
    if format_.schema_file and format_.schemas:
        reason = "excludes `schemas`: keep `schema` for plain values, or `schemas` for values framed with an id"
        raise ConfigError(f"{field}.schema", str(format_.schema_file), reason)
    if not format_.schema_file and not format_.schemas:
        raise ConfigError(f"{field}.schema", None, "is required with avro (an .avsc file), or `schemas` (id -> file)")
    files = {"schema": format_.schema_file, "reader": format_.reader}
    files |= {f"schemas.{number}": path for number, path in (format_.schemas or {}).items()}
    for name, path in files.items():
        if path is not None and not path.is_file():
            raise ConfigError(f"{field}.{name}", str(path), "there is no such file: correct the path")


def _check_dsn(dsn: str) -> None:
    if not dsn.strip():
        raise ConfigError("sink.dsn", None, "is empty: give `postgresql://...`, `host=...` or `sqlite:///path`")
    scheme, separator, rest = dsn.partition("://")
    if separator and scheme not in ("postgresql", "postgres", "sqlite"):
        raise ConfigError("sink.dsn", dsn, "must start with postgresql:// or sqlite:///; there are no other sinks")
    if (scheme == "sqlite" and not rest.startswith("/")) or (not separator and "=" not in dsn):
        raise ConfigError("sink.dsn", dsn, "must be `postgresql://...`, `host=...` or `sqlite:///path`")


def _check_transform(settings: Settings) -> None:
    if not _TRANSFORM.fullmatch(settings.transform or ""):
        raise ConfigError("transform", settings.transform, "must be `module:function`, such as shop.pipeline:explode")
    if settings.format.on_null == "delete":
        reason = "is excluded by `transform`, which gets the record and may return Row(..., delete=True): remove it"
        raise ConfigError("format.on_null", "delete", reason)
    for name, table in settings.sink.tables.items():
        for setting in ("select", "columns", "unknown"):
            if setting in table.model_fields_set:
                reason = "is excluded by `transform`, which makes the rows itself: remove one of them"
                raise ConfigError(f"sink.tables.{name}.{setting}", None, reason)


def _check_table(field: str, table: TableSettings) -> None:
    if table.mode is Mode.INCREMENT and not table.add:
        raise ConfigError(f"{field}.add", None, "is required with mode increment: the columns that are added up")
    if table.mode is not Mode.INCREMENT and table.add:
        raise ConfigError(f"{field}.add", None, f"belongs to mode increment, and this is mode {table.mode}: remove it")
    if table.version and table.mode not in (Mode.UPSERT, Mode.DELETE):
        reason = f"belongs to the modes upsert and delete, and this is mode {table.mode}: remove it"
        raise ConfigError(f"{field}.version", table.version, reason)
    for setting in ("topics", "key", "add", "select"):
        names: list[str] = getattr(table, setting) or []
        if twice := [name for index, name in enumerate(names) if name in names[:index]]:
            raise ConfigError(f"{field}.{setting}", twice[0], "is there twice: remove one")
    for name in table.add:
        if name in table.key:
            raise ConfigError(f"{field}.add", name, "is in `key` as well: a column is matched by or added up")
    if isinstance(table.unknown, KeepIn) and table.unknown.column in table.columns:
        raise ConfigError(f"{field}.unknown.column", table.unknown.column, "has a source in `columns` already")


def _check_topics_of(settings: Settings, field: str, table: TableSettings) -> None:
    if any(topic.startswith("^") for topic in settings.topics):
        return
    for topic in table.topics or []:
        if topic not in settings.topics:
            close = difflib.get_close_matches(topic, settings.topics, 1)
            advice = f"did you mean `{close[0]}`?" if close else "add it there"
            raise ConfigError(f"{field}.topics", topic, f"is not among `topics`; {advice}")


def _check_mapping(settings: Settings) -> None:
    """Of rows that are made by name, without a transform."""
    tables = settings.sink.tables
    if settings.format.on_null == "delete":
        modes = {f"sink.tables.{name}.mode": table.mode for name, table in tables.items()} or {
            "sink.tables": Mode.INSERT
        }
        for field, mode in modes.items():
            if mode not in (Mode.UPSERT, Mode.DELETE):
                raise ConfigError(field, str(mode), "must be upsert or delete, because format.on_null is `delete`")
    if isinstance(settings.format, RawFormat):
        _check_raw(tables)
    fed = {topic for table in tables.values() for topic in table.topics or settings.topics}
    for index, topic in enumerate(settings.topics):
        if tables and topic not in fed and not any(name.startswith("^") for name in settings.topics):
            raise ConfigError(f"topics.{index}", topic, "goes into no table: name it in the `topics` of one")


def _check_raw(tables: dict[str, TableSettings]) -> None:
    advice = "raw values have no fields: map them, such as `columns: {body: $value}`, or set `transform`"
    if not tables:
        raise ConfigError("sink.tables", None, f"is required with format raw, because {advice}")
    for table, settings in tables.items():
        if not settings.columns:
            raise ConfigError(f"sink.tables.{table}.columns", None, f"is required with format raw, because {advice}")
        for column, source in settings.columns.items():
            plain = isinstance(source, Constant) or source in (*METADATA, "$value", "$key", "$headers")
            if not plain and not str(source).startswith(("$key.", "$headers.")):
                raise ConfigError(f"sink.tables.{table}.columns.{column}", source, advice)

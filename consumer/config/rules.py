"""What single settings cannot tell: those that exclude each other, or need each other."""

from __future__ import annotations

import base64
import binascii
import difflib
import re
from collections.abc import Collection, Iterator, Sequence
from urllib.parse import urlsplit

from consumer.config.model import (
    METADATA,
    AvroFormat,
    Constant,
    KeepIn,
    NotifySettings,
    RawFormat,
    RegistrySettings,
    Settings,
    TableSettings,
)
from consumer.config.properties import check_properties
from consumer.errors import ConfigError
from consumer.outbox import PLACE, dead_letter_topic, origin_topic
from consumer.table import Mode

_DEFAULT_POLL_INTERVAL_MS = 300_000  # librdkafka's default of max.poll.interval.ms
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
# librdkafka hands a topic's regular expression to POSIX regcomp, where these mean something else or nothing.
_NOT_POSIX = re.compile(r"\\[dDsSbBwWAZ]|\(\?|[*+?}][?+]|\[\[:")
_MEANING = re.compile(r"[].^$*+?{}()|[\\]")  # what is no plain text in a regular expression
_OUTAGES = (
    "08",
    "53",
    "57P",
    "SQLITE_BUSY",
    "SQLITE_CANTOPEN",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_LOCKED",
    "SQLITE_NOMEM",
)
_URL = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_PRINTABLE = re.compile(r"[!-~]+")
_TOKEN = re.compile(r"[!-~]{16,}")
_TRANSFORM = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def check_rules(settings: Settings) -> None:
    """Raises ConfigError for the first rule that is broken."""
    check_properties(settings.kafka)
    _check_intervals(settings)
    _check_topics(settings)
    _check_dead_letters(settings)
    _check_format("format", settings.format)
    _check_format("key_format", settings.key_format)
    _check_patience(settings)
    _check_dsn(settings.sink.dsn.get_secret_value())
    _check_errors(settings)
    _check_token(settings)
    for index, target in enumerate(settings.notify):
        _check_target(f"notify.{index}", target)
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


def feeds_itself(topics: Sequence[str], template: str, names: Collection[str]) -> list[str]:
    """Those of the topics `names` that would be read, though the dead letters of others that are read go there."""

    def read(name: str) -> bool:
        return any(subscribes(topic, name) for topic in topics)

    return sorted(name for name in names if read(name) and (origin := origin_topic(template, name)) and read(origin))


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


def _check_dead_letters(settings: Settings) -> None:
    letters = settings.dead_letter
    template = letters.topic
    if template is None:
        if settings.delivery == "at_least_once" and (letters.max_consecutive or letters.on_limit != "stop"):
            reason = (
                "is required with delivery at_least_once, which has no table for dead letters; to have none at all, "
                "set dead_letter.max_consecutive to 0 and dead_letter.on_limit to stop"
            )
            raise ConfigError("dead_letter.topic", None, reason)
        return
    if template.count(PLACE) != 1:
        reason = f"must hold `{PLACE}` once, for the topic that a record comes from: `{PLACE}.dlq`"
        raise ConfigError("dead_letter.topic", template, reason)
    for topic in ["t", *(topic for topic in settings.topics if not topic.startswith("^"))]:
        if not _TOPIC.fullmatch(dead_letter_topic(template, topic)):
            of = "" if topic == "t" else f" of {topic}"
            reason = f"makes no topic name{of} (at most 249 letters, digits, `.`, `_`, `-`)"
            raise ConfigError("dead_letter.topic", template, reason)
    _check_loops(settings.topics, template)


def _check_loops(topics: Sequence[str], template: str) -> None:
    """Whether dead letters would be read again, as far as can be told without the names of the cluster's topics."""
    if template == PLACE:
        raise ConfigError("dead_letter.topic", template, f"is the topic itself: write `{PLACE}.dlq`, for one")
    samples = {sample for topic in topics for sample in _samples(topic) if subscribes(topic, sample)}
    names = {dead_letter_topic(template, sample) for sample in samples}
    for name in sorted(feeds_itself(topics, template, names), key=len):
        index, topic = next((i, topic) for i, topic in enumerate(topics) if subscribes(topic, name))
        how = "let the expression not match it (end with [a-z]*$, say)" if topic.startswith("^") else "remove it"
        reason = (
            f"means {name} too, where dead letters of {origin_topic(template, name)} go, so they would be read again "
            f"as records: {how}, or change dead_letter.topic"
        )
        raise ConfigError(f"topics.{index}", topic, reason)


def _samples(topic: str) -> Iterator[str]:
    """Names that an entry of `topics` may well mean: not all of them, and some that it does not."""
    if not topic.startswith("^"):
        yield topic
        return
    plain = topic[1:].replace("\\.", ".")
    literal = (_MEANING.split(topic[1:].replace("\\.", "\0"))[0]).replace("\0", ".")
    for start in {literal, *re.findall(r"[\w.-]*[\w-]", plain)}:
        yield from (start + end for end in ("", "a", "A", "0", "-a", ".a", "_a", "aaaa", "0000"))


def _check_errors(settings: Settings) -> None:
    sqlite = settings.sink.dsn.get_secret_value().startswith("sqlite:")
    for state, verdict in settings.sink.errors.items():
        field = f"sink.errors.{state}"
        if state.startswith("SQLITE_") is not sqlite:
            wanted = "SQLite's, such as SQLITE_CONSTRAINT" if sqlite else "a SQLSTATE, such as 23503, or its class"
            raise ConfigError(field, None, f"belongs to another database than sink.dsn: the name must be {wanted}")
        if verdict == "reject" and any(state.startswith(o) or o.startswith(state) for o in _OUTAGES):
            reason = "must not be reject, because it is an outage, and no record is at fault: use retry or stop"
            raise ConfigError(field, verdict, reason)


def _check_token(settings: Settings) -> None:
    token = settings.admin.token
    if token is not None and not _TOKEN.fullmatch(token.get_secret_value()):
        reason = "must be 16 printable ASCII characters at least, without spaces: `openssl rand -hex 32` makes one"
        raise ConfigError("admin.token", None, reason)


def _check_target(field: str, target: NotifySettings) -> None:
    if (target.webhook is None) is (target.command is None):
        raise ConfigError(field, None, "needs either `webhook` or `command`, and not both")
    if target.webhook is not None:
        _check_webhook(f"{field}.webhook", target.webhook.get_secret_value())
    elif target.secret is not None:
        raise ConfigError(f"{field}.secret", None, "belongs to a webhook: a command is not sent anywhere; remove it")
    if target.secret is not None:
        _check_secret(f"{field}.secret", target.secret.get_secret_value())
    if target.command is not None and not (target.command and target.command[0].strip()):
        raise ConfigError(f"{field}.command", None, "must start with a program: [/usr/local/bin/tell, --team, data]")


def _check_webhook(field: str, address: str) -> None:
    try:
        parts = urlsplit(address)
        plain = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
    except ValueError:
        plain = None
    if not plain or not address.isascii() or not address.isprintable() or " " in address:
        raise ConfigError(field, None, "must be `https://host/path` (or http), in ASCII and without spaces")
    if "@" in parts.netloc or parts.fragment:
        reason = (
            "must have neither a user, nor a password, nor a fragment: who asks is known by `secret`, or by the path"
        )
        raise ConfigError(field, None, reason)


def _check_secret(field: str, secret: str) -> None:
    if not _TOKEN.fullmatch(secret):
        reason = "must be 16 printable ASCII characters at least, without spaces: `openssl rand -hex 32` makes one"
        raise ConfigError(field, None, reason)
    try:
        signing_key(secret)
    except binascii.Error:
        raise ConfigError(field, None, "starts with `whsec_`, so the rest must be base64; or leave that out") from None


def signing_key(secret: str) -> bytes:
    """What a webhook's secret stands for: after `whsec_` base64, as standardwebhooks.com has it; else its own bytes.

    Raises binascii.Error.
    """
    encoded = secret.removeprefix("whsec_")
    return secret.encode() if encoded == secret else base64.b64decode(encoded, validate=True)


def _check_format(field: str, format_: object) -> None:
    if not isinstance(format_, AvroFormat):
        return
    given = {"schema": format_.schema_file, "schemas": format_.schemas, "registry": format_.registry}
    names = [name for name, value in given.items() if value]
    if names[1:]:
        plain = "`schema` for plain values, `schemas` or `registry` for values framed with an id"
        shown = str(format_.schema_file) if names[0] == "schema" else None
        raise ConfigError(f"{field}.{names[0]}", shown, f"excludes `{names[1]}`: keep {plain}")
    if not names:
        reason = "is required with avro (an .avsc file), or `schemas` (id -> file), or `registry`"
        raise ConfigError(f"{field}.schema", None, reason)
    files = {"schema": format_.schema_file, "reader": format_.reader}
    if format_.registry:
        _check_registry(f"{field}.registry", format_.registry)
        files["registry.ca"] = format_.registry.ca
    files |= {f"schemas.{number}": path for number, path in (format_.schemas or {}).items()}
    for name, path in files.items():
        if path is not None and not path.is_file():
            raise ConfigError(f"{field}.{name}", str(path), "there is no such file: correct the path")


def _check_patience(settings: Settings) -> None:
    """Whether an id's time can be over before the daemon gives up; a new life would begin it anew."""
    most = settings.retry.give_up_after_ms
    for name, format_ in (("format", settings.format), ("key_format", settings.key_format)):
        registry = format_.registry if isinstance(format_, AvroFormat) else None
        if registry and most is not None and most <= registry.unknown_id_after_ms:
            reason = f"must be less than retry.give_up_after_ms ({most}), or the daemon stops at each unknown id"
            raise ConfigError(f"{name}.registry.unknown_id_after_ms", registry.unknown_id_after_ms, reason)


def _check_registry(field: str, registry: RegistrySettings) -> None:
    try:
        parts = urlsplit(registry.url)
        valid = parts.hostname and parts.port != 0  # it raises for a wrong port
    except ValueError:
        raise ConfigError(f"{field}.url", None, "is no address: https://, a host and perhaps a path") from None
    if "@" in parts.netloc:
        raise ConfigError(f"{field}.url", None, "must not hold credentials: put them into `username` and `password`")
    if not valid or parts.query or parts.fragment or not _URL.fullmatch(registry.url):
        reason = "must be http:// or https://, a host and perhaps a path, in ASCII, without `?` and `#`"
        raise ConfigError(f"{field}.url", None, reason)
    if (registry.username is None) is not (registry.password is None):
        missing = "password" if registry.password is None else "username"
        raise ConfigError(f"{field}.{missing}", None, "is required: `username` and `password` belong together")
    if registry.token is None:
        return
    if registry.username is not None:
        raise ConfigError(f"{field}.token", None, "excludes `username` and `password`: keep one of them")
    if not _PRINTABLE.fullmatch(registry.token.get_secret_value()):
        raise ConfigError(f"{field}.token", None, "must be printable ASCII characters, without spaces")


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

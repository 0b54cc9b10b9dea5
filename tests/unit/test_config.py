"""Settings: what is taken, and how each wrong file is told."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from consumer.config import AvroFormat, Settings, load, parse
from consumer.config.model import METADATA
from consumer.config.properties import REFUSED
from consumer.config.reading import MAX_BYTES
from consumer.config.rules import feeds_itself
from consumer.config.showing import explain, json_schema
from consumer.errors import ConfigError

CANARY = "canary-7f3a"
NO_ADDRESS = ("x:8081", "ftp://x", "https://", "https://x/?a=1", "https://x/#a", "https://x y", "https://\N{SNOWMAN}")
ROOT = Path(__file__).parents[2]
SMALLEST: dict[str, Any] = {
    "kafka": {"bootstrap.servers": "localhost:9092", "group.id": "orders"},
    "topics": ["orders"],
    "format": "json",
    "sink": {"dsn": f"postgresql://me:{CANARY}@db/shop"},
}


def with_changes(**changes: Any) -> dict[str, Any]:
    """The smallest configuration with `path__of__setting=value`; None: without it."""
    settings = copy.deepcopy(SMALLEST)
    for path, value in changes.items():
        *steps, last = path.split("__")
        place = settings
        for step in steps:
            place = place.setdefault(step, {})
        place.pop(last, None) if value is None else place.update({last: value})
    return settings


def kafka(**properties: Any) -> dict[str, Any]:
    settings = copy.deepcopy(SMALLEST)
    settings["kafka"] |= {name.replace("_", "."): value for name, value in properties.items()}
    return settings


def notify(**target: Any) -> dict[str, Any]:
    return with_changes(notify=[target])


def registry(url: str = "https://x/api", schema: str | None = None, **settings: Any) -> dict[str, Any]:
    """A Schema Registry; and, beside it, other schemas."""
    format_ = {"type": "avro", "registry": {"url": url}} | ({"schema": schema} if schema else {})
    for name in ("schemas", "registry"):
        format_ |= {name: settings.pop(name)} if name in settings else {}
    format_["registry"] |= settings
    return with_changes(format=format_)


def table(**settings: Any) -> dict[str, Any]:
    return with_changes(sink__tables={"stock": settings})


def without_a_place(**changes: Any) -> dict[str, Any]:
    """Dead letters that can go nowhere: no topic, and no table."""
    settings = with_changes(delivery="at_least_once", **changes)
    settings.setdefault("dead_letter", {})["topic"] = None
    return settings


def complaint(written: dict[str, Any]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(written)
    return caught.value


def test_the_smallest_file_gets_every_default(tmp_path: Path) -> None:
    """The smallest file that works is four lines."""
    file = tmp_path / "config.yaml"
    file.write_text(
        "kafka: {bootstrap.servers: x, group.id: g}\ntopics: [t]\nformat: json\nsink: {dsn: 'sqlite:///x.db'}\n"
    )
    settings = load(file)
    assert (settings.batch.max_records, settings.delivery, settings.format.type) == (20_000, "exactly_once", "json")


@pytest.mark.parametrize(
    ("written", "field", "words"),
    [
        (with_changes(batch__max_recrods=1), "batch.max_recrods", "did you mean `max_records`?"),
        (with_changes(fomat="json"), "fomat", "did you mean `format`?"),
        (with_changes(admin__x=1), "admin.x", "there are: enabled, host, port"),
        (with_changes(format={"type": "avro", "shema": "x"}), "format.shema", "did you mean `schema`?"),
        (table(colums={}), "sink.tables.stock.colums", "did you mean `columns`?"),
        (with_changes(batch__max_records="many"), "batch.max_records", "whole number (got 'many')"),
        (with_changes(batch__max_records=True), "batch.max_records", "whole number"),
        (with_changes(batch__max_records=0), "batch.max_records", "at least 1 (got 0)"),
        (with_changes(batch__max_bytes="8 parsecs"), "batch.max_bytes", "8MiB"),
        (with_changes(admin__port=70_000), "admin.port", "at most 65535 (got 70000)"),
        (with_changes(admin__enabled="maybe"), "admin.enabled", "true or false"),
        (with_changes(topics="orders"), "topics", "must be a list"),
        (with_changes(topics=[]), "topics", "must not be empty"),
        (with_changes(topics=[5]), "topics.0", "in quotes (got 5)"),
        (with_changes(topics=None), "topics", "is required: names"),
        (with_changes(sink__dsn=None), "sink.dsn", "is required: `postgresql"),
        (with_changes(sink="text"), "sink", "must be a mapping"),
        (with_changes(delivery="twice"), "delivery", "must be 'exactly_once' or 'at_least_once' (got 'twice')"),
        (with_changes(format="xml"), "format", "`type` must be one of 'json', 'avro', 'raw' (got 'xml')"),
        (with_changes(format={"schema": "x"}), "format", "needs `type`"),
        (with_changes(format=["json"]), "format", "must be a mapping"),
        (with_changes(format="avro"), "format.schema", "is required with avro"),
        (with_changes(format={"type": "avro", "schemas": {"x": "y"}}), "format.schemas.x", "whole number (got 'x')"),
        (with_changes(format={"type": "avro", "schema": "no.avsc"}), "format.schema", "no such file"),
        (with_changes(format={"type": "avro", "schema": "a", "schemas": {1: "b"}}), "format.schema", "excludes"),
        (registry(schemas={1: "b"}), "format.schemas", "excludes `registry`"),
        (registry(schema="a"), "format.schema", "excludes `registry`"),
        (registry(registry={}), "format.registry.url", "is required"),
        *((registry(url), "format.registry.url", "must be http:// or https://, a host") for url in NO_ADDRESS),
        (registry("https://[x"), "format.registry.url", "is no address"),
        (registry("https://x:99999"), "format.registry.url", "is no address"),
        (registry(f"https://me:{CANARY}@x"), "format.registry.url", "must not hold credentials"),
        (registry(username="me"), "format.registry.password", "belong together"),
        (registry(password=CANARY), "format.registry.username", "belong together"),
        (registry(token=CANARY, username="me", password=CANARY), "format.registry.token", "excludes `username`"),
        (registry(token=f"{CANARY}\n"), "format.registry.token", "printable ASCII"),
        (registry(token=["x"]), "format.registry.token", "text"),
        (registry(ca="no.pem"), "format.registry.ca", "no such file"),
        (registry(unknown_id_after_ms=-1), "format.registry.unknown_id_after_ms", "at least 0"),
        (
            registry() | {"retry": {"give_up_after_ms": 300_000}},
            "format.registry.unknown_id_after_ms",
            "less than retry.give_up_after_ms (300000)",
        ),
        (with_changes(start="2026-01-31"), "start", "needs a zone"),
        (with_changes(start=2026), "start", "must be `earliest`, `latest` or a time"),
        (with_changes(topics=["a", "a"]), "topics.1", "twice"),
        (with_changes(topics=["^a("]), "topics.0", "no regular expression"),
        (with_changes(topics=["^a\\d"]), "topics.0", "[0-9]"),
        (with_changes(topics=["a/b"]), "topics.0", "no topic name"),
        (table(mode="increment"), "sink.tables.stock.add", "is required with mode increment"),
        (table(add=["n"]), "sink.tables.stock.add", "belongs to mode increment"),
        (table(mode="increment", key=["n"], add=["n"]), "sink.tables.stock.add", "matched by or added up"),
        (table(key=["n", "n"]), "sink.tables.stock.key", "is there twice"),
        (table(version="v"), "sink.tables.stock.version", "belongs to the modes upsert and delete"),
        (table(topics=["oders"]), "sink.tables.stock.topics", "did you mean `orders`?"),
        (table(columns={"c": "$offest"}), "sink.tables.stock.columns.c", "did you mean `$offset`?"),
        (table(columns={"c": "$topic.x"}), "sink.tables.stock.columns.c", "has no fields"),
        (table(columns={"c": ""}), "sink.tables.stock.columns.c", "must be a field"),
        (table(columns={"c": {"constant": 1}}), "sink.tables.stock.columns.c.constant", "did you mean `const`?"),
        (table(columns={"c": {"const": [1]}}), "sink.tables.stock.columns.c.const", "must be a text, a number"),
        (table(unknown="keep"), "sink.tables.stock.unknown", "'drop' or 'reject' (got 'keep')"),
        (table(unknown={"column": "c"}, columns={"c": "a"}), "sink.tables.stock.unknown.column", "already"),
        (
            with_changes(topics=["a", "b"], sink__tables={"t": {"topics": ["a"]}}),
            "topics.1",
            "goes into no table",
        ),
        (with_changes(format={"type": "json", "on_null": "delete"}), "sink.tables", "must be upsert or delete"),
        (with_changes(transform="pipeline.explode"), "transform", "must be `module:function`"),
        (with_changes(transform="a:b", sink__tables={"t": {"columns": {}}}), "sink.tables.t.columns", "excluded by"),
        (with_changes(transform="a:b", format={"type": "json", "on_null": "delete"}), "format.on_null", "excluded by"),
        (with_changes(format="raw"), "sink.tables", "{body: $value}"),
        (with_changes(format="raw", sink__tables={"t": {}}), "sink.tables.t.columns", "{body: $value}"),
        (
            with_changes(format="raw", sink__tables={"t": {"columns": {"c": "a"}}}),
            "sink.tables.t.columns.c",
            "have no fields",
        ),
        (with_changes(sink__dsn="mysql://me@db/x"), "sink.dsn", "no other sinks"),
        (with_changes(sink__dsn="shop"), "sink.dsn", "must be"),
        (with_changes(sink__dsn=""), "sink.dsn", "is empty"),
        (with_changes(sink__write_deadline_ms=75_000), "sink.write_deadline_ms", "above 300000"),
        (with_changes(dead_letter__topic="lost"), "dead_letter.topic", "must hold `{topic}` once"),
        (with_changes(dead_letter__topic="{topic}.{topic}"), "dead_letter.topic", "must hold `{topic}` once"),
        (with_changes(dead_letter__topic="{topic}"), "dead_letter.topic", "is the topic itself"),
        (with_changes(dead_letter__topic="{topic}/dlq"), "dead_letter.topic", "makes no topic name (at most 249"),
        (with_changes(topics=["o" * 246]), "dead_letter.topic", "makes no topic name of ooo"),
        (with_changes(topics=["orders", "orders.dlq"]), "topics.1", "remove it, or change dead_letter.topic"),
        (with_changes(topics=["^order"]), "topics.0", "means order.dlq too"),
        (with_changes(topics=["orders", "^orders[.]d.*"]), "topics.1", "means orders.dlq too"),
        (with_changes(topics=["^(orders|items).*"]), "topics.0", "would be read again as records"),
        (with_changes(topics=["^.*"], dead_letter__topic="dlq.{topic}"), "topics.0", "change dead_letter.topic"),
        (without_a_place(), "dead_letter.topic", "is required with delivery at_least_once"),
        (with_changes(dead_letter__max_ratio=1.5), "dead_letter.max_ratio", "at most 1"),
        (with_changes(dead_letter__max_ratio="half"), "dead_letter.max_ratio", "a number from 0 to 1 (got 'half')"),
        (with_changes(dead_letter__max_ratio=True), "dead_letter.max_ratio", "a number from 0 to 1"),
        (with_changes(dead_letter__headers="mine"), "dead_letter.headers", "'kip-1191', 'connect' or 'spring'"),
        (with_changes(retry__give_up_after_ms="never"), "retry.give_up_after_ms", "whole number (got 'never')"),
        (with_changes(sink__errors={"2350": "stop"}), "sink.errors.2350", "must be a SQLSTATE"),
        (with_changes(sink__errors={23503: "stop"}), "sink.errors.23503", "put it in quotes"),
        (with_changes(sink__errors={"23503": "skip"}), "sink.errors.23503", "must be 'reject', 'retry'"),
        (with_changes(sink__errors={"SQLITE_BUSY": "stop"}), "sink.errors.SQLITE_BUSY", "another database"),
        (with_changes(sink__errors={"57": "reject"}), "sink.errors.57", "it is an outage"),
        (with_changes(sink__errors={"57P01": "reject"}), "sink.errors.57P01", "it is an outage"),
        (kafka(max_poll_interval_ms=1000), "sink.write_deadline_ms", "kafka.max.poll.interval.ms (1000)"),
        (kafka(session_timeout_ms="soon"), "kafka.session.timeout.ms", "whole number of milliseconds"),
        (kafka(group_protocol="consumer", session_timeout_ms=6000), "kafka.session.timeout.ms", "the broker decides"),
        (kafka(group_protocol="CONSUMER", heartbeat_interval_ms=1), "kafka.heartbeat.interval.ms", "broker decides"),
        (kafka(enable_ssl_certificate_verification=False), "kafka.enable.ssl.certificate.verification", "ssl.ca"),
        (with_changes(kafka__error_cb="x"), "kafka.error_cb", "it is code"),
        (with_changes(kafka__x=[1]), "kafka.x", "must be a text, a number"),
        (with_changes(kafka={"group.id": "g"}), "kafka.bootstrap.servers", "is required"),
        (with_changes(kafka={"bootstrap.servers": "x", "group.id": " "}), "kafka.group.id", "is required"),
        (with_changes(runs__keep=-1), "runs.keep", "at least 0"),
        (notify(), "notify.0", "either `webhook` or `command`"),
        (notify(webhook="https://h", command=["tell"]), "notify.0", "and not both"),
        (notify(webhook=f"ftp://{CANARY}"), "notify.0.webhook", "must be `https://host/path`"),
        (notify(webhook=f"https://{CANARY}:70000/"), "notify.0.webhook", "must be `https://host/path`"),
        (notify(webhook=f"https://h/{CANARY}\n"), "notify.0.webhook", "without spaces"),
        (notify(webhook=f"https://me:{CANARY}@h"), "notify.0.webhook", "neither a user, nor a password"),
        (notify(webhook="https://h", secret="short"), "notify.0.secret", "16 printable ASCII characters"),
        (notify(webhook="https://h", secret=f"whsec_{CANARY}.."), "notify.0.secret", "the rest must be base64"),
        (notify(command=["tell"], secret=CANARY * 2), "notify.0.secret", "belongs to a webhook"),
        (notify(command=[]), "notify.0.command", "must start with a program"),
        (notify(command=CANARY), "notify.0.command", "must be a list"),
        (notify(command=["tell"], events=["ended"]), "notify.0.events.0", "must be 'started', 'milestone'"),
        (notify(command=["tell"], events=[]), "notify.0.events", "must not be empty"),
        (notify(command=["tell"], min_interval_ms=-1), "notify.0.min_interval_ms", "at least 0"),
        (notify(webhok="https://h"), "notify.0.webhok", "did you mean `webhook`?"),
        (with_changes(notify=f"https://{CANARY}"), "notify", "must be a list"),
        (with_changes(notify=[f"https://{CANARY}"]), "notify.0", "must be a mapping"),
    ],
)
def test_a_wrong_setting_is_named_with_what_to_do(written: dict[str, Any], field: str, words: str) -> None:
    """One sentence: the field, the reason, what to do, and the value."""
    error = complaint(written)
    assert error.field == field
    assert words in str(error)
    assert "\n" not in str(error)
    assert CANARY not in str(error)


@pytest.mark.parametrize(
    "written",
    [
        with_changes(topics=["^orders[a-z-]*$"]),
        with_changes(topics=["^(orders|items)$", "other.dlq"]),
        with_changes(topics=["^orders.*"], dead_letter__topic="dlq.{topic}"),
        with_changes(topics=["o" * 245]),
        without_a_place(dead_letter__max_consecutive=0, dead_letter__on_limit="stop"),
        with_changes(sink__errors={"23503": "retry", "P0": "stop", "40001": "reconnect", "57014": "reject"}),
        with_changes(sink={"dsn": "sqlite:///x.db", "errors": {"SQLITE_CONSTRAINT_TRIGGER": "stop"}}),
        with_changes(dead_letter__max_ratio=1, retry__give_up_after_ms=0),
        notify(webhook="http://[::1]:8080/a?b=c", secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", min_interval_ms=0),
        notify(command=["tell", "--team", "data"], events=["failed", "held"]),
    ],
)
def test_what_is_safe_is_not_refused(written: dict[str, Any]) -> None:
    """The rules on dead letters and errors leave what works."""
    assert isinstance(parse(written), Settings)


def test_topics_that_feed_themselves_are_found_by_name() -> None:
    """What no expression tells, the names of the cluster's topics do: read, and full of dead letters of what is read.

    Dead letters of a topic that is not read here are records like others.
    """
    names = ["orders", "orders.dlq", "orders.dlq.dlq", "items.dlq", "other"]
    assert feeds_itself(["^(orders|items)", "other"], "{topic}.dlq", names) == [
        "items.dlq",
        "orders.dlq",
        "orders.dlq.dlq",
    ]
    assert feeds_itself(["orders", "items.dlq"], "{topic}.dlq", names) == []
    assert feeds_itself(["^orders"], "dlq.{topic}", names) == []


@pytest.mark.parametrize("name", REFUSED)
def test_unsafe_properties_are_refused_with_the_reason(name: str) -> None:
    """What would lose records or run code is refused, and its value not repeated."""
    written = copy.deepcopy(SMALLEST)
    written["kafka"][name] = CANARY
    error = complaint(written)
    assert error.field == f"kafka.{name}"
    assert REFUSED[name] in str(error)
    assert CANARY not in str(error)


@pytest.mark.parametrize(
    "written",
    [
        with_changes(sink=f"postgresql://me:{CANARY}@db"),
        with_changes(sink__dsn=None, sink__dns=CANARY),
        with_changes(sink__dsn={CANARY: CANARY}),
        with_changes(kafka__ssl=CANARY, kafka=[CANARY]),
        kafka(sasl_password=[CANARY]),
        with_changes(transform=f"postgresql://me:{CANARY}@db/shop"),
        with_changes(delivery=f"host=db password={CANARY}"),
        with_changes(delivery=f"host=db PASSWORD = 'a {CANARY}'"),
        with_changes(delivery=f"postgresql://me:a/b@{CANARY}@db/shop"),
        with_changes(sink__dsn=f"mysql://me:{CANARY}@db/shop"),
        registry(password={CANARY: CANARY}),
        registry(f"https://me:{CANARY}@x", ca=[]),
        with_changes(format={"type": "avro", "registry": f"https://me:{CANARY}@x"}),
        with_changes(key_format={"type": "avro", "registry": {"url": "https://x", "token": [CANARY]}}),
    ],
)
def test_a_secret_is_never_repeated(written: dict[str, Any]) -> None:
    """Wherever a password was put, no message holds it; a key that is itself one is the reader's to see."""
    error = complaint(written)
    assert CANARY not in str(error).replace(f"sink.dsn.{CANARY}", "")


def test_environment_variables_are_filled_in_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """`${NAME}` is that variable in any text; a complaint shows the name, not what it holds."""
    monkeypatch.setenv("MB_PORT", "9999")
    monkeypatch.setenv("MB_WORD", CANARY)
    assert parse(with_changes(admin__port="${MB_PORT}")).admin.port == 9999
    assert parse(with_changes(topics=["a-${MB_PORT}-b"])).topics == ["a-9999-b"]
    error = complaint(with_changes(batch__max_records="${MB_WORD}"))
    assert str(error) == "batch.max_records: must be a whole number (got '${MB_WORD}')"


@pytest.mark.parametrize(
    ("text", "words"), [("${NOT_SET_7}", "NOT_SET_7 is not set"), ("${a b}", "name"), ("${A", "name")]
)
def test_a_missing_variable_is_named(text: str, words: str) -> None:
    """The field and the variable that is missing, or that `${` is not finished."""
    error = complaint(with_changes(sink__dsn=text))
    assert error.field == "sink.dsn"
    assert words in str(error)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"# only a comment\n", "is empty"),
        (b"- a\n- b\n", "must be a mapping"),
        (b"text", "must be a mapping"),
        (b"a: 1\na: " + CANARY.encode(), "the key `a` is there twice: remove one (line 2)"),
        (b"a: [" + CANARY.encode(), "is not YAML"),
        (b"a: @" + CANARY.encode(), "cannot start any token (line 1)"),
        (b"a: &x 1\nb: *x", "alias (*x), in line 2"),
        (b"a: !!python/object:os.system " + CANARY.encode(), "uses a tag"),
        (b"a: !!str 1", "uses a tag"),
        (b"a: 1\n---\nb: 2", "is not YAML"),
        (b"[" * 200, "nested deeper"),
        (b"{a: " * 5000, "nested deeper"),
        (b"- " * 5000, "nested deeper"),
        (b"a: " + b"9" * 10_000, "is not YAML"),
        (b"? {a: b}\n: c", "is not YAML"),
        (b"a: \x00", "control character"),
        (b"a: 1\nb: \xff", "not UTF-8, in line 2"),
        (b"a" * (MAX_BYTES + 1), "larger than"),
    ],
)
def test_a_file_that_is_no_plain_yaml_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """Bombs, tags, duplicates and broken text end in one sentence naming the file and line, never its text."""
    file = tmp_path / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert words in str(caught.value)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """A path where there is nothing, or a folder."""
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)


def test_schemas_are_looked_for_beside_the_file(tmp_path: Path) -> None:
    """Where the command is called does not matter."""
    (tmp_path / "order.avsc").write_text('"string"')
    file = tmp_path / "config.yaml"
    file.write_text(
        "kafka: {bootstrap.servers: x, group.id: g}\ntopics: [t]\nformat: {type: avro, schema: order.avsc}\n"
        "sink: {dsn: 'sqlite:///x.db'}\n"
    )
    settings = load(file)
    assert isinstance(settings.format, AvroFormat)
    assert settings.format.schema_file == tmp_path / "order.avsc"


RICH = with_changes(
    start="2026-01-31T08:00:00+02:00",
    batch={"max_bytes": "1MiB"},
    key_format={"type": "json"},
    topics=["orders", "items"],
    kafka__client={},
)
RICH["kafka"] = {**SMALLEST["kafka"], "sasl.password": CANARY, "ssl.key.password": CANARY, "fetch.min.bytes": 1}
RICH["sink"]["tables"] = {
    "stock": {"mode": "increment", "key": ["item"], "add": ["n"], "topics": ["items"]},
    "orders": {
        "mode": "upsert",
        "version": "at",
        "columns": {name[1:]: name for name in METADATA}
        | {"a": "$key.id", "b": {"const": None}, "c": "$headers.x-y.z"},
        "unknown": {"column": "rest"},
    },
}


TOKEN = {"key_format": {"type": "avro", "registry": {"url": "https://y", "token": CANARY}}}


@pytest.mark.parametrize("written", [SMALLEST, RICH, registry(username="me", password=CANARY) | TOKEN])
def test_the_explained_file_means_the_same_and_holds_no_secret(
    written: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is printed can be used as a file, once the secrets are put in again."""
    settings = parse(written)
    text = explain(settings)
    assert CANARY not in text
    file = tmp_path / "config.yaml"
    monkeypatch.setenv("MB_DSN", settings.sink.dsn.get_secret_value())
    text = text.replace("dsn: '***'", "dsn: ${MB_DSN}").replace("'***'", CANARY)
    file.write_text(text)
    assert load(file) == settings


def test_who_is_notified_is_shown_without_the_keys_to_it() -> None:
    """Addresses of webhooks are such keys, arguments may be."""
    targets = [{"webhook": f"https://h/{CANARY}", "secret": CANARY * 2}, {"command": ["tell", f"--token={CANARY}"]}]
    settings = parse(with_changes(notify=targets))
    assert CANARY not in explain(settings) + repr(settings.notify[0])
    assert "- tell\n  - '***'\n" in explain(settings)


def test_the_schema_names_every_setting_and_refuses_others() -> None:
    """The JSON Schema has all of the model's names, also where a setting may be a word or a mapping."""
    schema = json_schema()
    assert set(schema["properties"]) == set(Settings.model_fields)
    models = [part for part in schema["$defs"].values() if "properties" in part]
    assert all(part["additionalProperties"] is False for part in [schema, *models])
    words = [part.get("enum") for part in schema["properties"]["format"]["anyOf"]]
    assert ["json", "avro", "raw"] in words

"""Wrong set-ups through the real command: an exit code and one sentence, no traceback, no secret."""

from __future__ import annotations

import json
import socket
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.command import ended, start

CANARY = "canary-3e81"
KAFKA = "{bootstrap.servers: localhost:1, group.id: g, sasl.password: " + CANARY + "}"
DSN = f"postgresql://me:{CANARY}@localhost:1/shop"


def config(folder: Path, **settings: str) -> Path:
    """A file with these top-level settings as YAML text; an empty text leaves one out."""
    lines = {"kafka": KAFKA, "topics": "[orders]", "format": "json", "sink": f"{{dsn: '{DSN}'}}"}
    lines |= {"admin": "{enabled: false}"} | settings
    file = folder / "config.yaml"
    file.write_text("".join(f"{name}: {text}\n" for name, text in lines.items() if text))
    return file


def assert_told(file: Path, code: int, *words: str, commands: Sequence[str] = ("run", "check")) -> None:
    """Both commands end so, and say these words; they run side by side."""
    for command, process in [(command, start(command, file)) for command in commands]:
        done = ended(process)
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        assert all(word in said for word in words), said
        assert "Traceback" not in said
        assert CANARY not in said
        if command == "run":
            assert len([line for line in done.stderr.splitlines() if line.startswith("error: ")]) == 1


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"batch": "{max_recrods: 5}"}, ["batch.max_recrods", "did you mean `max_records`?"]),
        ({"batch": "{max_records: many}"}, ["batch.max_records", "whole number", "'many'"]),
        ({"topics": "orders"}, ["topics", "must be a list"]),
        ({"sink": ""}, ["sink", "is required"]),
        ({"sink": "{dsn: '${NOT_SET_7}'}"}, ["sink.dsn", "NOT_SET_7 is not set"]),
        ({"sink": f"{{dns: '{DSN}'}}"}, ["sink.dns", "did you mean `dsn`?"]),
        ({"format": "{type: avro, schema: a.avsc, schemas: {1: b.avsc}}"}, ["format.schema", "excludes `schemas`"]),
        ({"format": "avro"}, ["format.schema", "is required"]),
        ({"format": "{type: avro, schema: none.avsc}"}, ["format.schema", "no such file", "none.avsc"]),
        ({"kafka": "{bootstrap.servers: x, group.id: g, enable.auto.commit: true}"}, ["enable.auto.commit", "refused"]),
        ({"kafka": "{bootstrap.servers: x, group.id: g, fetch.min.bites: 1}"}, ["kafka.fetch.min.bites", "librdkafka"]),
        ({"kafka": "{bootstrap.servers: x, group.id: g, isolation.level: x}"}, ["kafka.isolation.level", "'x'"]),
        ({"topics": "[orders]\ntopics: [items]"}, ["`topics` is there twice", "line 3"]),
        ({"topics": "["}, ["is not YAML"]),
        ({"topics": "&x [orders]\nformat: *x", "format": ""}, ["alias"]),
    ],
)
def test_a_wrong_file_is_exit_2(tmp_path: Path, settings: dict[str, str], words: list[str]) -> None:
    """Nothing is started, and one sentence names the setting and what to do; `check` says the same."""
    (tmp_path / "a.avsc").write_text('"string"')
    assert_told(config(tmp_path, **settings), 2, *words)


def test_a_missing_file_is_exit_2(tmp_path: Path) -> None:
    """The path is named."""
    assert_told(tmp_path / "none.yaml", 2, "none.yaml", "No such file")


def test_a_broker_that_is_not_there_is_exit_1(tmp_path: Path) -> None:
    """At the start a Kafka that does not answer is an error that names bootstrap.servers, not a wait for ever."""
    database = tmp_path / "shop.db"
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("create table orders (id integer primary key)")
    file = config(
        tmp_path, kafka="{bootstrap.servers: '127.0.0.1:1', group.id: g}", sink=f"{{dsn: 'sqlite:///{database}'}}"
    )
    assert_told(file, 1, "bootstrap.servers", "127.0.0.1:1")


def test_a_port_in_use_is_exit_2(tmp_path: Path) -> None:
    """The setting and the port are named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        file = config(tmp_path, admin=f"{{port: {port}}}")
        assert_told(file, 2, "admin.port", str(port), commands=["run"])


def test_a_transform_that_cannot_be_imported_is_exit_2(tmp_path: Path) -> None:
    """The setting and the module are named."""
    assert_told(config(tmp_path, transform="no_such_module_7:f"), 2, "transform", "no_such_module_7", commands=["run"])


@pytest.fixture
def topic(kafka: str) -> str:
    """A topic with one record, `{"id": 1, "name": "x"}`."""
    name = f"orders_{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})  # held: its futures die with it
    admin.create_topics([NewTopic(name, 1, 1)])[name].result()
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(name, json.dumps({"id": 1, "name": "x"}).encode())
    assert producer.flush(30) == 0
    return name


@pytest.mark.parametrize("sink", ["postgres", "sqlite"])
@pytest.mark.parametrize(
    ("columns", "table", "words"),
    [
        (None, "{}", ["there is no", "orders"]),
        ("id bigint primary key", "{columns: {nope: $topic}}", ["no column nope"]),
        ("id bigint primary key, name text", "{mode: upsert, key: [name]}", ["name", "unique"]),
        ("id bigint, name text", "{mode: upsert}", ["key"]),
    ],
)
def test_a_database_that_does_not_fit_is_exit_1(
    kafka: str,
    topic: str,
    dsn: str,
    tmp_path: Path,
    sink: str,
    columns: str | None,
    table: str,
    words: list[str],
) -> None:
    """A missing table or column, and a key that is not unique or not there, are named; nothing is written."""
    create = f"create table {topic} ({columns})"
    if sink == "postgres":
        target = make_conninfo(**conninfo_to_dict(dsn) | {"password": CANARY})
        if columns:
            with psycopg.connect(dsn, autocommit=True) as connection:
                connection.execute(create)
    else:
        target = f"sqlite:///{tmp_path / 'shop.db'}"
        with closing(sqlite3.connect(tmp_path / "shop.db")) as database:
            database.execute(create if columns else "create table other (id integer)")
    file = config(
        tmp_path,
        kafka=f"{{bootstrap.servers: '{kafka}', group.id: {topic}}}",
        topics=f"[{topic}]",
        sink=json.dumps({"dsn": target, "tables": {topic: "T"}}).replace('"T"', table),
    )
    assert_told(file, 1, topic, *[word.replace("orders", topic) for word in words])


@pytest.mark.parametrize(
    "sink", [f"postgresql://me:{CANARY}@127.0.0.1:1/shop?connect_timeout=2", "sqlite:////nowhere/shop.db"]
)
def test_a_database_that_is_not_there_fails_the_check(kafka: str, topic: str, tmp_path: Path, sink: str) -> None:
    """The daemon would wait for a server; `check` says that it is away, without the password."""
    kafka_settings = f"{{bootstrap.servers: '{kafka}', group.id: {topic}}}"
    file = config(tmp_path, kafka=kafka_settings, topics=f"[{topic}]", sink=f"{{dsn: '{sink}'}}")
    assert_told(file, 1, "FAIL  database", "sink.dsn", f"ok    topic {topic}", commands=["check"])

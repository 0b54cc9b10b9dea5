"""`check` on a real Kafka and real databases."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg.conninfo import make_conninfo

from consumer.check import Finding, findings
from consumer.config import parse
from tests.command import microbatch


def create(kafka: str, *topics: NewTopic) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})  # held: its futures die with it
    for created in admin.create_topics([*topics]).values():
        created.result()


@pytest.fixture
def topic(kafka: str) -> str:
    """A topic of two partitions with five records, and a place for its dead letters."""
    name = f"check_{uuid.uuid4().hex[:8]}"
    create(kafka, NewTopic(name, 2, 1), NewTopic(f"{name}.dlq", 1, 1, config={"retention.ms": "-1"}))
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(5):
        producer.produce(name, json.dumps({"id": number}).encode(), partition=number % 2)
    assert producer.flush(30) == 0
    return name


@pytest.fixture
def sqlite_dsn(topic: str, tmp_path: Path) -> str:
    """A file with a table for the topic."""
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection:
        connection.execute(f"create table {topic} (id integer primary key, name text)")
    return f"sqlite:///{tmp_path / 'shop.db'}"


def look(
    kafka: str, topic: str, dsn: str, properties: Mapping[str, Any] | None = None, **changes: Any
) -> list[Finding]:
    written = {
        "kafka": {"bootstrap.servers": kafka, "group.id": topic, **(properties or {})},
        "topics": [topic],
        "format": "json",
        "sink": {"dsn": dsn},
    }
    return list(findings(parse(written | changes)))


def failures(found: list[Finding]) -> list[str]:
    # The test server runs without fsync, which is worth a warning anywhere else.
    return [f"{one.subject}: {one.message}" for one in found if not one.ok and "fsync is off" not in one.message]


def test_all_is_well(kafka: str, topic: str, sqlite_dsn: str, tmp_path: Path) -> None:
    """One line for each thing, in order, all ok, and exit 0."""
    file = tmp_path / "config.yaml"
    file.write_text(
        f"kafka: {{bootstrap.servers: '{kafka}', group.id: {topic}}}\ntopics: [{topic}]\nformat: json\n"
        f"sink: {{dsn: '{sqlite_dsn}'}}\n"
    )
    done = microbatch("check", file)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    lines = done.stdout.splitlines()
    assert all(line.startswith("ok    ") for line in lines)
    subjects = [line.removeprefix("ok    ").split(": ")[0] for line in lines]
    table = f"table {topic}"
    topics = [f"topic {topic}", f"topic {topic}.dlq"]
    assert subjects == ["configuration", "properties", "kafka", *topics, "database", table, table, "tables"]
    assert "2 partitions, about 5 records" in lines[3]
    assert "keeps them whatever their age" in lines[4]


@pytest.mark.parametrize("delivery", ["exactly_once", "at_least_once"])
def test_a_topic_that_would_forget_dead_letters_is_told(kafka: str, topic: str, sqlite_dsn: str, delivery: str) -> None:
    """They have their records' times, so that retention takes old ones at once: bad where no table keeps them."""
    create(kafka, NewTopic(f"{topic}.rest", 1, 1))
    found = look(kafka, topic, sqlite_dsn, dead_letter={"topic": "{topic}.rest"}, delivery=delivery)
    (told,) = [one for one in found if one.subject == f"topic {topic}.rest"]
    assert told.ok is (delivery == "exactly_once")
    assert "set its retention.ms to -1" in told.message


def test_a_missing_topic_for_dead_letters_is_told(kafka: str, topic: str, sqlite_dsn: str) -> None:
    """It loses nothing, but nobody would read them there."""
    (failure,) = failures(look(kafka, topic, sqlite_dsn, dead_letter={"topic": "{topic}.nowhere"}))
    assert failure.startswith(f"topic {topic}.nowhere: there is no such topic for dead letters")


def test_nothing_is_changed(kafka: str, topic: str, dsn: str) -> None:
    """No offset table, no group: a check may be made by whom the daemon is not run by."""
    schema = f"s_{uuid.uuid4().hex}"
    own = make_conninfo(dsn, options=f"-csearch_path={schema}")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create schema {schema}")
        connection.execute(f"create table {schema}.{topic} (id bigint primary key)")
        assert failures(look(kafka, topic, own)) == []
        tables = connection.execute("select tablename from pg_tables where schemaname = %s", [schema]).fetchall()
    assert tables == [(topic,)]
    groups = AdminClient({"bootstrap.servers": kafka}).list_consumer_groups().result().valid
    assert topic not in [group.group_id for group in groups]


def test_topics_are_looked_for(kafka: str, topic: str, sqlite_dsn: str) -> None:
    """A missing topic is told with one of nearly its name; of an expression the topics that match are looked at."""
    found = look(kafka, topic, sqlite_dsn, topics=[f"{topic}x", f"^{topic[:-1]}.$", "^nothing_like_it$"])
    told = [one for one in found if one.subject.startswith("topic ")]
    assert [(one.subject, one.ok) for one in told] == [
        (f"topic {topic}x", False),
        (f"topic {topic}", True),
        ("topic ^nothing_like_it$", False),
        (f"topic {topic}.dlq", True),
    ]
    assert f"did you mean {topic}?" in told[0].message
    assert f"matches ^{topic[:-1]}.$" in told[1].message
    assert "no topic matches" in told[2].message


def test_after_a_failure_the_rest_is_looked_at(kafka: str, topic: str, sqlite_dsn: str) -> None:
    """A property that librdkafka refuses and a transform that is not there are the file's fault; the rest goes on."""
    found = look(kafka, topic, sqlite_dsn, properties={"fetch.min.bites": 1}, transform="no_such_module_7:f")
    wrong = {one.subject: one for one in found if not one.ok}
    assert set(wrong) == {"properties", "transform"}
    assert all(one.configuration for one in wrong.values())
    assert "kafka.fetch.min.bites" in wrong["properties"].message
    assert {"database", "tables"} <= {one.subject for one in found if one.ok}


def test_a_transform_is_called_by_name(kafka: str, topic: str, sqlite_dsn: str) -> None:
    """One that can be imported is well, and columns are its own affair."""
    found = look(kafka, topic, sqlite_dsn, transform="json:loads")
    assert failures(found) == []
    assert found[-1] == Finding("transform", True, "json:loads can be called")


def test_privileges_are_told(kafka: str, topic: str, dsn: str) -> None:
    """What the user may not do is named with the grant that is missing."""
    role = f"reader_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create table {topic} (id bigserial primary key, at timestamptz)")
        connection.execute(f"create role {role} login")
        connection.execute(f"grant select on {topic} to {role}")
        found = failures(look(kafka, topic, make_conninfo(dsn, user=role)))
        assert any(f'INSERT on "{topic}" is missing; grant it' in failure for failure in found), found
        sequence = f"USAGE on sequence {topic}_id_seq is missing"
        assert any(sequence in failure for failure in found), found
        connection.execute(f"grant usage on sequence {topic}_id_seq to {role}")
        assert not any(sequence in failure for failure in failures(look(kafka, topic, make_conninfo(dsn, user=role))))


def test_a_password_that_is_wrong_is_not_repeated(kafka: str, topic: str, dsn: str) -> None:
    """A database that refuses the user is a failure like others, told without the secret."""
    found = look(kafka, topic, make_conninfo(dsn, user="nobody_7", password="canary-3e81"))
    assert len(failures(found)) == 1
    assert "nobody_7" in failures(found)[0]
    assert "canary-3e81" not in str(found)


def test_schemas_are_held_against_columns(kafka: str, topic: str, dsn: str, tmp_path: Path) -> None:
    """A field that no value of fits its column is named with both types, before the first record."""
    schema = tmp_path / "a.avsc"
    fields = [{"name": "id", "type": "long"}, {"name": "at", "type": "string"}, {"name": "ok", "type": "boolean"}]
    schema.write_text(json.dumps({"type": "record", "name": "r", "fields": fields}))
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create table {topic} (id bigint primary key, at bytea, ok int, must text not null)")
    found = failures(look(kafka, topic, dsn, format={"type": "avro", "schema": str(schema)}))
    assert [failure.split(": ")[1] for failure in found] == [
        "field at is string, and column at is bytea, which takes none of it",
        "field ok is boolean, and column ok is integer, which takes none of it",
        "column must must have a value, and the schema has no field must",
    ]


def test_the_explained_file_holds_no_secret(tmp_path: Path) -> None:
    """`check --explain` needs no service, and prints every default."""
    file = tmp_path / "config.yaml"
    file.write_text(
        "kafka: {bootstrap.servers: x, group.id: g, sasl.password: canary-3e81}\ntopics: [t]\nformat: json\n"
        "sink: {dsn: '${TEST_DSN}'}\n"
    )
    done = microbatch("check", file, "--explain", TEST_DSN="host=x password=canary-3e81")
    assert done.returncode == 0
    assert "max_records: 20000" in done.stdout
    assert "canary-3e81" not in done.stdout + done.stderr


def test_the_schema_is_json() -> None:
    """`schema` prints what editors want."""
    done = microbatch("schema")
    assert done.returncode == 0
    assert json.loads(done.stdout)["properties"].keys() >= {"kafka", "topics", "format", "sink"}

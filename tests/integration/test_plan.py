"""`microbatch plan` on a real Kafka and real databases: it tells, and leaves no trace."""

from __future__ import annotations

import json
import signal
import sqlite3
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg.conninfo import make_conninfo

from tests.command import ended, microbatch, start
from tests.coordinator import require_coordinator
from tests.faults.waiting import until

GOOD = [json.dumps({"id": number, "n": number, "who": "x", "extra": 1}).encode() for number in range(20)]
UNDECODABLE = b'{"id": 100, "who": "canary-1", '
NEGATIVE = b'{"id": 101, "n": -1, "who": "canary-2"}'
NOBODY = b'{"id": 102, "n": 1, "who": null}'


@dataclass
class Shop:
    """A topic of two partitions, a table of its name, and a configuration file."""

    folder: Path
    kafka: str
    topic: str
    dsn: str
    execute: Callable[[str], list[Any]]
    tables: Callable[[], list[str]]

    def config(self, more: str = "") -> Path:
        file = self.folder / f"{uuid.uuid4().hex[:8]}.yaml"
        file.write_text(
            f"kafka: {{bootstrap.servers: '{self.kafka}', group.id: {self.topic}}}\ntopics: [{self.topic}]\n"
            f'format: json\nsink: {{dsn: "{self.dsn}"}}\nadmin: {{enabled: false}}\n{more}'
        )
        return file

    def produce(self, *values: bytes, partition: int = 0) -> None:
        producer = Producer({"bootstrap.servers": self.kafka})
        for value in values:
            producer.produce(self.topic, value, partition=partition)
        assert producer.flush(30) == 0

    def plan(self, *arguments: str, more: str = "") -> tuple[int, dict[str, Any]]:
        """Its exit code, and what it says."""
        done = microbatch("plan", self.config(more), "--json", *arguments)
        assert done.stderr == ""
        return done.returncode, json.loads(done.stdout)

    def everything(self) -> dict[str, list[Any]]:
        """Every table of the database and all that is in it; and what Kafka has of the group."""
        found = {table: sorted(map(repr, self.execute(f"select * from {table}"))) for table in self.tables()}
        asker = Consumer({"bootstrap.servers": self.kafka, "group.id": self.topic})
        partitions = [TopicPartition(self.topic, number) for number in (0, 1)]
        found["committed"] = [answer.offset for answer in asker.committed(partitions, timeout=10)]
        asker.close()
        return found

    def members(self) -> list[str]:
        admin = AdminClient({"bootstrap.servers": self.kafka})
        described = admin.describe_consumer_groups([self.topic])[self.topic].result()
        return [member.member_id for member in described.members]


def _sqlite(folder: Path, kafka: str, topic: str) -> Iterator[Shop]:
    with closing(sqlite3.connect(folder / "shop.db", isolation_level=None, timeout=10)) as lite:

        def execute(text: str) -> list[Any]:
            return lite.execute(text).fetchall()

        named = "select name from sqlite_schema where type = 'table'"
        yield Shop(
            folder,
            kafka,
            topic,
            f"sqlite:///{folder / 'shop.db'}",
            execute,
            lambda: [name for (name,) in execute(named)],
        )


def _postgres(folder: Path, kafka: str, topic: str, dsn: str) -> Iterator[Shop]:
    schema = f"plan_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(dsn, autocommit=True) as server:

        def execute(text: str) -> list[Any]:
            cursor = server.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

        named = f"select tablename from pg_tables where schemaname = '{schema}'"
        execute(f"create schema {schema}")
        execute(f"set search_path = {schema}")
        own = make_conninfo(dsn, options=f"-csearch_path={schema}")
        yield Shop(folder, kafka, topic, own, execute, lambda: [name for (name,) in execute(named)])
        execute(f"drop schema {schema} cascade")


@pytest.fixture(params=["postgres", "sqlite"])
def shop(request: pytest.FixtureRequest, kafka: str, tmp_path: Path) -> Iterator[Shop]:
    """In either database."""
    topic = f"plan_{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})  # held: its futures die with it
    names = [NewTopic(topic, 2, 1), NewTopic(f"{topic}.dlq", 1, 1, config={"retention.ms": "-1"})]
    for created in admin.create_topics(names).values():
        created.result()
    require_coordinator(kafka, topic, topic)
    made = (
        _sqlite(tmp_path, kafka, topic)
        if request.param == "sqlite"
        else _postgres(tmp_path, kafka, topic, request.getfixturevalue("dsn"))
    )
    for shop in made:
        shop.execute(
            f"create table {topic} (id bigint primary key, n bigint constraint positive check (n >= 0), "
            "who text not null, note text)"
        )
        yield shop


def offsets(told: dict[str, Any]) -> list[Sequence[int]]:
    return [(one["partition"], one["first"], one["last"]) for one in told["topics"][0]["offsets"]]


def test_a_good_topic(shop: Shop) -> None:
    """All would be written, exit 0; before the first run no table of microbatch's own is needed, and none is made."""
    shop.produce(*GOOD)
    shop.produce(*[value.replace(b'"id": ', b'"id": 50') for value in GOOD], partition=1)
    before = shop.everything()
    assert set(before) == {shop.topic, "committed"}
    code, told = shop.plan()
    assert code == 0
    (topic,) = told["topics"]
    counts = ("records", "decoded", "mapped", "filtered", "written", "rejected", "repeated")
    assert [topic[name] for name in counts] == [40, 40, 40, 0, 40, 0, 0]
    assert offsets(told) == [(0, 0, 19), (1, 0, 19)]
    assert topic["unmapped"] == ["extra"]
    assert told["tables"] == [{"table": shop.topic, "mode": "insert", "rows": 40, "unfed": ["note"]}]
    assert told["seconds"].keys() == {"map", "write"}
    assert told["records_per_second"] > 0
    assert shop.everything() == before


def test_bad_records(shop: Shop) -> None:
    """Each kind with its first coordinates and what to do, and no value of any; exit 1; the others are written."""
    shop.produce(GOOD[0], UNDECODABLE, NEGATIVE, GOOD[1], NOBODY, NEGATIVE.replace(b"101", b"103"), GOOD[0])
    before = shop.everything()
    done = microbatch("plan", shop.config())
    assert (done.returncode, done.stderr) == (1, "")
    assert "7 records" in done.stdout
    assert "6 decoded, 6 mapped, 0 filtered, 2 written, 5 rejected" in done.stdout
    assert f"(first: {shop.topic}/0/2)" in done.stdout
    assert "the constraint positive" in done.stdout
    assert "canary" not in done.stdout
    _, told = shop.plan()
    assert sorted((one["stage"], one["count"], one["offset"]) for one in told["rejections"]) == [
        ("decode", 1, 1),
        ("write", 1, 4),
        ("write", 1, 6),
        ("write", 2, 2),
    ]
    assert shop.everything() == before


def test_a_running_daemon_is_left_alone(shop: Shop) -> None:
    """No member more in its group, no epoch raised, no offset moved, no dead letter kept; and it goes on.

    At the end of the log the newest records are tried, whose keys are there by the group's own doing.
    """
    shop.produce(*GOOD, UNDECODABLE)
    daemon = start("run", shop.config())
    try:
        until(lambda: "microbatch_dead_letters" in shop.tables(), "the tables are made")
        until(lambda: shop.execute(f"select count(*) from {shop.topic}") == [(20,)], "all is written")
        published = "select state from microbatch_dead_letters"
        until(lambda: shop.execute(published) == [("published",)], "the dead letter is in its topic")
        until(lambda: shop.everything()["committed"][0] == 21, "Kafka is told")
        before, members = shop.everything(), shop.members()
        code, told = shop.plan("--records", "5")
        assert (code, offsets(told)) == (1, [(0, 16, 20)])
        assert (told["topics"][0]["repeated"], told["topics"][0]["rejected"]) == (4, 1)
        code, told = shop.plan("--records", "5", "--from", "earliest")
        assert (code, offsets(told)) == (0, [(0, 0, 4)])
        assert shop.everything() == before
        assert (len(members), shop.members()) == (1, members)
        shop.produce(GOOD[3].replace(b'"id": 3', b'"id": 77'))
        until(lambda: shop.execute(f"select count(*) from {shop.topic}") == [(21,)], "it goes on")
    finally:
        daemon.send_signal(signal.SIGTERM)
        done = ended(daemon)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count('"assigned"') == 1


def test_where_the_sample_begins(shop: Shop) -> None:
    """Where the group goes on, if there is something; else where the settings start."""
    shop.produce(*GOOD)
    _, told = shop.plan("--records", "4")
    assert offsets(told) == [(0, 0, 3)]
    _, told = shop.plan("--records", "4", "--from", "latest")
    assert offsets(told) == [(0, 16, 19)]
    _, told = shop.plan("--records", "4", more="start: latest\n")
    assert offsets(told) == [(0, 16, 19)]
    reset = microbatch(
        "offsets", "reset", shop.config(), "--topic", shop.topic, "--to", "10", "--partition", "0", "--yes"
    )
    assert reset.returncode == 0, reset.stderr
    _, told = shop.plan("--records", "4")
    assert offsets(told) == [(0, 10, 13)]


def test_an_empty_topic(shop: Shop) -> None:
    """Nothing to try is no fault."""
    done = microbatch("plan", shop.config())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == f"{shop.topic}: no records"


def test_a_transform_is_tried(shop: Shop) -> None:
    """What it makes is written; what it raises is told without its text."""
    (shop.folder / "shaping.py").write_text(
        "def shape(record):\n    if record.value['id'] == 1:\n        raise ValueError(record.value['who'])\n"
        "    return {'id': record.value['id'], 'who': 'nobody'}\n"
    )
    shop.produce(GOOD[0], GOOD[1].replace(b"x", b"canary-3"))
    config = shop.config("transform: shaping:shape\n")
    done = microbatch("plan", config, PYTHONPATH=str(shop.folder))
    assert (done.returncode, done.stderr) == (1, "")
    assert "the transform raised ValueError" in done.stdout
    assert "canary-3" not in done.stdout


def test_a_topic_that_is_not_there_is_the_files_fault(shop: Shop) -> None:
    """Exit 2, and it is named."""
    file = shop.config()
    file.write_text(file.read_text().replace(f"topics: [{shop.topic}]", "topics: [nowhere_7]"))
    done = microbatch("plan", file)
    assert done.returncode == 2
    assert "topics.0: there is no such topic" in done.stderr

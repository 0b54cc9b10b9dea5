"""`microbatch verify` on a real Kafka and real databases."""

from __future__ import annotations

import datetime
import json
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from consumer.cluster import KafkaCluster
from consumer.config import Settings, load
from consumer.letter import DeadLetter, Evidence, State
from consumer.sinks import Fence, Position
from consumer.sinks.opening import open_sink
from consumer.verify import Account, verify
from tests.command import microbatch
from tests.coordinator import require_coordinator

NOW = datetime.datetime.now(datetime.UTC)
EACH = 10


def create(kafka: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result()


@pytest.fixture
def topic(kafka: str) -> str:
    """Two partitions with ten records each."""
    name = f"verify_{uuid.uuid4().hex[:8]}"
    create(kafka, name)
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(2 * EACH):
        producer.produce(name, b"{}", partition=number % 2)
    assert producer.flush(30) == 0
    require_coordinator(kafka, name, name)
    return name


@pytest.fixture(params=["postgres", "sqlite"])
def config(request: pytest.FixtureRequest, kafka: str, topic: str, tmp_path: Path) -> Path:
    """A file for that topic, into either database."""
    if request.param == "postgres":
        dsn = request.getfixturevalue("dsn")
    else:
        sqlite3.connect(tmp_path / "shop.db").close()
        dsn = f"sqlite:///{tmp_path / 'shop.db'}"
    return written(tmp_path, kafka, topic, dsn)


def written(folder: Path, kafka: str, topic: str, dsn: str, more: str = "") -> Path:
    file = folder / f"{uuid.uuid4().hex}.yaml"
    tables = f"{{{topic}: {{}}}}" if dsn.startswith("sqlite") else "{}"
    file.write_text(
        f"kafka: {{bootstrap.servers: '{kafka}', group.id: {topic}}}\ntopics: [{topic}]\nformat: json\n"
        f"sink: {{dsn: '{dsn}', tables: {tables}}}\nadmin: {{enabled: false}}\n{more}"
    )
    return file


def letter(topic: str, offset: int, state: State = State.PUBLISHED, failed_at: datetime.datetime = NOW) -> DeadLetter:
    evidence = Evidence("decode", "DecodeError", "not JSON")
    return DeadLetter(topic, 0, offset, None, b"{", None, (0, 0), evidence, failed_at, state)


def store(settings: Settings, next_offsets: dict[int, int], letters: list[DeadLetter]) -> None:
    """As the daemon would have done."""
    topic = settings.topics[0]
    states = KafkaCluster(settings.kafka, topic).states([(topic, number) for number in next_offsets])
    starts = {key: Position(0, state.cluster_id, state.topic_id) for key, state in states.items()}
    plain = settings.model_copy(update={"topics": []})  # without the table, which is not there
    plain = plain.model_copy(update={"sink": settings.sink.model_copy(update={"tables": {}})})
    with closing(open_sink(plain, "test")) as sink:
        claims = sink.claim(starts)
        sink.begin({key: Fence(claim.epoch, claim.position.next_offset) for key, claim in claims.items()})
        sink.letters.keep(letters)
        sink.commit({(topic, number): offset for number, offset in next_offsets.items()})


def commit(settings: Settings, offset: int) -> None:
    """Into Kafka, for partition 0."""
    topic = settings.topics[0]
    consumer = Consumer({"bootstrap.servers": settings.kafka["bootstrap.servers"], "group.id": topic})
    consumer.commit(offsets=[TopicPartition(topic, 0, offset)], asynchronous=False)
    consumer.close()


def told(settings: Settings) -> dict[int, Account]:
    return {account.standing.partition: account for account in verify(settings, NOW)}


def test_what_is_well_is_said_with_its_numbers(config: Path, topic: str) -> None:
    """Exit 0; partitions, offsets, and dead letters by state; JSON has the same."""
    store(load(config), {0: 10, 1: 4}, [letter(topic, 3), letter(topic, 5, State.REPLAYED), letter(topic, 6)])
    commit(load(config), 8)
    done = microbatch("verify", config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"ok    {topic}/0: 10 is next, 0 behind the end; Kafka holds 0 to 10; dead letters: 2 published, 1 replayed",
        f"ok    {topic}/1: 4 is next, 6 behind the end; Kafka holds 0 to 10; dead letters: none",
    ]
    found = json.loads(microbatch("verify", config, "--json").stdout)
    assert [(one["dead_letters"], one["faults"], one["standing"]["committed"]) for one in found] == [
        ({"published": 2, "replayed": 1}, [], 8),
        ({}, [], None),
    ]


def beyond(settings: Settings, topic: str) -> str:
    store(settings, {0: 11}, [])
    return "beyond the end: the next offset is 11, Kafka holds 0 to 10"


def gone(settings: Settings, topic: str) -> str:
    store(settings, {0: 2}, [])
    admin = AdminClient({"bootstrap.servers": settings.kafka["bootstrap.servers"]})
    admin.delete_records([TopicPartition(topic, 0, 7)])[TopicPartition(topic, 0)].result()
    return "5 records are gone from Kafka: the next offset is 2, Kafka holds 7 to 10"


def recreated(settings: Settings, topic: str) -> str:
    store(settings, {0: 2}, [])
    kafka = str(settings.kafka["bootstrap.servers"])
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([topic])[topic].result()
    create(kafka, topic)
    return "the topic was created anew since"


def ahead(settings: Settings, topic: str) -> str:
    store(settings, {0: 4}, [])
    commit(settings, 6)
    return "Kafka's committed offset 6 is ahead of the database's 4"


def astray(settings: Settings, topic: str) -> str:
    store(settings, {0: 4}, [letter(topic, 3), letter(topic, 7)])
    return "there is a dead letter at offset 7, and the next offset is 4"


def waiting(settings: Settings, topic: str) -> str:
    store(settings, {0: 4}, [letter(topic, 3, State.PENDING, NOW - datetime.timedelta(hours=2))])
    return "dead letters wait for their topic since"


@pytest.mark.parametrize("wrong", [beyond, gone, recreated, ahead, astray, waiting], ids=lambda one: one.__name__)
def test_what_is_wrong_is_told_exactly(config: Path, topic: str, wrong: Callable[[Settings, str], str]) -> None:
    """One fault, of that partition, with its numbers."""
    settings = load(config)
    words = wrong(settings, topic)
    (fault,) = told(settings)[0].faults
    assert words in fault
    assert not told(settings)[1].faults


def test_a_fault_is_exit_1(config: Path, topic: str) -> None:
    """So that a script can tell."""
    store(load(config), {0: 4, 1: 10}, [letter(topic, 9)])
    done = microbatch("verify", config)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[0].startswith(f"FAIL  {topic}/0: there is a dead letter at offset 9")
    assert done.stdout.splitlines()[1].startswith(f"ok    {topic}/1: 10 is next")


def test_without_offsets_in_the_database_kafka_counts(kafka: str, topic: str, tmp_path: Path) -> None:
    """At least once: its committed offset is held against what it holds."""
    sqlite3.connect(tmp_path / "shop.db").close()
    config = written(tmp_path, kafka, topic, f"sqlite:///{tmp_path / 'shop.db'}", "delivery: at_least_once\n")
    settings = load(config)
    commit(settings, 2)
    assert told(settings)[0].faults == []
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_records([TopicPartition(topic, 0, 5)])[TopicPartition(topic, 0)].result()
    assert told(settings)[0].faults == ["3 records are gone from Kafka: the next offset is 2, Kafka holds 5 to 10"]

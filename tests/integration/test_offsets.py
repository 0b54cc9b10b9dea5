"""`offsets show` and `offsets reset` on a real Kafka and real databases."""

from __future__ import annotations

import datetime
import json
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.command import ended, microbatch, start

PARTITIONS, EACH = 2, 10
FIRST = int(time.time() * 1000) - 3_600_000  # young enough that no broker deletes it


def produce(kafka: str, topic: str) -> None:
    producer = Producer({"bootstrap.servers": kafka})
    for number in range(PARTITIONS * EACH):
        value = json.dumps({"id": number}).encode()
        producer.produce(topic, value, partition=number % PARTITIONS, timestamp=FIRST + number // PARTITIONS)
    assert producer.flush(30) == 0


def create(admin: AdminClient, topic: str) -> None:
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result()


@pytest.fixture
def topic(kafka: str) -> str:
    """A topic of two partitions with ten records each, a millisecond apart."""
    name = f"offsets_{uuid.uuid4().hex[:8]}"
    create(AdminClient({"bootstrap.servers": kafka}), name)
    produce(kafka, name)
    return name


@pytest.fixture(params=["postgres", "sqlite"])
def config(request: pytest.FixtureRequest, kafka: str, topic: str, tmp_path: Path) -> Path:
    """A file for that topic, into either database."""
    if request.param == "postgres":
        dsn = request.getfixturevalue("dsn")
    else:
        (tmp_path / "shop.db").touch()
        dsn = f"sqlite:///{tmp_path / 'shop.db'}"
    return written(tmp_path, kafka, topic, dsn)


def written(folder: Path, kafka: str, topic: str, dsn: str, more: str = "") -> Path:
    file = folder / "config.yaml"
    file.write_text(
        f"kafka: {{bootstrap.servers: '{kafka}', group.id: {topic}}}\n"
        f"topics: [{topic}]\nformat: json\nsink: {{dsn: '{dsn}'}}\nadmin: {{enabled: false}}\n{more}"
    )
    return file


def shown(config: Path) -> list[dict[str, Any]]:
    done = microbatch("offsets", "show", config, "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def reset(config: Path, topic: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return microbatch("offsets", "reset", config, "--topic", topic, *arguments)


def told(config: Path, name: str) -> list[Any]:
    return [partition[name] for partition in shown(config)]


def test_a_reset_is_shown(config: Path, topic: str) -> None:
    """Before and after each partition; the table says the same, with lag, owner and epoch."""
    before = shown(config)
    assert [(one["next_offset"], one["lag"], one["log_start"], one["end"]) for one in before] == [
        (None, None, 0, EACH)
    ] * 2
    done = reset(config, topic, "--to", "4", "--partition", "1", "--yes")
    assert (done.returncode, done.stdout) == (0, f"{topic} partition 1: none -> 4\ndone\n")
    done = reset(config, topic, "--to", "latest", "--yes")
    assert done.stdout == f"{topic} partition 0: none -> 10\n{topic} partition 1: 4 -> 10\ndone\n"
    after = shown(config)
    assert [(one["next_offset"], one["lag"], one["epoch"], one["owner"]) for one in after] == [
        (10, 0, 1, "offsets"),
        (10, 0, 2, "offsets"),
    ]
    table = microbatch("offsets", "show", config).stdout.splitlines()
    assert table[0].split("  ")[0] == "topic"
    assert [line.split()[:3] for line in table[1:]] == [[topic, "0", "10"], [topic, "1", "10"]]


def test_a_time_is_the_first_record_not_older(config: Path, topic: str) -> None:
    """The record of that millisecond is the next one; a time later than all means the end."""
    moment = datetime.datetime.fromtimestamp((FIRST + 3) / 1000, datetime.UTC)
    assert reset(config, topic, "--to", moment.isoformat(), "--yes").returncode == 0
    assert told(config, "next_offset") == [3, 3]
    assert reset(config, topic, "--to", "2999-01-01T00:00:00Z", "--yes").returncode == 0
    assert told(config, "next_offset") == [EACH, EACH]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "11", "--yes"], ["--to", "Kafka holds 0 to 10", "partition 0"]),
        (["--to", "noon", "--yes"], ["--to", "'noon'"]),
        (["--to", "2026-01-01T00:00:00", "--yes"], ["--to", "needs a zone"]),
        (["--to", "earliest", "--partition", "2", "--yes"], ["--partition", "0 to 1"]),
        (["--to", "earliest"], ["--yes", "nothing was changed"]),
    ],
)
def test_what_cannot_be_is_refused(
    kafka: str, topic: str, dsn: str, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    """Exit 2, the exact range or what else would do, and nothing is changed."""
    config = written(tmp_path, kafka, topic, dsn)
    done = reset(config, topic, *arguments)
    assert done.returncode == 2
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr
    assert told(config, "next_offset") == [None, None]


def test_a_missing_topic_is_refused(kafka: str, topic: str, dsn: str, tmp_path: Path) -> None:
    """A reset never stores an offset of a topic that is not there."""
    done = reset(written(tmp_path, kafka, topic, dsn), f"{topic}x", "--to", "earliest", "--yes")
    assert (done.returncode, f"{topic}x" in done.stderr) == (2, True)


def test_records_that_kafka_no_longer_holds_are_refused(kafka: str, topic: str, dsn: str, tmp_path: Path) -> None:
    """An offset before the log's start is refused with the range that is held."""
    from confluent_kafka import TopicPartition

    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_records([TopicPartition(topic, 0, 6)])[TopicPartition(topic, 0)].result()
    config = written(tmp_path, kafka, topic, dsn)
    done = reset(config, topic, "--to", "5", "--yes")
    assert (done.returncode, "Kafka holds 6 to 10" in done.stderr) == (2, True)
    assert told(config, "next_offset") == [None, None]


def test_a_topic_created_anew_is_adopted(config: Path, kafka: str, topic: str) -> None:
    """Its old offset is shown to mean nothing, until a reset stores the new topic's identity."""
    assert reset(config, topic, "--to", "latest", "--yes").returncode == 0
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_topics([topic])[topic].result()
    create(admin, topic)
    assert [(one["remark"], one["lag"]) for one in shown(config)] == [("the topic was created anew since", None)] * 2
    assert reset(config, topic, "--to", "earliest", "--yes").returncode == 0
    assert [(one["remark"], one["lag"]) for one in shown(config)] == [("", 0)] * 2


@contextmanager
def daemon(config: Path) -> Iterator[None]:
    process = start("run", config)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        done = ended(process)
    assert done.returncode == 0, done.stderr


def wait_for(connection: psycopg.Connection[Any], topic: str, count: int) -> None:
    end = time.monotonic() + 60
    while (found := connection.execute(f"select count(*) from {topic}").fetchone()) != (count,):
        assert time.monotonic() < end, f"{found} rows, not {count}"
        connection.execute("select pg_sleep(0.05)")


def test_a_running_daemon_goes_on_from_there(kafka: str, topic: str, dsn: str, tmp_path: Path) -> None:
    """It is fenced, claims again and writes from the new offset on, without a restart."""
    config = written(tmp_path, kafka, topic, dsn)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create table {topic} (id bigint)")
        with daemon(config):
            wait_for(connection, topic, 20)
            done = reset(config, topic, "--to", "4", "--partition", "1", "--yes")
            assert done.stdout.startswith(f"{topic} partition 1: 10 -> 4\n")
            produce(kafka, topic)
            wait_for(connection, topic, 46)
        assert told(config, "next_offset") == [20, 20]


def test_without_offsets_in_the_database_they_are_set_in_kafka(
    kafka: str, topic: str, dsn: str, tmp_path: Path
) -> None:
    """At least once: only while the group is stopped, and the next start goes on from there."""
    config = written(tmp_path, kafka, topic, dsn, "delivery: at_least_once\n")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create table {topic} (id bigint)")
        with daemon(config):
            wait_for(connection, topic, 20)
            done = reset(config, topic, "--to", "earliest", "--yes")
            assert done.returncode == 1
            assert f"the group {topic} is running" in done.stderr
            assert "Stop every instance" in done.stderr
        assert told(config, "committed") == [10, 10]
        assert reset(config, topic, "--to", "7", "--yes").returncode == 0
        assert told(config, "committed") == [7, 7]
        assert told(config, "lag") == [3, 3]
        with daemon(config):
            wait_for(connection, topic, 26)

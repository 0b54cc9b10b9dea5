"""The command as a user runs it, against real services."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.faults.waiting import until


def start(config: Path, dsn: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "consumer", "run", str(config)], env=os.environ | {"TEST_DSN": dsn})


def wait_for_rows(connection: psycopg.Connection, table: str, count: int, deadline: float = 60) -> None:
    end = time.monotonic() + deadline
    while connection.execute(f"select count(*) from {table}").fetchone()[0] < count:
        assert time.monotonic() < end, "the rows did not arrive in time"
        connection.execute("select pg_sleep(0.05)")


def exists(connection: psycopg.Connection) -> bool:
    return connection.execute("select to_regclass('microbatch_offsets') is not null").fetchone()[0]


def produce(kafka: str, topic: str, first: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 20})
    for number in range(first, first + count):
        producer.produce(topic, json.dumps({"id": number, "name": f"n{number}"}).encode())
        producer.poll(0)
    assert producer.flush(30) == 0


def test_every_record_lands_once_though_the_daemon_is_killed_twice(kafka: str, dsn: str, tmp_path: Path) -> None:
    """After kill -9 in the middle of writing, a successor goes on at the very next record."""
    topic = f"orders_{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})  # held: its futures die with it
    admin.create_topics([NewTopic(topic, 3, 1)])[topic].result()
    config = tmp_path / "config.yaml"
    config.write_text(f"""
kafka: {{bootstrap.servers: "{kafka}", group.id: {topic}, session.timeout.ms: 3000, heartbeat.interval.ms: 300}}
topics: [{topic}]
format: json
batch: {{max_records: 500}}
sink: {{dsn: "${{TEST_DSN}}"}}
""")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create table {topic} (id bigint, name text)")
        for round_number in range(3):
            produce(kafka, topic, round_number * 20_000, 20_000)
            daemon = start(config, dsn)
            try:
                enough = 20_000 * round_number + (5_000 if round_number < 2 else 20_000)
                wait_for_rows(connection, topic, enough)
            finally:
                daemon.send_signal(signal.SIGKILL if round_number < 2 else signal.SIGTERM)
            assert daemon.wait(30) == (-signal.SIGKILL if round_number < 2 else 0)
        found = connection.execute(f"select count(*), count(distinct id), min(id), max(id) from {topic}").fetchone()
    assert found == (60_000, 60_000, 0, 59_999)


def test_topics_by_regular_expression_are_found_as_they_come(kafka: str, dsn: str, tmp_path: Path) -> None:
    """Each goes into the table of its name, and one that is created later is read from its beginning."""
    prefix = f"re_{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})  # held: its futures die with it
    admin.create_topics([NewTopic(f"{prefix}_a", 1, 1)])[f"{prefix}_a"].result()
    config = tmp_path / "config.yaml"
    config.write_text(f"""
kafka: {{bootstrap.servers: "{kafka}", group.id: {prefix}, topic.metadata.refresh.interval.ms: 500}}
topics: ["^{prefix}_[ab]$"]
start: latest
format: json
batch: {{max_wait_ms: 20}}
sink: {{dsn: "${{TEST_DSN}}"}}
admin: {{enabled: false}}
""")
    claimed = "select count(*) from microbatch_offsets where group_id = %s"
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name in ("a", "b"):
            connection.execute(f"create table {prefix}_{name} (id bigint, name text)")
        daemon = start(config, dsn)
        try:
            until(
                lambda: exists(connection) and connection.execute(claimed, [prefix]).fetchone()[0],
                "the first is claimed",
            )
            admin.create_topics([NewTopic(f"{prefix}_b", 1, 1)])[f"{prefix}_b"].result()
            produce(kafka, f"{prefix}_b", 0, 10)
            produce(kafka, f"{prefix}_a", 100, 10)
            wait_for_rows(connection, f"{prefix}_b", 10)
            wait_for_rows(connection, f"{prefix}_a", 10)
        finally:
            daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(30) == 0


def test_it_goes_on_where_another_consumer_of_the_group_has_committed(kafka: str, dsn: str, tmp_path: Path) -> None:
    """Without an offset in the database Kafka's counts, whatever `start` says: so a group can be taken over."""
    topic, partition = f"taken_{uuid.uuid4().hex[:8]}", 0
    admin = AdminClient({"bootstrap.servers": kafka})  # held: its futures die with it
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    produce(kafka, topic, 0, 100)
    former = Consumer({"bootstrap.servers": kafka, "group.id": f"connect-{topic}"})
    former.commit(offsets=[TopicPartition(topic, partition, 60)], asynchronous=False)
    former.close()
    config = tmp_path / "config.yaml"
    config.write_text(f"""
kafka: {{bootstrap.servers: "{kafka}", group.id: connect-{topic}}}
topics: [{topic}]
start: latest
format: json
sink: {{dsn: "${{TEST_DSN}}"}}
admin: {{enabled: false}}
""")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create table {topic} (id bigint, name text)")
        daemon = start(config, dsn)
        try:
            wait_for_rows(connection, topic, 40)
        finally:
            daemon.terminate()
        assert daemon.wait(30) == 0
        assert connection.execute(f"select min(id), count(*) from {topic}").fetchone() == (60, 40)

"""Records that cannot be handled, met by the real command: each is a dead letter, and every other one is written."""

from __future__ import annotations

import json
import signal
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.command import ended, start
from tests.faults.waiting import until

MAX_BYTES = 60_000_000
START = int(time.time() * 1000)  # not long ago: topics forget what is older than their retention
SECRET = "canary"
BAD: dict[str, bytes] = {
    "empty": b"",
    "truncated": b'{"id": 3, "name": "canary',
    "50 MB": b'{"id": 3, "name": "' + b"canary" * 8_400_000,
    "nested 10,000 deep": b'{"id": 3, "extra": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "not UTF-8": b'{"id": 3, "name": "canary\xff"}',
    "NaN": b'{"id": 3, "ratio": NaN}',
    "10,000 digits": b'{"id": ' + b"9" * 10_000 + b"}",
    "10,000 digits in a float": b'{"id": 3, "ratio": ' + b"9" * 10_000 + b"}",
    "NUL in text": b'{"id": 3, "name": "canary\\u0000"}',
    "lone surrogate": b'{"id": 3, "name": "canary\\ud800"}',
    "year 0": b'{"id": 3, "day": "0000-01-01"}',
    "year 10,000": b'{"id": 3, "day": "10000-01-01"}',
    "no object": b"[3]",
    "wrong type": b'{"id": "canary"}',
    "null where there must be a value": b'{"id": null}',
    "refused by the database": b'{"id": -1}',
    "the same key again": b'{"id": 1}',
}


@dataclass(frozen=True)
class Setting:
    """A topic with good and bad records in turn, its table, and a configuration that is not written yet."""

    kafka: str
    dsn: str
    topic: str
    config: Path
    bad: dict[int, bytes]  # by offset
    good: list[int]

    def configure(self, dead_letter: str) -> None:
        self.config.write_text(f"""
kafka: {{bootstrap.servers: "{self.kafka}", group.id: {self.topic}}}
topics: [{self.topic}]
format: json
batch: {{max_bytes: 200MB}}
sink: {{dsn: "{self.dsn}"}}
dead_letter: {{{dead_letter}}}
admin: {{enabled: false}}
""")


@pytest.fixture
def setting(kafka: str, dsn: str, tmp_path: Path) -> Setting:
    topic = f"bad_{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    large = NewTopic(topic, 1, 1, config={"max.message.bytes": str(MAX_BYTES)})
    for created in admin.create_topics([large, NewTopic(f"{topic}.dlq", 2, 1)]).values():
        created.result()
    settings = {"message.max.bytes": MAX_BYTES, "compression.type": "lz4"}
    # Else what a topic refuses while it is new comes after what it takes next.
    producer = Producer({"bootstrap.servers": kafka, "enable.idempotence": True} | settings)
    bad, good, offset = {}, [], 0
    for payload in (*BAD.values(), b""):
        good += [offset + 1, offset + 2]
        for number in good[-2:]:
            producer.produce(topic, b'{"id": %d}' % number)
        bad[offset + 2] = payload
        producer.produce(topic, payload, key=b"k", headers=[("h", b"\xff"), ("h", None)], timestamp=START + offset)
        offset += 3
    assert producer.flush(60) == 0
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"""create table {topic} (id bigint primary key check (id > 0), name text, extra jsonb,
                               ratio double precision, day date)""")
    return Setting(kafka, dsn, topic, tmp_path / "config.yaml", bad, good)


def rows(setting: Setting, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(setting.dsn) as connection:
        return connection.execute(query).fetchall()


def stored_letters(setting: Setting, columns: str) -> list[tuple[Any, ...]]:
    if not rows(setting, "select to_regclass('microbatch_dead_letters')")[0][0]:
        return []
    table = "microbatch_dead_letters"
    return rows(setting, f"""select {columns} from {table} where topic = '{setting.topic}' order by "offset" """)


def published(setting: Setting, count: int) -> dict[int, Message]:
    """What the dead-letter topic has, by the offset that the headers tell."""
    consumer = Consumer({"bootstrap.servers": setting.kafka, "group.id": "x", "fetch.message.max.bytes": MAX_BYTES})
    consumer.assign([TopicPartition(f"{setting.topic}.dlq", number, OFFSET_BEGINNING) for number in (0, 1)])
    found: dict[int, Message] = {}
    until(lambda: found.update(map(by_origin, consumer.consume(100, 1))) or len(found) == count, "all are published")
    consumer.close()
    return found


def by_origin(message: Message) -> tuple[int, Message]:
    headers = dict(message.headers() or [])
    return int(headers["__dlq.errors.offset"]), message


def test_each_bad_record_is_a_dead_letter_and_all_others_are_written(setting: Setting) -> None:
    """In the table once and in the topic, byte by byte; nothing of their values in log, headers or evidence."""
    setting.configure("max_ratio: 0.9")
    daemon = start("run", setting.config)
    until(lambda: len(stored_letters(setting, "1")) == len(setting.bad), "every bad record is a dead letter")
    until(lambda: {state for (state,) in stored_letters(setting, "state")} == {"published"}, "all are published")
    daemon.send_signal(signal.SIGTERM)
    done = ended(daemon)
    assert done.returncode == 0, done.stderr
    assert [number for (number,) in rows(setting, f"select id from {setting.topic} order by id")] == setting.good
    letters = stored_letters(setting, '"offset", value, key, timestamp_ms')
    assert letters == [(offset, value, b"k", START - 2 + offset) for offset, value in setting.bad.items()]
    topic = published(setting, len(setting.bad))
    huge = max(setting.bad, key=lambda offset: len(setting.bad[offset]))
    assert {offset: m.value() for offset, m in topic.items() if offset != huge} == {
        offset: value for offset, value in setting.bad.items() if offset != huge
    }
    assert topic[huge].value() is None
    assert ("microbatch.value", b"kept") in (topic[huge].headers() or [])
    for message in topic.values():
        assert (message.headers() or [])[:2] == [("h", b"\xff"), ("h", None)]
        assert SECRET not in repr(message.headers())
    assert SECRET not in done.stderr + done.stdout + repr(stored_letters(setting, "evidence::text"))
    assert "Traceback" not in done.stderr


def test_each_dead_letter_says_why(setting: Setting) -> None:
    """The stage, and what the database said; one line of log a kind."""
    setting.configure("topic: null, max_ratio: 1")
    daemon = start("run", setting.config)
    until(lambda: len(stored_letters(setting, "1")) == len(setting.bad), "every bad record is a dead letter")
    daemon.send_signal(signal.SIGTERM)
    done = ended(daemon)
    found = {offset: told for offset, *told in stored_letters(setting, """ "offset", stage, state, evidence """)}
    told = {name: found[offset] for name, offset in zip(BAD, setting.bad, strict=False)}
    assert told["truncated"][0] == "decode"
    assert {state for _, state, _ in told.values()} == {"kept"}
    stage, _, evidence = told["refused by the database"]
    assert (stage, evidence["sqlstate"], evidence["constraint"]) == ("write", "23514", f"{setting.topic}_id_check")
    assert told["the same key again"][2]["sqlstate"] == "23505"
    events = [json.loads(line)["event"] for line in done.stderr.splitlines() if line.startswith("{")]
    assert events[0] == "started"
    assert "dead_lettered" in events


def test_where_none_is_borne_the_first_one_stops_the_daemon_and_is_named(setting: Setting) -> None:
    """Exit 1; topic, partition and offset in one sentence, no value, no traceback; nothing of the batch is kept."""
    setting.configure("topic: null, max_consecutive: 0, on_limit: stop")
    done = ended(start("run", setting.config))
    assert done.returncode == 1, done.stderr
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert f"{setting.topic} partition 0 offset 2 (decode: " in error
    assert "dead_letter.max_consecutive" in error
    assert SECRET not in done.stderr
    assert "Traceback" not in done.stderr
    assert len(error) < 600
    assert rows(setting, f"select id from {setting.topic}") == []
    assert stored_letters(setting, "1") == []

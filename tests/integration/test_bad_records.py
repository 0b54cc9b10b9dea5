"""A record that cannot be handled stops the real command: named, everything before it written, nothing after it."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

MAX_BYTES = 60_000_000
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
class Outcome:
    """What a run left behind."""

    topic: str
    code: int
    errors: str
    ids: list[int]
    next_offset: int | None


def run_one(kafka: str, dsn: str, folder: Path, bad: bytes) -> Outcome:
    """Two good records, the bad one, a good one; then the command."""
    topic = f"bad_{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})
    new = NewTopic(topic, 1, 1, config={"max.message.bytes": str(MAX_BYTES)})
    admin.create_topics([new])[topic].result()
    producer = Producer({"bootstrap.servers": kafka, "message.max.bytes": MAX_BYTES, "compression.type": "lz4"})
    for payload in (b'{"id": 1}', b'{"id": 2}', bad, b'{"id": 4}'):
        producer.produce(topic, payload)
    assert producer.flush(60) == 0
    config = folder / f"{topic}.yaml"
    config.write_text(f"""
kafka: {{bootstrap.servers: "{kafka}", group.id: {topic}}}
topics: [{topic}]
format: json
sink: {{dsn: "{dsn}"}}
admin: {{enabled: false}}
""")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"""create table {topic} (id bigint primary key check (id > 0), name text, extra jsonb,
                               ratio double precision, day date)""")
        command = [sys.executable, "-m", "consumer", "run", str(config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=90)
        rows = connection.execute(f"select id from {topic} order by id").fetchall()
        query = "select next_offset from microbatch_offsets where topic = %s"
        stored = connection.execute(query, [topic]).fetchone()
    return Outcome(topic, done.returncode, done.stderr, [row[0] for row in rows], stored[0] if stored else None)


@pytest.fixture(scope="module")
def outcomes(kafka: str, dsn: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """All of them, four at a time."""
    folder = tmp_path_factory.mktemp("bad")
    with ThreadPoolExecutor(4) as pool:
        yield {name: pool.submit(run_one, kafka, dsn, folder, bad) for name, bad in BAD.items()}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_stops_the_daemon_and_is_named(outcomes: dict[str, Any], name: str) -> None:
    """Exit 1; topic, partition and offset in one sentence, no value, no traceback; written up to it, and no further."""
    outcome = outcomes[name].result()
    assert outcome.code == 1, outcome.errors
    (error,) = [line for line in outcome.errors.splitlines() if line.startswith("error: ")]
    assert f"{outcome.topic} partition 0 offset 2 " in error
    assert SECRET not in outcome.errors
    assert "Traceback" not in outcome.errors
    assert len(error) < 600
    assert outcome.ids == [1, 2]
    assert outcome.next_offset == 2


def test_the_hint_skips_the_record(outcomes: dict[str, Any]) -> None:
    """What to do is said with the very next offset."""
    assert "--to 3" in outcomes["NaN"].result().errors


def test_bad_records_are_json_lines_too(outcomes: dict[str, Any]) -> None:
    """Off a terminal each log line is JSON."""
    lines = outcomes["NaN"].result().errors.splitlines()
    assert [json.loads(line)["event"] for line in lines if line.startswith("{")][:1] == ["started"]

"""A black hole between the daemon and its database: the watchdog frees it, and it goes on by itself."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import psycopg
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.faults.waiting import until
from tests.services.proxy import Proxy


def produce(kafka: str, topic: str, first: int, count: int) -> None:
    producer = Producer({"bootstrap.servers": kafka, "linger.ms": 5})
    for number in range(first, first + count):
        producer.produce(topic, b'{"id": %d}' % number)
    assert producer.flush(30) == 0


def test_a_connection_that_hangs_is_cut_and_every_record_lands_once(kafka: str, dsn: str, tmp_path: Path) -> None:
    """Past sink.write_deadline_ms the socket is shut down, whatever blocks; a new connection finds what was done."""
    topic = f"hole_{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka})  # held: its futures die with it
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result()
    parts = conninfo_to_dict(dsn)
    proxy = Proxy(str(parts["host"]), int(parts["port"]))
    through = make_conninfo(dsn, port=proxy.port, connect_timeout=2)
    config, log = tmp_path / "config.yaml", tmp_path / "log"
    settings = {
        "kafka": {"bootstrap.servers": kafka, "group.id": topic},
        "topics": [topic],
        "format": "json",
        "batch": {"max_records": 50, "max_wait_ms": 10},
        "sink": {"dsn": through, "write_deadline_ms": 1000},
        "admin": {"enabled": False},
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    with psycopg.connect(dsn, autocommit=True) as connection, log.open("wb") as out:
        connection.execute(f"create table {topic} (id bigint)")

        def rows() -> int:
            return connection.execute(f"select count(*) from {topic}").fetchone()[0]

        daemon = subprocess.Popen([sys.executable, "-m", "consumer", "run", str(config)], stdout=out, stderr=out)
        try:
            produce(kafka, topic, 0, 500)
            until(lambda: rows() == 500, "the first rows are in")
            for turn in range(3):
                proxy.hang()
                produce(kafka, topic, 500 * (turn + 1), 500)
                until(lambda turn=turn: log.read_text().count("connection_cut") > turn, "the watchdog cuts")
                proxy.cut()
                proxy.release()
                until(lambda turn=turn: rows() >= 500 * (turn + 2), "it goes on")
        finally:
            daemon.send_signal(signal.SIGTERM)
            code = daemon.wait(30)
            proxy.close()
        found = connection.execute(f"select count(*), count(distinct id), max(id) from {topic}").fetchone()
    assert code == 0
    assert found == (2000, 2000, 1999)
    assert '"lost"' not in log.read_text()

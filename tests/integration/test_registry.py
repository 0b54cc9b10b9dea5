"""Framed Avro through the real command, Kafka and PostgreSQL, with a registry that comes and goes."""

from __future__ import annotations

import io
import json
import struct
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fastavro
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.command import ended, microbatch, start
from tests.coordinator import require_coordinator
from tests.faults.waiting import until
from tests.services.kafka import free_ports
from tests.services.registry import FakeRegistry

OLD = {"type": "record", "name": "Order", "fields": [{"name": "id", "type": "long"}]}
NEW = OLD | {"fields": [*OLD["fields"], {"name": "note", "type": "string"}]}  # type: ignore[misc]
REFUSED = 'microbatch_unavailable{reason="connection",service="registry"}'
UNKNOWN = 'microbatch_unavailable{reason="40403",service="registry"}'


@dataclass
class Site:
    """A topic, its table, a registry that does not run yet, and the settings of a daemon."""

    kafka: str
    dsn: str
    topic: str
    registry: FakeRegistry
    config: Path
    port: int

    def configure(self, **registry: Any) -> Path:
        written = {
            "kafka": {"bootstrap.servers": self.kafka, "group.id": self.topic},
            "topics": [self.topic],
            "format": {"type": "avro", "registry": {"url": self.registry.url} | registry},
            "sink": {"dsn": self.dsn},
            "batch": {"max_wait_ms": 20},
            "retry": {"max_delay_ms": 200},
            "admin": {"port": self.port},
        }
        self.config.write_text(json.dumps(written))
        return self.config

    def produce(self, schema_id: int, schema: Any, first: int, count: int) -> None:
        producer = Producer({"bootstrap.servers": self.kafka})
        parsed = fastavro.parse_schema(schema)
        for number in range(first, first + count):
            body = io.BytesIO()
            fastavro.schemaless_writer(body, parsed, {"id": number, "note": "x"})
            producer.produce(self.topic, struct.pack(">bI", 0, schema_id) + body.getvalue())
        assert producer.flush(30) == 0

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def written(self) -> list[int]:
        return [number for (number,) in self.rows(f"select id from {self.topic} order by id")]

    def letters(self) -> list[tuple[Any, ...]]:
        if not self.rows("select to_regclass('microbatch_dead_letters')")[0][0]:
            return []
        columns = """"offset", evidence->>'stage', evidence->>'reason'"""
        return self.rows(f"select {columns} from microbatch_dead_letters where topic = '{self.topic}' order by 1")

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def told(self, metric: str) -> bool:
        return f"{metric} 1.0" in self.get("/metrics")[1].splitlines()


@pytest.fixture
def site(kafka: str, dsn: str, tmp_path: Path) -> Iterator[Site]:
    topic, (port,) = f"registered_{uuid.uuid4().hex[:8]}", free_ports(1)
    admin = AdminClient({"bootstrap.servers": kafka})  # held: its futures die with it
    for created in admin.create_topics([NewTopic(topic, 1, 1), NewTopic(f"{topic}.dlq", 1, 1)]).values():
        created.result()
    require_coordinator(kafka, topic, topic)
    registry = FakeRegistry()
    with psycopg.connect(dsn, autocommit=True) as server:
        server.execute(f"create table {topic} (id bigint primary key, note text)".encode())
        yield Site(kafka, dsn, topic, registry, tmp_path / "config.yaml", port)
        server.execute(f"drop table {topic}".encode())
    registry.stop()


@contextmanager
def running(config: Path) -> Iterator[None]:
    """The daemon, which ends well."""
    daemon = start("run", config)
    try:
        yield
    finally:
        daemon.terminate()
        done = ended(daemon)
    assert done.returncode == 0, done.stderr


def test_a_registry_that_is_away_holds_everything_and_nothing_is_lost(site: Site) -> None:
    """At the start, and when a new id comes; what needs no question goes on meanwhile. No record becomes a dead letter.

    It is told as the registry's outage, and not as the database's; and all goes on by itself.
    """
    old, new = site.registry.register(OLD), site.registry.register(NEW, "new")
    site.produce(old, OLD, 0, 500)
    with running(site.configure()):
        until(lambda: site.told(REFUSED), "the registry is waited for")
        status, reason = site.get("/readyz")
        assert (status, "schema registry" in reason) == (503, True)
        assert 'service="database"} 1.0' not in site.get("/metrics")[1]
        assert site.written() == []
        site.registry.start()
        until(lambda: len(site.written()) == 500, "they are written")
        until(lambda: site.get("/readyz")[0] == 200 and not site.told(REFUSED), "it is ready")
        site.registry.stop()
        site.produce(old, OLD, 500, 500)
        until(lambda: len(site.written()) == 1000, "a schema that is known needs nobody")
        site.produce(new, NEW, 1000, 500)
        until(lambda: site.told(REFUSED), "the registry is waited for again")
        site.registry.fault = 503, {}, ""
        site.registry.start()
        until(lambda: "HTTP 503" in site.get("/readyz")[1], "it answers, and not well")
        site.registry.fault = None
        until(lambda: len(site.written()) == 1500, "all are written")
    assert site.written() == list(range(1500))
    assert site.letters() == []
    assert site.rows(f"select count(*) from {site.topic} where note = 'x'") == [(500,)]


def test_records_of_an_unknown_id_become_dead_letters_after_its_time(site: Site) -> None:
    """Until then they hold the batch; after that all others are written, and the next one of that id holds nothing."""
    known = site.registry.register(OLD)
    site.registry.start()
    site.produce(known, OLD, 0, 10)
    site.produce(7, OLD, 10, 1)
    site.produce(known, OLD, 11, 10)
    with running(site.configure(unknown_id_after_ms=2000)):
        until(lambda: site.told(UNKNOWN), "the id is waited for")
        assert site.letters() == []
        until(lambda: len(site.letters()) == 1, "its time is over")
        until(lambda: len(site.written()) == 20, "the others are written")
        site.produce(7, OLD, 21, 1)
        site.produce(known, OLD, 22, 1)
        until(lambda: len(site.written()) == 21, "the next one is written")
    why = "decode", "schema id 7 is not known to the schema registry"
    assert site.letters() == [(10, *why), (21, *why)]


def test_an_id_that_a_replica_comes_to_know_in_time_is_no_fault(site: Site) -> None:
    """Its records wait, and are written."""
    number = site.registry.register(OLD)
    site.registry.lagging = {number}
    site.registry.start()
    site.produce(number, OLD, 0, 10)
    with running(site.configure()):
        until(lambda: site.told(UNKNOWN), "the id is waited for")
        site.registry.lagging = set()
        until(lambda: len(site.written()) == 10, "they are written")
    assert site.letters() == []


def test_a_registry_that_refuses_the_password_ends_the_daemon(site: Site) -> None:
    """With a hint, and without the password; `check` says the same beforehand, and that all is well when it is."""
    site.registry.authorization = "Basic bWU6cmlnaHQ="  # me:right
    site.registry.start()
    number = site.registry.register(OLD)
    site.produce(number, OLD, 0, 1)
    config = site.configure(username="me", password="canary-wrong")
    done = ended(start("run", config))
    assert done.returncode == 1
    assert "refuses us (HTTP 401)" in done.stderr
    assert "Correct format.registry.username and password, or token" in done.stderr
    checked, explained = microbatch("check", config), microbatch("check", "--explain", config)
    assert "schema registry" in checked.stdout
    assert "refuses us (HTTP 401)" in checked.stdout
    assert "canary" not in done.stdout + done.stderr + checked.stdout + checked.stderr + explained.stdout
    assert "password: '***'" in explained.stdout
    right = microbatch("check", site.configure(username="me", password="right"))
    assert f"ok    schema registry: {site.registry.url} answers" in right.stdout.splitlines()
    site.registry.stop()
    away = microbatch("check", site.configure(token="right"))
    assert "correct format.registry, or start the registry" in away.stdout

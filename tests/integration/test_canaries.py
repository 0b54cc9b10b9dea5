"""Secrets and rows' values, met by the real command, are nowhere but where they belong."""

from __future__ import annotations

import json
import signal
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from consumer.events import Event
from tests.command import ended, microbatch, start
from tests.coordinator import require_coordinator
from tests.faults.waiting import until
from tests.services.kafka import free_ports

CANARY = "canary"
TOKEN = f"{CANARY}-token-0123456789"
NUMBER = 770077007700  # a canary in a number
COMMON = {"timestamp", "level", "event", "group", "instance", "suppressed"}
GOOD = [b'{"id": 1, "name": "canary-good"}', b'{"id": 2, "name": "canary-good", "unknown": "canary-unknown"}']
BAD = {
    "undecodable": b'{"id": 3, "name": "canary-undecodable"',
    "wrong type": b'{"id": "canary-type"}',
    "not UTF-8": b'{"id": 3, "name": "canary-\xff"}',
    "check": b'{"id": 3, "n": -%d, "name": "canary-check"}' % NUMBER,
    "unique": b'{"id": 4, "code": "canary-unique"}',
    "foreign key": b'{"id": 5, "parent": "canary-parent"}',
    "too long": b'{"id": 6, "short": "canary-too-long"}',
    "enum": b'{"id": 7, "colour": "canary-colour"}',
    "null": b'{"name": "canary-null"}',
    "NUL": b'{"id": 8, "name": "canary-\\u0000"}',
    "range": b'{"id": 9, "small": %d}' % NUMBER,
    "trigger": b'{"id": 10, "name": "canary-trigger", "n": 13}',
}
RAISED = {"raises": b'{"id": 20, "name": "canary-raised", "raise": true}'}
COMMANDS = [
    "check FILE",
    "check --explain FILE",
    "status FILE",
    "status --json FILE",
    "verify --json FILE",
    "offsets show FILE",
    "dlq list FILE",
    "dlq list --json FILE",
    "dlq show FILE LETTER",
    "plan --from earliest FILE",
    "plan --from earliest --json FILE",
]
TRANSFORM = """
def shape(record):
    row = dict(record.value)
    row.pop("unknown", None)
    if row.pop("raise", False):
        raise ValueError(f"{row['name']} of {record.key}")
    return row
"""


@dataclass
class Site:
    """A topic with good and bad records, and a daemon whose settings hold secrets."""

    kafka: str
    dsn: str
    topic: str
    config: Path
    port: int
    bad: int

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(query.encode()).fetchall()

    def letters(self) -> list[tuple[Any, ...]]:
        if not self.rows("select to_regclass('microbatch_dead_letters')")[0][0]:
            return []
        return self.rows(f"select state, evidence::text from microbatch_dead_letters where topic = '{self.topic}'")

    def get(self, path: str) -> str:
        asked = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return str(answer.read().decode())

    def headers(self) -> str:
        """What was added to the dead letters' own headers."""
        consumer = Consumer({"bootstrap.servers": self.kafka, "group.id": "x"})
        consumer.assign([TopicPartition(f"{self.topic}.dlq", 0, OFFSET_BEGINNING)])
        found = list[Any]()
        until(lambda: found.extend(consumer.consume(100, 1)) or len(found) == self.bad, "all are in the topic")
        consumer.close()
        return repr([header for message in found for header in message.headers() if header[0] != "own"])


@pytest.fixture(params=["fields", "transform"])
def site(request: pytest.FixtureRequest, kafka: str, dsn: str, tmp_path: Path) -> Iterator[Site]:
    """Mapped by field, or by a transform, which meets what raises in it as well."""
    topic, (port,) = f"canaries_{uuid.uuid4().hex[:8]}", free_ports(1)
    admin = AdminClient({"bootstrap.servers": kafka})  # held: its futures die with it
    for created in admin.create_topics([NewTopic(topic, 1, 1), NewTopic(f"{topic}.dlq", 1, 1)]).values():
        created.result()
    require_coordinator(kafka, topic, topic)
    (tmp_path / "shaping.py").write_text(TRANSFORM)
    bad = BAD | (RAISED if request.param == "transform" else {})
    own = make_conninfo(**conninfo_to_dict(dsn) | {"password": f"{CANARY}-password"})
    producer = Producer({"bootstrap.servers": kafka})
    for value in [*GOOD, *bad.values()]:
        producer.produce(topic, value, key=b"canary-key", headers=[("own", b"canary-header")])
    assert producer.flush(30) == 0
    config = tmp_path / "config.yaml"
    written = {
        "kafka": {"bootstrap.servers": kafka, "group.id": topic, "sasl.password": f"{CANARY}-sasl"}
        | {"ssl.key.password": f"{CANARY}-ssl"},
        "topics": [topic],
        "format": "json",
        "sink": {"dsn": own, "tables": {topic: {}}},
        "dead_letter": {"max_ratio": 1},
        "admin": {"port": port, "token": TOKEN},
    }
    registry = {"url": "http://127.0.0.1:1", "username": "me", "password": f"{CANARY}-registry"}  # nobody is there
    registry |= {"unknown_id_after_ms": 0}
    if request.param == "fields":  # where keys are not looked at
        written["key_format"] = {"type": "avro", "registry": registry}
    config.write_text(json.dumps(written | ({"transform": "shaping:shape"} if request.param == "transform" else {})))
    with psycopg.connect(dsn, autocommit=True) as server:
        for statement in tables(topic):
            server.execute(statement.encode())
        yield Site(kafka, dsn, topic, config, port, len(bad))
        server.execute(f"drop table {topic}, {topic}_parent; drop type {topic}_colour".encode())


def tables(topic: str) -> Iterator[str]:
    """One table that refuses records in every way, telling their values where it can."""
    yield f"create type {topic}_colour as enum ('red')"
    yield f"create table {topic}_parent (code text primary key)"
    yield f"insert into {topic}_parent values ('canary-old')"
    yield f"""create table {topic} (id bigint primary key, n bigint check (n >= 0), small int, name text,
              code text unique, parent text references {topic}_parent, short varchar(4), colour {topic}_colour)"""
    yield f"insert into {topic} (id, code) values (-1, 'canary-unique')"
    yield f"""create function {topic}_refuse() returns trigger language plpgsql as
              $$begin if new.n = 13 then raise exception 'not %', new.name using detail = new.name; end if;
              return new; end$$"""
    yield f"create trigger refuse before insert on {topic} for each row execute function {topic}_refuse()"


def test_no_canary_leaves_its_place(site: Site) -> None:
    """Log, metrics, status, page, commands, headers and evidence have neither secrets nor values.

    Each line of the log is JSON, of an event of the list, with the fields of it, and names the group and the instance.
    """
    path = {"PYTHONPATH": str(site.config.parent)}
    daemon = start("run", site.config, "--verbose", **path)
    said: dict[str, str] = {}
    try:
        until(lambda: [state for state, _ in site.letters()] == ["published"] * site.bad, "all are published")
        for page in ("/metrics", "/status", "/history", "/readyz", "/livez", "/"):
            said[page] = site.get(page)
        for command in COMMANDS:
            arguments = command.replace("LETTER", f"{site.topic}/0/2").split()
            said[command] = told(*(site.config if one == "FILE" else one for one in arguments), path=path)
    finally:
        daemon.send_signal(signal.SIGTERM)
        done = ended(daemon)
    assert done.returncode == 0, done.stderr
    assert site.rows(f"select count(*) from {site.topic} where name = 'canary-good'") == [(2,)]
    said |= {"log": done.stderr, "stdout": done.stdout, "evidence": repr(site.letters()), "headers": site.headers()}
    found = {name: text for name, text in said.items() if CANARY in text or str(NUMBER) in text}
    assert found == {}
    assert all(said[name] for name in said if name != "stdout")
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    for line in lines:
        assert (line["group"], bool(line["instance"])) == (site.topic, True)
        if "logger" not in line:
            assert line.keys() - COMMON <= set(Event[line["event"].upper()].fields)
    written = [line for line in lines if line["event"] == "batch_written"]
    assert written[0]["offsets"][f"{site.topic}/0"][0] == 0
    named = {json.loads(evidence)["batch"] for _, evidence in site.letters()}
    assert named <= {line["batch"] for line in written}


@pytest.mark.parametrize("site", ["fields"], indirect=True)
@pytest.mark.parametrize("verdict", ["stop", "retry"])
def test_a_refusal_that_the_settings_overrule_is_told_without_its_text(site: Site, verdict: str) -> None:
    """What a server says of a value holds the value: it is an error of the daemon's now, and no dead letter."""
    written = json.loads(site.config.read_text())
    written["sink"]["errors"] = {"P0001": verdict}
    written["retry"] = {"max_delay_ms": 100, "give_up_after_ms": 1000}
    site.config.write_text(json.dumps(written))
    done = ended(start("run", site.config))
    assert done.returncode == 1, done.stderr
    assert "(P0001)" in done.stderr
    assert CANARY not in done.stderr + done.stdout
    failed = json.loads([line for line in done.stderr.splitlines() if line.startswith("{")][-1])
    assert (failed["event"], failed["reason"] in done.stderr.splitlines()[-2]) == ("failed", True)


def told(*arguments: object, path: dict[str, str]) -> str:
    """All that a command says; it may find fault with the records or the server."""
    done = microbatch(*arguments, **path)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout + done.stderr

"""What can go wrong, each done to a daemon of its own: real services, and all at the same time."""

from __future__ import annotations

import io
import json
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import fastavro
import psycopg
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.faults.campaign import create_topic
from tests.faults.group import Group, Member, Services
from tests.faults.load import record
from tests.faults.waiting import until
from tests.services.postgres import Postgres, SmallDiskPostgres
from tests.services.proxy import Proxy
from tests.services.registry import FakeRegistry

PARTITIONS = 2
BATCH = 100  # records
LONG_AGO_SECONDS = 3600
_SESSION_MS = 10_000  # the machine is busy
_EVENT = {
    "type": "record",
    "name": "Event",
    "fields": [{"name": name, "type": "long"} for name in ("partition", "seq", "id")],
}


@dataclass
class Lab:
    """The services that all share, and what is to be ended with them."""

    services: Services
    server: Postgres
    ends: ExitStack
    over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def repeat(self, action: Callable[[], None]) -> None:
        """Do this until the lab is over, in a thread of its own."""

        def run() -> None:
            while not self.over.is_set():
                action()

        self._threads.append(threading.Thread(target=run))
        self._threads[-1].start()

    def rest(self) -> None:
        """Nothing is done again from now on."""
        self.over.set()
        for thread in self._threads:
            thread.join()


def lasting_ports(count: int) -> list[int]:
    """Free ports that no connection going out takes meanwhile, which gets one from 32768 on (Linux)."""
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as each, suppress(OSError):
            each.bind(("127.0.0.1", port))
            found.append(port)
    return found


class Patient:
    """One daemon, with a topic, a table, a way to the database and a port of its own."""

    def __init__(self, lab: Lab, name: str, port: int, settings: Mapping[str, Any], delay: float) -> None:
        self.lab, self.instance = lab, f"127.0.0.1:{port}"
        parts = conninfo_to_dict(lab.server.dsn)
        self.proxy = Proxy(str(parts["host"]), int(str(parts["port"])), delay)
        lab.ends.callback(self.proxy.close)
        self.topic = create_topic(lab.services, PARTITIONS)
        more = dict(settings)
        self.group = Group(
            replace(lab.services, dsn=lab.server.dsn),
            f"{name.lower().replace(' ', '_')}_{self.topic}",
            self.topic,
            PARTITIONS,
            session_ms=_SESSION_MS,
            kafka={"topic.metadata.propagation.max.ms": 500} | more.pop("kafka", {}),
            sink={"dsn": make_conninfo(lab.server.dsn, port=self.proxy.port)},
            settings={
                "batch": {"max_records": BATCH, "max_wait_ms": 20},
                "retry": {"max_delay_ms": 500},
                "admin": {"port": port},
            }
            | more,
        )
        self._producer = Producer({"bootstrap.servers": lab.services.bootstrap, "linger.ms": 5, "log_level": 0})
        self._count = 0

    def start(self) -> Member:
        """Start it, and wait until it answers, unless it ends."""
        member = self.group.start(1)
        until(lambda: member.dead() or member.get("/livez")[0] == 200, f"{self.group.name} answers")
        assert not member.dead(), member.log()
        return member

    def work(self, records: int = BATCH) -> Member:
        """Start it, and wait until it has written something."""
        member = self.start()
        self.produce(records)
        until(lambda: self.group.position() >= records, f"{self.group.name} writes")
        return member

    def produce(self, count: int, fault: str | None = None, age: float = 0, values: list[bytes] | None = None) -> None:
        """Send so many records, all with this fault; or else these `values`. `age`: seconds ago."""
        milliseconds = int((time.time() - age) * 1000)
        for number in range(count if values is None else len(values)):
            self._count += 1
            partition, seq = self._count % PARTITIONS, 1 + self._count
            value = record(partition, seq, self._count, fault) if values is None else values[number]
            self._producer.produce(self.topic, value, partition=partition, timestamp=milliseconds)
        assert self._producer.flush(60) == 0


def well(patient: Patient) -> None:
    """Nothing happens to it, but now and then a record that is at fault."""

    def feed() -> None:
        patient.produce(20)
        patient.produce(1, "check")
        patient.lab.over.wait(0.2)

    patient.work()
    patient.lab.repeat(feed)


def database_down(patient: Patient) -> None:
    """Connections are cut, and no new ones come about."""
    patient.work()
    patient.proxy.refuse()
    patient.proxy.cut()
    patient.produce(BATCH)


def database_full(patient: Patient) -> None:
    """The table's disk has no room."""
    server, table = patient.lab.server, patient.group.name
    assert isinstance(server, SmallDiskPostgres)
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(f"alter table {table} set tablespace small")
    patient.work()
    server.fill()
    patient.produce(20 * BATCH)


def database_slow(patient: Patient) -> None:
    """Each answer takes its time, and what comes is older and older."""
    patient.produce(200 * BATCH, age=LONG_AGO_SECONDS)
    patient.start()


def lag_growing(patient: Patient) -> None:
    """More comes than one process can map."""
    patient.produce(200 * BATCH, age=LONG_AGO_SECONDS)
    patient.start()


def letters_down(patient: Patient) -> None:
    """The topic of dead letters is not there, and more wait for it than may."""
    admin = AdminClient({"bootstrap.servers": patient.lab.services.bootstrap})
    admin.delete_topics([f"{patient.topic}.dlq"])[f"{patient.topic}.dlq"].result()
    patient.work()
    patient.produce(BATCH, "check")


def poison_storm(patient: Patient) -> None:
    """No record can be written any more."""
    patient.work()
    patient.produce(20 * BATCH, "check")


def partition_stalled(patient: Patient) -> None:
    """The group's offset is beyond the end of a partition."""
    settings = {"bootstrap.servers": patient.lab.services.bootstrap, "group.id": patient.group.name}
    consumer = Consumer(settings)
    try:
        consumer.commit(offsets=[TopicPartition(patient.topic, 0, 10**6)], asynchronous=False)
    finally:
        consumer.close()
    patient.start()
    patient.produce(BATCH)


def rebalance_storm(patient: Patient) -> None:
    """Somebody joins the group and leaves it, again and again."""
    patient.work()
    settings = {
        "bootstrap.servers": patient.lab.services.bootstrap,
        "group.id": patient.group.name,
        "partition.assignment.strategy": "range",
        "session.timeout.ms": _SESSION_MS,
        "heartbeat.interval.ms": 300,
    }

    def come_and_go() -> None:
        joined = threading.Event()
        consumer = Consumer(settings)
        try:
            consumer.subscribe([patient.topic], on_assign=lambda *_: joined.set())
            until(lambda: consumer.poll(0.05) or joined.is_set() or patient.lab.over.is_set(), "it has joined")
        finally:
            consumer.close()
        patient.lab.over.wait(0.5)

    patient.lab.repeat(come_and_go)


def crash_loop(patient: Patient) -> None:
    """Something kills it each time that it has been at work for a moment, as a limit of memory does."""
    first = patient.work()

    def live(member: Member) -> None:
        patient.lab.over.wait(3)
        member.send(signal.SIGKILL)
        patient.group.died(member, "by the crash loop")

    def again() -> None:
        live(patient.start())

    live(first)
    patient.lab.repeat(again)


def crashed(patient: Patient) -> None:
    """It is dead, and nobody starts it again."""
    member = patient.work()
    patient.group.kill(member, "random")


def registry_down(patient: Patient, registry: FakeRegistry) -> None:
    """It stops, and then comes a schema that nobody has asked for yet."""
    old, new = registry.register(_EVENT), registry.register(_EVENT | {"doc": "a new one"})
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(_EVENT), {"partition": 0, "seq": 1, "id": 1})
    known, unknown = (struct.pack(">bI", 0, number) + body.getvalue() for number in (old, new))
    patient.start()
    patient.produce(0, values=[known] * BATCH)
    until(lambda: patient.group.position() >= BATCH, f"{patient.group.name} writes")
    registry.stop()
    patient.produce(0, values=[known, unknown] * BATCH)


def wrong_schema(patient: Patient) -> None:
    """Some producers have changed the type of a field, and added another that no column takes."""
    patient.start()
    old = json.dumps({"partition": 0, "seq": 1, "id": 1, "added": 1}).encode()
    new = json.dumps({"partition": 0, "seq": 1, "id": {"high": 0, "low": 1}}).encode()
    patient.produce(0, values=[old, new, old, old] * BATCH)


@dataclass(frozen=True)
class Failure:
    """What is done, and what must tell of it: an alert, and the sentence of the overview by its number.

    `delay`: seconds that everything is on its way to the database, and back.
    """

    strike: Callable[[Patient], None]
    alert: str
    says: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    delay: float = 0


def failures(registry: FakeRegistry) -> dict[str, Failure]:
    """All of them but the broker's, by the names of the runbook. `registry`: one that works."""
    letters: dict[str, Any] = {"dead_letter": {"max_pending": 20}}
    told: dict[str, Any] = {"notify": [{"command": ["true"]}]}
    slow: dict[str, Any] = {"transform": "tests.operate.slow:transform"}
    avro: dict[str, Any] = {"format": {"type": "avro", "registry": {"url": registry.url}}}
    poison: dict[str, Any] = {"dead_letter": {"max_consecutive": 10}}
    eager: dict[str, Any] = {"kafka": {"partition.assignment.strategy": "range"}}
    return {
        "database down": Failure(database_down, "MicrobatchDatabaseUnavailable", 10),
        "database slow": Failure(database_slow, "MicrobatchDatabaseSlow", 3, delay=0.05),
        "database full": Failure(database_full, "MicrobatchDatabaseFull", 10),
        "registry down": Failure(partial(registry_down, registry=registry), "MicrobatchRegistryUnavailable", 9, avro),
        "DLQ down": Failure(letters_down, "MicrobatchDeadLettersBlock", 6, letters),
        "poison storm": Failure(poison_storm, "MicrobatchBreakerOpen", 7, poison),
        "stalled partition": Failure(partition_stalled, "MicrobatchPartitionStalled", 5),
        "lag growing": Failure(lag_growing, "MicrobatchLagGrowing", 3, slow),
        "rebalance storm": Failure(rebalance_storm, "MicrobatchRebalanceStorm", 4, eager),
        "crash loop": Failure(crash_loop, "MicrobatchCrashLoop", 12),
        "down": Failure(crashed, "MicrobatchDown", 11),
        "wrong schema": Failure(wrong_schema, "MicrobatchDeadLetters", 2, told),
    }

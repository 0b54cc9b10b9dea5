"""The running daemon is steered: by commands, and by SIGHUP, in a process of its own."""

from __future__ import annotations

import http.client
import json
import resource
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from tests.command import microbatch, start
from tests.faults.waiting import until
from tests.services.kafka import free_ports
from tests.services.mock_kafka import MockKafka

SECRET = "canary-of-the-broker"


class Daemon:
    """One on a broker in this process, into SQLite; topic `orders` of four partitions."""

    def __init__(self, folder: Path) -> None:
        self.kafka = MockKafka()
        self.kafka.create("orders")
        self.kafka.create("orders.dlq")
        self._database = folder / "orders.db"
        with sqlite3.connect(self._database) as connection:
            connection.execute("create table orders (id integer primary key, part integer)")
        connection.close()
        (self.port,) = free_ports(1)
        self.config, self._log = folder / "config.yaml", folder / "log"
        self.write(max_records=500, max_wait_ms=20)
        self._producer, self._produced = Producer({"bootstrap.servers": self.kafka.bootstrap, "linger.ms": 5}), 0
        self.process = start("run", self.config)

    def write(self, topics: str = "[orders]", **batch: int) -> None:
        """The file, with these bounds of batches."""
        self.config.write_text(
            f"kafka: {{bootstrap.servers: '{self.kafka.bootstrap}', group.id: g, sasl.password: {SECRET}}}\n"
            f"topics: {topics}\nformat: json\nbatch: {json.dumps(batch)}\n"
            f"sink: {{dsn: 'sqlite:///{self._database}', tables: {{orders: {{columns: {{part: $partition}}}}}}}}\n"
            f"admin: {{port: {self.port}}}\n"
        )

    def produce(self, count: int, **more: int) -> None:
        for _ in range(count):
            value = json.dumps({"id": self._produced} | more).encode()
            self._producer.produce("orders", value, partition=self._produced % 4)
            self._produced += 1
        assert self._producer.flush(20) == 0

    def rows(self) -> dict[int, int]:
        """By partition."""
        connection = sqlite3.connect(self._database)
        found = dict(connection.execute("select part, count(*) from orders group by part"))
        connection.close()
        return found

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.get("/status")))

    def get(self, path: str) -> str:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def up(self) -> bool:
        assert self.process.poll() is None, self.process.communicate()
        try:
            return bool(self.status()["state"] == "running")
        except OSError:
            return False

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.status()["events"] if event["event"] == name]

    def ended(self) -> str:
        """Its log, after SIGTERM; it must end well."""
        self.process.send_signal(signal.SIGTERM)
        said, log = self.process.communicate(timeout=30)
        assert self.process.returncode == 0, log
        return said + log


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    made = Daemon(tmp_path_factory.mktemp("daemon"))
    try:
        until(made.up, "it runs")
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def done(process: subprocess.CompletedProcess[str]) -> str:
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_a_partition_is_paused_and_resumed(daemon: Daemon) -> None:
    """The others flow; its lag goes on to be known; nothing is lost."""
    before = daemon.rows()
    assert done(microbatch("pause", daemon.config, "orders/1")).startswith("paused within one batch: orders/1;")
    until(lambda: daemon.status()["partitions"]["orders/1"]["paused"] == "operator", "it is paused")
    assert 'microbatch_partitions_paused{reason="operator"} 1.0' in daemon.get("/metrics")
    daemon.produce(400)
    until(lambda: sum(daemon.rows().values()) == sum(before.values()) + 300, "the others are written")
    assert daemon.rows().get(1, 0) == before.get(1, 0)
    until(lambda: daemon.status()["partitions"]["orders/1"]["lag"] == 100, "its lag is known")
    assert "orders/1: paused" in done(microbatch("status", daemon.config))
    assert done(microbatch("resume", daemon.config, "orders/1")) == "resumed: orders/1\n"
    until(lambda: daemon.rows().get(1, 0) == before.get(1, 0) + 100, "it is written")


def test_bounds_are_set(daemon: Daemon) -> None:
    """Answered, shown and counted."""
    assert done(microbatch("set", daemon.config, "batch.max_records=50")) == "batch.max_records: 500 -> 50\n"
    assert daemon.status()["changed"] == {"batch.max_records": {"configured": 500, "now": 50}}
    assert 'microbatch_config_changes_total{outcome="set"} 1.0' in daemon.get("/metrics")
    before = sum(daemon.rows().values())
    daemon.produce(400)
    until(lambda: sum(daemon.rows().values()) == before + 400, "they are written")


def test_hangup_reads_the_file_again(daemon: Daemon) -> None:
    """What may change does, and the rest waits for a restart; a broken file changes nothing."""
    daemon.write("[orders, payments]", max_records=60, max_wait_ms=30)
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.events("reloaded"), "it is read")
    status = daemon.status()
    assert (status["configuration"]["batch"]["max_records"], status["configuration"]["batch"]["max_wait_ms"]) == (
        60,
        30,
    )
    assert (status["changed"], status["needs_restart"]) == ({}, ["topics"])
    daemon.config.write_text(daemon.config.read_text().replace("max_records", "max_record"))
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.events("reload_refused"), "it is refused")
    (event,) = daemon.events("reload_refused")
    assert event["reason"] == "batch.max_record: is not a setting; did you mean `max_records`?"
    assert daemon.status()["configuration"]["batch"]["max_records"] == 60
    daemon.write(max_records=500, max_wait_ms=20)
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: daemon.status()["needs_restart"] == [], "it is as it was")


def test_fields_that_no_column_takes_are_shown(daemon: Daemon) -> None:
    """By name in the status and the log, counted in the metrics; their records are written."""
    before = sum(daemon.rows().values())
    daemon.produce(40, colour=1, size=2)
    until(lambda: sum(daemon.rows().values()) == before + 40, "they are written")
    until(lambda: daemon.status()["unknown_fields"] == {"orders": ["colour", "size"]}, "they are named")
    assert 'microbatch_unknown_fields{topic="orders"} 2.0' in daemon.get("/metrics")
    assert "orders: no column takes colour, size" in done(microbatch("status", daemon.config))


def test_a_thousand_slow_connections_hold_up_nothing(daemon: Daemon) -> None:
    """Neither probes nor records."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    slow = []
    try:
        for _ in range(1000):
            slow.append(socket.create_connection(("127.0.0.1", daemon.port), timeout=10))
            slow[-1].sendall(b"POST /set HTTP/1.1\r\nX: ")
        before = sum(daemon.rows().values())
        daemon.produce(2000)
        until(lambda: sum(daemon.rows().values()) == before + 2000, "they are written")
        assert daemon.status()["state"] == "running"
        assert len(list(Path(f"/proc/{daemon.process.pid}/task").iterdir())) < 60
        assert len(list(Path(f"/proc/{daemon.process.pid}/fd").iterdir())) < 400
    finally:
        for connection in slow:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_it_ends_well_and_never_said_a_secret(daemon: Daemon) -> None:
    """Each change is in the log, in one line; no secret is there, nor in anything that it answered."""
    shown = daemon.get("/status") + daemon.get("/metrics") + daemon.get("/")
    log = daemon.ended()
    assert SECRET not in shown + log
    events = [json.loads(line)["event"] for line in log.splitlines() if line.startswith("{")]
    assert [event for event in events if event in ("paused", "taken_up", "reload_refused")] == [
        "paused",
        "taken_up",
        "reload_refused",
    ]
    assert events.count("reloaded") == 2

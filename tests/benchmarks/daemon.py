"""The daemon itself, as users run it: `python -m consumer run`, a process of its own, everything switched on."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks import orders
from tests.benchmarks.lab import BATCH, TOPICS, Lab, topic_of
from tests.benchmarks.measuring import Measured, watch
from tests.benchmarks.programs import Program, started
from tests.services.kafka import free_ports

_STAGE = re.compile(r'^microbatch_stage_seconds_sum\{stage="(\w+)"\} (\S+)$', re.MULTILINE)
_IN_FLIGHT = re.compile(r"^microbatch_records_in_flight\{.*\} (\S+)$", re.MULTILINE)
_ASSIGNED = re.compile(r"^microbatch_partitions_assigned (\S+)$", re.MULTILINE)
_TOLD_SECONDS = 5.0  # within which metrics know of the last batch
_OFFSETS = "select sum(next_offset) from microbatch_offsets where group_id = '{}'"
# What a user's own Python costs at least: a call for each record, which returns its row.
TRANSFORM = "bench_transform:as_it_is"
_TRANSFORM = """
def as_it_is(record):
    return record.value
"""


@dataclass(frozen=True)
class Daemon:
    """A running one, and where its metrics are."""

    program: Program
    port: int

    def metrics(self) -> str:
        """What Prometheus would be given."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def stages(self) -> dict[str, float]:
        """Seconds spent in each stage so far; none where nobody answers."""
        try:
            return {stage: float(seconds) for stage, seconds in _STAGE.findall(self.metrics())}
        except OSError:
            return {}

    def settled(self) -> bool:
        """Whether its metrics know what became of all that it has read; True also where nobody answers."""
        try:
            return not any(map(float, _IN_FLIGHT.findall(self.metrics())))
        except OSError:
            return True

    def assigned(self) -> int:
        """How many partitions it has; 0 while nobody answers."""
        try:
            return int(float(_ASSIGNED.findall(self.metrics())[0]))
        except OSError:
            return 0


Beside = Callable[[Daemon], AbstractContextManager[Any]]


@contextmanager
def running(lab: Lab, config: Mapping[str, Any], name: str = "daemon") -> Iterator[Daemon]:
    """A daemon with this configuration, but on a free port; drained by SIGTERM at the end.

    Its log is {name}.log in the lab's folder.
    """
    (port,) = free_ports(1)
    path = lab.folder / f"{name}.yaml"
    path.write_text(json.dumps({**config, "admin": config.get("admin", {}) | {"port": port}}))  # JSON is YAML
    (lab.folder / "bench_transform.py").write_text(_TRANSFORM)
    command = [sys.executable, "-m", "consumer", "run", path]
    # Python looks for a module in the folder where it starts, before it looks for what is installed.
    where = {"PYTHONPATH": os.pathsep.join([str(lab.source), str(lab.folder)])}
    with started(command, lab.folder / f"{name}.log", lab.source, where) as program:
        yield Daemon(program, port)


def configuration(lab: Lab, topic: str, dsn: str, *, avro: bool = False, **more: Any) -> dict[str, Any]:
    """The defaults, which mean exactly once, with batches of 5,000; and `more`."""
    schema = lab.folder / "order.avsc"
    schema.write_text(json.dumps(orders.SCHEMA))
    return {
        "kafka": {"bootstrap.servers": lab.bootstrap, "group.id": lab.new_group()},
        "topics": [topic],
        "format": {"type": "avro", "schemas": {str(orders.SCHEMA_ID): str(schema)}} if avro else "json",
        "batch": {"max_records": BATCH},
        "sink": {"dsn": dsn, "tables": {"orders": {}}},
        **more,
    }


def into_postgres(
    lab: Lab, name: str, *, more: str = "", beside: Beside = lambda _: nullcontext(), **settings: Any
) -> Measured:
    """A whole topic into PostgreSQL.

    `more`: what else is done to the table. `beside` goes on while it works. `settings`: other ones than usual.
    """
    lab.empty(more=orders.CHECKED if TOPICS[name].period else more)
    return _into_postgres(lab, name, settings, beside)


def upsert_postgres(lab: Lab, name: str) -> Measured:
    """A whole topic into a table that has a row for each record already."""
    lab.empty(more=orders.KEYED, filled=lab.count(name))
    return _into_postgres(lab, name, {"sink": {"dsn": lab.dsn, "tables": {"orders": {"mode": "upsert"}}}})


def _into_postgres(
    lab: Lab, name: str, settings: Mapping[str, Any], beside: Beside = lambda _: nullcontext()
) -> Measured:
    config = configuration(lab, topic_of(name), lab.dsn, avro=name.startswith("avro"), **settings)
    with running(lab, config) as daemon, progress(lab, config) as written, beside(daemon):
        measured = drain(lab, [daemon], written, lab.count(name))
    if not TOPICS[name].period:
        lab.verify(lab.count(name))
    return replace(measured, rate=lab.rate(lab.good(name)))


@contextmanager
def progress(lab: Lab, config: Mapping[str, Any]) -> Iterator[Callable[[], int]]:
    """How many records of its topic a group has committed in PostgreSQL, asked on a connection of its own."""
    count = _OFFSETS.format(config["kafka"]["group.id"])
    with psycopg.connect(lab.dsn, autocommit=True) as connection:

        def written() -> int:
            (there,) = connection.execute("select to_regclass('microbatch_offsets') is not null").fetchone()
            return int(connection.execute(count).fetchone()[0] or 0) if there else 0

        yield written


def into_sqlite(lab: Lab, name: str, path: Path) -> Measured:
    """A whole topic into a SQLite file, timed by looking every 10 ms how far its offsets are."""
    for old in path.parent.glob(path.name + "*"):
        old.unlink()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute(orders.TABLE)
        config = configuration(lab, topic_of(name), f"sqlite:///{path}")
        count = _OFFSETS.format(config["kafka"]["group.id"])

        def written() -> int:
            there = connection.execute("select 1 from sqlite_schema where name = 'microbatch_offsets'").fetchone()
            return connection.execute(count).fetchone()[0] or 0 if there else 0

        with running(lab, config) as daemon:
            measured = drain(lab, [daemon], written, lab.count(name), 0.01)
        (found,) = connection.execute("select count(*) from orders").fetchone()
    if found != lab.count(name):
        raise RuntimeError(f"{found} rows in the file, {lab.count(name)} were expected")
    return measured


def drain(
    lab: Lab, daemons: Sequence[Daemon], written: Callable[[], int], records: int, interval: float = 0.2
) -> Measured:
    """Wait until these have written so many; the rate is what was seen by looking every `interval` seconds."""
    seen = watch(lab, [daemon.program for daemon in daemons], written, records, interval)
    stages: dict[str, float] = {}
    for daemon in daemons:
        end = time.monotonic() + _TOLD_SECONDS
        while not daemon.settled() and time.monotonic() < end:
            time.sleep(interval)
        for stage, seconds in daemon.stages().items():
            stages[stage] = stages.get(stage, 0.0) + seconds / records * 1e6
    memory = max(daemon.program.memory("VmHWM") for daemon in daemons)
    return Measured(seen.rate, seen.cpu, memory, seen.threads, stages)

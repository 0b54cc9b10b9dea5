"""The daemon itself, as users run it: `python -m consumer run`, a process of its own, everything switched on."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from tests.benchmarks import orders
from tests.benchmarks.lab import BATCH, PERIODS, Lab, rate, topic_of
from tests.services.kafka import free_ports

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_STAGE = re.compile(r'^microbatch_stage_seconds_sum\{stage="(\w+)"\} (\S+)$', re.MULTILINE)
_WRITTEN = "select sum(next_offset) from microbatch_offsets where group_id = '{}'"
_PATIENCE_SECONDS = 60


@dataclass(frozen=True)
class Measured:
    """One run. `rate`: records a second from the first commit to the last. `stages`: seconds in each, from its metrics.

    `cpu`: seconds of processor time for a million records. `memory`: its largest resident size in MB.
    """

    rate: float
    stages: dict[str, float]
    cpu: float
    memory: float


class Daemon:
    """A running one. What is asked here is read from the system or over HTTP."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self._process, self.port, self._log = process, port, log

    def metrics(self) -> str:
        """What Prometheus would be given."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def stages(self) -> dict[str, float]:
        """Seconds spent in each stage so far."""
        return {stage: float(seconds) for stage, seconds in _STAGE.findall(self.metrics())}

    def cpu(self) -> float:
        """Seconds of processor time used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS

    def memory(self, field: str = "VmRSS") -> float:
        """Resident memory in MB; `VmHWM` is the largest so far."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split()[0]) / 1024

    def check(self) -> None:
        """Raises RuntimeError when it has ended."""
        if (code := self._process.poll()) is not None:
            raise RuntimeError(f"the daemon ended with exit code {code}: {self._log.read_text()[-2000:]}")


Beside = Callable[[Daemon], AbstractContextManager[Any]]


@contextmanager
def running(config: dict[str, Any], folder: Path) -> Iterator[Daemon]:
    """A daemon with this configuration, but on a free port; drained by SIGTERM at the end. Its log is daemon.log."""
    (port,) = free_ports(1)
    path = folder / "daemon.yaml"
    path.write_text(json.dumps(config | {"admin": config.get("admin", {}) | {"port": port}}))  # JSON is YAML
    log = folder / "daemon.log"
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "consumer", "run", str(path)], stdout=out, stderr=out)
    try:
        yield Daemon(process, port, log)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.send_signal(signal.SIGTERM)
    if code := process.wait(_PATIENCE_SECONDS):
        raise RuntimeError(f"the daemon ended with exit code {code}: {log.read_text()[-2000:]}")


def configuration(lab: Lab, form: str, dsn: str) -> dict[str, Any]:
    """The defaults, which mean exactly once, with batches of 5,000."""
    schema = lab.folder / "order.avsc"
    schema.write_text(json.dumps(orders.SCHEMA))
    avro = {"type": "avro", "schemas": {str(orders.SCHEMA_ID): str(schema)}}
    return {
        "kafka": {"bootstrap.servers": lab.bootstrap, "group.id": lab.new_group()},
        "topics": [topic_of(form)],
        "format": avro if form == "avro" else "json",
        "batch": {"max_records": BATCH},
        "sink": {"dsn": dsn, "tables": {"orders": {}}},
    }


def into_postgres(
    lab: Lab,
    form: str,
    batch: Mapping[str, int] | None = None,
    *,
    admin: Mapping[str, Any] | None = None,
    beside: Beside = lambda _: nullcontext(),
) -> Measured:
    """The whole topic into PostgreSQL, timed by the commits that the server noted. `batch`: other bounds than 5,000.

    `admin`: settings of its port. `beside` goes on while it works.
    """
    lab.empty(checked=form in PERIODS)
    config = configuration(lab, form, lab.dsn) | {"admin": dict(admin or {})}
    if batch is not None:
        config["batch"] = dict(batch)
    count = _WRITTEN.format(config["kafka"]["group.id"])
    with psycopg.connect(lab.dsn, autocommit=True) as connection:

        def written() -> int:
            (there,) = connection.execute("select to_regclass('microbatch_offsets') is not null").fetchone()
            return int(connection.execute(count).fetchone()[0] or 0) if there else 0

        measured = _measure(lab, config, written, 0.2, beside)
    return replace(measured, rate=lab.rate(lab.good(form)))


def into_sqlite(lab: Lab, form: str, path: Path) -> Measured:
    """The whole topic into a SQLite file, timed by looking every 10 ms how far its offsets are."""
    for old in path.parent.glob(path.name + "*"):
        old.unlink()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute(orders.TABLE)
        config = configuration(lab, form, f"sqlite:///{path}")
        count = _WRITTEN.format(config["kafka"]["group.id"])

        def written() -> int:
            there = connection.execute("select 1 from sqlite_schema where name = 'microbatch_offsets'").fetchone()
            return connection.execute(count).fetchone()[0] or 0 if there else 0

        measured = _measure(lab, config, written, 0.01)
        (found,) = connection.execute("select count(*) from orders").fetchone()
    if found != lab.records:
        raise RuntimeError(f"{found} rows in the file, {lab.records} were expected")
    return measured


def _measure(
    lab: Lab,
    config: dict[str, Any],
    written: Callable[[], int],
    interval: float,
    beside: Beside = lambda _: nullcontext(),
) -> Measured:
    """Run until all is written; the rate is what was seen by looking every `interval` seconds."""
    with running(config, lab.folder) as daemon:
        with beside(daemon):
            seen = _watch(daemon, written, lab.records, interval)
        listens = config.get("admin", {}).get("enabled", True)
        stages, memory = daemon.stages() if listens else {}, daemon.memory("VmHWM")
    after_first = sum(count for _, count, _ in seen[1:])
    cpu = (seen[-1][2] - seen[0][2]) / max(1, after_first) * 1e6
    return Measured(rate([(at, count) for at, count, _ in seen]) if after_first else 0.0, stages, cpu, memory)


def _watch(daemon: Daemon, written: Callable[[], int], records: int, interval: float) -> list[tuple[float, int, float]]:
    """Time, records and the processor time of the daemon so far, of each progress seen, until all is written."""
    seen: list[tuple[float, int, float]] = []
    so_far = 0
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while so_far < records:
        daemon.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{so_far} of {records} records after {_PATIENCE_SECONDS} s")
        time.sleep(interval)
        if (now := written()) > so_far:
            seen.append((time.perf_counter(), now - so_far, daemon.cpu()))
            so_far = now
    return seen

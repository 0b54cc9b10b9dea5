"""`python -m tests.benchmarks.memory`: how much memory the daemon needs at its defaults, and whether that grows.

16 partitions of 1 kB records, always more of them waiting than it can read. The resident size is read every second; the
slope is over the last half, when everything has been in use.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psycopg
from confluent_kafka.admin import AdminClient, NewTopic
from rich.console import Console
from rich.progress import Progress

from tests.benchmarks import daemon, orders, report
from tests.services.kafka import Kafka
from tests.services.postgres import Postgres

TOPIC, PARTITIONS, VALUE_BYTES = "bench-memory", 16, 1000
GOAL_MB = 150
# So many records always wait to be read: far more than the client fetches ahead.
_AHEAD = 200_000
# Kafka keeps some times what waits, and no more than a disk holds.
_TOPIC_CONFIG = {"segment.bytes": str(16 << 20), "retention.bytes": str(96 << 20)}
_EMPTY_SECONDS = 30


@dataclass(frozen=True)
class Sample:
    """`at`: seconds since the start. `written`: records so far."""

    at: float
    resident_mb: float
    written: int


def values() -> Iterator[bytes]:
    """Different orders of 1 kB as JSON, for ever."""
    letters, made = random.Random(7), []
    for number in range(5000):
        plain = msgspec.structs.asdict(orders.order(number)) | {"note": ""}
        room = VALUE_BYTES - len(msgspec.json.encode(plain))
        made.append(msgspec.json.encode(plain | {"note": letters.randbytes(room // 2 + 1).hex()[:room]}))
    return itertools.cycle(made)


class Load:
    """Keeps records waiting, and the table from filling the disk."""

    def __init__(self, bootstrap: str, connection: psycopg.Connection) -> None:
        self._bootstrap, self._connection = bootstrap, connection
        self._values, self._produced = values(), 0
        admin = AdminClient({"bootstrap.servers": bootstrap})  # held: its futures die with it
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1, config=_TOPIC_CONFIG)])[TOPIC].result()
        connection.execute(orders.TABLE.replace("create table orders (", "create table orders (note text, "))

    def written(self) -> int:
        """Records that the daemon has committed."""
        (there,) = self._connection.execute("select to_regclass('microbatch_offsets') is not null").fetchone()
        query = "select coalesce(sum(next_offset), 0) from microbatch_offsets"
        return int(self._connection.execute(query).fetchone()[0]) if there else 0

    def fill(self, written: int) -> None:
        """Produce until enough wait."""
        missing = written + _AHEAD - self._produced
        batch = itertools.islice(self._values, max(0, missing))
        self._produced += orders.produce(self._bootstrap, TOPIC, PARTITIONS, batch)

    def empty(self) -> None:
        """Throw the rows away."""
        self._connection.execute("truncate orders")


def watch(running: daemon.Daemon, load: Load, seconds: float, progress: Progress) -> list[Sample]:
    """Sample each second, with the load kept up."""
    samples: list[Sample] = []
    task = progress.add_task("", total=seconds)
    start = emptied = time.monotonic()
    while (at := time.monotonic() - start) < seconds:
        running.check()
        written = load.written()
        samples.append(Sample(at, running.memory(), written))
        progress.update(task, completed=at, description=f"{samples[-1].resident_mb:.0f} MB, {written:,} records")
        load.fill(written)
        if time.monotonic() - emptied > _EMPTY_SECONDS:
            emptied = time.monotonic()
            load.empty()
        time.sleep(max(0.0, start + len(samples) - time.monotonic()))
    return samples


def results(samples: Sequence[Sample]) -> dict[str, float]:
    """What was found: the largest size, the slope over the last half, and how fast records went through meanwhile."""
    half = samples[len(samples) // 2 :]
    line = statistics.linear_regression([sample.at for sample in half], [sample.resident_mb for sample in half])
    return {
        "largest_mb": max(sample.resident_mb for sample in samples),
        "median_of_last_half_mb": statistics.median(sample.resident_mb for sample in half),
        "slope_of_last_half_mb_per_minute": line.slope * 60,
        "records_per_second": (half[-1].written - half[0].written) / (half[-1].at - half[0].at),
        "goal_mb": GOAL_MB,
    }


@contextmanager
def _loaded() -> Iterator[tuple[daemon.Daemon, Load, str]]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="microbatch-bench-")))
        broker, server = Kafka(folder), Postgres({"autovacuum": "off"})
        for service in (broker, server):
            service.start()
            stack.callback(service.stop)
        load = Load(broker.bootstrap, stack.enter_context(psycopg.connect(server.dsn, autocommit=True)))
        load.fill(0)
        config = {
            "kafka": {"bootstrap.servers": broker.bootstrap, "group.id": "bench"},
            "topics": [TOPIC],
            "format": "json",
            "sink": {"dsn": server.dsn, "tables": {"orders": {}}},
        }
        yield stack.enter_context(daemon.running(config, folder)), load, server.dsn


def main() -> None:
    """Measure, show, save."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="default %(default)s")
    minutes, console = parser.parse_args().minutes, Console()
    with _loaded() as (running, load, dsn), Progress(console=console) as progress:
        samples = watch(running, load, minutes * 60, progress)
        versions = report.versions(dsn)
    found = results(samples)
    for name, value in found.items():
        console.print(f"{name:35} {value:,.1f}")
    found |= {"samples": samples, "machine": report.machine(), "versions": versions}
    console.print(f"Full results: {report.save('memory', found).relative_to(report.ROOT)}")


if __name__ == "__main__":
    main()

"""`python -m tests.benchmarks.memory`: how much memory the daemon needs at its defaults, and whether that grows.

Always more records wait than it can read ahead. The resident size is read every second, the peak from the kernel; the
slope is over the last half, when everything has been in use.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psycopg
from rich.console import Console
from rich.progress import Progress

from tests.benchmarks import daemon, orders
from tests.benchmarks.command import starting
from tests.benchmarks.lab import Lab
from tests.benchmarks.results import ROOT, circumstances, save

TOPIC = "bench-memory"
GOALS_MB = {(16, 1000): 150, (16, 100_000): 200, (64, 1_000_000): 200}  # by partitions and bytes of a record
# So many bytes always wait to be read: far more than the client fetches ahead.
_AHEAD_BYTES = 200_000_000
# Kafka keeps some times what waits, and no more than a disk holds; a share of it for each partition.
_KEPT_BYTES = 8 * _AHEAD_BYTES
_DIFFERENT_BYTES = 20_000_000  # of values, which are sent again and again
_EMPTY_SECONDS = 30


@dataclass(frozen=True)
class Sample:
    """`at`: seconds since the start. `written`: records so far."""

    at: float
    resident_mb: float
    written: int


class Load:
    """Keeps records of `size` bytes waiting in all partitions, and the table from filling the disk."""

    def __init__(self, lab: Lab, connection: psycopg.Connection, partitions: int, size: int) -> None:
        self._lab, self._connection, self._partitions = lab, connection, partitions
        self._ahead, self._produced = _AHEAD_BYTES // size, 0
        self._values = itertools.cycle(list(orders.as_padded_json(range(_DIFFERENT_BYTES // size), size)))
        kept = {"segment.bytes": str(16 << 20), "retention.bytes": str(_KEPT_BYTES // partitions)}
        lab.create(TOPIC, partitions, kept)
        lab.empty(orders.PADDED_TABLE, more="alter table orders alter note set storage external")  # not compressed

    def fill(self, written: int) -> None:
        """Produce until enough wait."""
        batch = itertools.islice(self._values, max(0, written + self._ahead - self._produced))
        self._produced += orders.produce(self._lab.bootstrap, TOPIC, self._partitions, batch)

    def empty(self) -> None:
        """Throw the rows away."""
        self._connection.execute("truncate orders")


def watch(
    running: daemon.Daemon, load: Load, written: Callable[[], int], seconds: float, progress: Progress
) -> list[Sample]:
    """Sample each second, with the load kept up."""
    samples: list[Sample] = []
    task = progress.add_task("", total=seconds)
    start = emptied = time.monotonic()
    while (at := time.monotonic() - start) < seconds:
        running.program.check()
        samples.append(Sample(at, running.program.memory(), written()))
        told = f"{samples[-1].resident_mb:.0f} MB, {samples[-1].written:,} records"
        progress.update(task, completed=at, description=told)
        load.fill(samples[-1].written)
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
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.memory", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="default %(default)s")
    parser.add_argument("--partitions", type=int, default=16, help="default %(default)s")
    parser.add_argument("--bytes", type=int, default=1000, help="of each record, at least 200; default %(default)s")
    return parser.parse_args()


def main() -> None:
    """Measure, show, save."""
    arguments, console = _arguments(), Console()
    with ExitStack() as stack:
        lab = stack.enter_context(starting(console, settings={"autovacuum": "off"}))
        found: dict[str, Any] = circumstances(lab.dsn) | {"partitions": arguments.partitions, "bytes": arguments.bytes}
        connection = stack.enter_context(psycopg.connect(lab.dsn, autocommit=True))
        load = Load(lab, connection, arguments.partitions, arguments.bytes)
        load.fill(0)
        config = daemon.configuration(lab, TOPIC, lab.dsn, batch={})
        running = stack.enter_context(daemon.running(lab, config))
        written = stack.enter_context(daemon.progress(lab, config))
        with Progress(console=console) as progress:
            samples = watch(running, load, written, arguments.minutes * 60, progress)
        peak = {"peak_mb": running.program.memory("VmHWM")}
    figures = peak | results(samples) | {"goal_mb": GOALS_MB.get((arguments.partitions, arguments.bytes))}
    for name, value in figures.items():
        console.print(f"{name:35} {'none' if value is None else f'{value:,.1f}'}")
    path = save("memory", found | figures | {"samples": samples})
    console.print(f"Full results: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()

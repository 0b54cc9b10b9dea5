"""One run of a program that writes: how fast it was, and what it, PostgreSQL and Kafka took for that."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tests.benchmarks.lab import Lab, rate
from tests.benchmarks.programs import Program, processor_seconds

_PATIENCE_SECONDS = 180
_TELLING_SHARE = 0.5  # of the records that must have come after the first look


@dataclass(frozen=True)
class Measured:
    """One run. Rate and processor time are of the part once warm (see `Lab`), the others of all of it.

    `rate`: records a second. `cpu`: seconds of processor time for a million records, which is microseconds for one: of
    the client, and of each service that is ours; `threads`: the client's, by kind; both empty if too few records came.
    `memory`: the client's largest resident size in MB. `stages`: seconds on the clock for a million records, where the
    client tells.
    """

    rate: float
    cpu: dict[str, float]
    memory: float
    threads: dict[str, float] = field(default_factory=dict)
    stages: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """`seen`: time and records so far, at each look that found more. `cpu`, `threads`: as of Measured."""

    seen: list[tuple[float, int]]
    cpu: dict[str, float]
    threads: dict[str, float]

    @property
    def rate(self) -> float:
        """As far as looks can tell; 0 if the first one found everything."""
        steps = [(at, now - before) for (_, before), (at, now) in zip([(0.0, 0), *self.seen], self.seen, strict=False)]
        return rate(steps) if len(steps) > 1 else 0.0


def watch(lab: Lab, programs: Sequence[Program], written: Callable[[], int], records: int, interval: float) -> Progress:
    """Look every `interval` seconds until all is written. Raises RuntimeError if a program ends, or nothing is seen."""
    seen: list[tuple[float, int]] = []
    before: tuple[int, Counter[str], Counter[str]] | None = None
    so_far, moved = 0, time.monotonic()
    while so_far < records:
        for program in programs:
            program.check()
        if time.monotonic() - moved > _PATIENCE_SECONDS:
            said = programs[0].said()
            raise RuntimeError(f"{so_far} of {records} records, and no more for {_PATIENCE_SECONDS} s: {said}")
        time.sleep(interval)
        if (now := written()) > so_far:
            so_far, moved = now, time.monotonic()
            seen.append((time.perf_counter(), now))
            if before is None and now >= lab.warm_up * records:
                before = (now, *_used(lab, programs))
    count, cpu, threads = before or (records, Counter(), Counter())
    if (counted := so_far - count) < _TELLING_SHARE * (1 - lab.warm_up) * records:
        return Progress(seen, {}, {})  # what was fetched ahead by then would be counted, and not the work for it
    cpu_after, threads_after = _used(lab, programs)
    return Progress(seen, _for_a_million(cpu_after, cpu, counted), _for_a_million(threads_after, threads, counted))


def _used(lab: Lab, programs: Sequence[Program]) -> tuple[Counter[str], Counter[str]]:
    cpu = Counter({name: processor_seconds(pid) for name, pid in lab.services.items()})
    threads: Counter[str] = Counter()
    for program in programs:
        cpu["client"] += processor_seconds(program.pid)
        threads.update(program.threads())
    return cpu, threads


def _for_a_million(after: Mapping[str, float], before: Mapping[str, float], records: int) -> dict[str, float]:
    return {name: (used - before.get(name, 0.0)) / records * 1e6 for name, used in after.items()}

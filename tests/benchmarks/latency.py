"""`python -m tests.benchmarks.latency`: how old a record is when its row is committed, at a share of the full load.

The full load is what the daemon drains in the same round. Each record's age is from its timestamp to the commit of its
row, as the server noted it. The producer takes its part of the machine, so the load is more than its share.
"""

from __future__ import annotations

import itertools
import time

import psycopg

from consumer.config.model import BatchSettings
from tests.benchmarks import daemon, orders, report
from tests.benchmarks.command import parser, starting, wide
from tests.benchmarks.lab import PARTITIONS, Lab
from tests.benchmarks.results import circumstances
from tests.faults.waiting import until

_AGES = """
select percentile_disc(array[0.5, 0.99, 1]) within group (order by
  extract(epoch from pg_xact_commit_timestamp(xmin) - placed_at)::float8 * 1000)
from orders
"""
MAX_WAIT_MS = BatchSettings().max_wait_ms
P99 = "99 of 100, ms"
_TURN_SECONDS = 0.005
_DIFFERENT = 20_000


def paced(lab: Lab, topic: str, rate: float, seconds: float) -> int:
    """Produce so many records a second, evenly. Returns how many came of it: fewer where the producer is too slow."""
    values = itertools.cycle(list(orders.as_json(range(_DIFFERENT))))
    sender, sent, began = orders.producer(lab.bootstrap, {"linger.ms": 5}), 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for value in itertools.islice(values, max(0, int(passed * rate) - sent)):
            orders.offer(sender, topic, sent % PARTITIONS, value)
            sent += 1
            if time.perf_counter() - began > seconds:
                break
        sender.poll(0)
        time.sleep(_TURN_SECONDS)
    if left := sender.flush(60):
        raise RuntimeError(f"{left} records were not stored within 60 s")
    return sent


def ages(lab: Lab, rate: float, seconds: float) -> dict[str, float]:
    """Milliseconds that half of the records, and 99 of 100, were at most old when committed; and the oldest."""
    group = lab.new_group()
    topic = f"bench-latency-{group}"
    lab.create(topic, PARTITIONS)
    lab.empty()
    config = daemon.configuration(lab, topic, lab.dsn, batch={})
    config["sink"]["tables"]["orders"] = {"columns": {"placed_at": "$timestamp"}}
    with daemon.running(lab, config) as running, daemon.progress(lab, config) as written:
        until(lambda: running.assigned() == PARTITIONS, "the daemon has all partitions")
        sent = paced(lab, topic, rate, seconds)
        until(lambda: written() == sent, "all records are written")
    lab.delete(topic)
    with psycopg.connect(lab.dsn, autocommit=True) as connection:
        ((half, most, oldest),) = connection.execute(_AGES).fetchone()
    return {"records/s": sent / seconds, "half of all, ms": half, P99: most, "the oldest, ms": oldest}


def main() -> None:
    """Measure, show, save."""
    options = parser("tests.benchmarks.latency", __doc__, records=400_000)
    options.add_argument("--share", type=float, default=0.5, help="of the full load; default %(default)s")
    options.add_argument("--seconds", type=float, default=10, help="of each round; default %(default)s")
    arguments, console = options.parse_args(), wide()
    with starting(console, arguments.records, ["json"]) as lab:
        found, rounds = circumstances(lab.dsn) | {"share": arguments.share}, []
        for _ in range(arguments.rounds):
            full = daemon.into_postgres(lab, "json").rate
            rounds.append({"full load, records/s": full} | ages(lab, full * arguments.share, arguments.seconds))
    found |= report.figures(rounds, {P99: 2.0 * MAX_WAIT_MS})
    title = f"Age at commit, at {arguments.share:g} of the full load"
    report.present_figures(console, "latency", title, found)


if __name__ == "__main__":
    main()

"""`python -m tests.benchmarks.start`: how long from the start of the daemon to its first commit.

Beside it the same for a bare consumer, from its making to its first record: nobody can join a group in less.
"""

from __future__ import annotations

import time

import psycopg

from tests.benchmarks import daemon, report
from tests.benchmarks.command import parser, starting, wide
from tests.benchmarks.lab import BATCH, Lab, batches, consuming, topic_of
from tests.benchmarks.results import circumstances
from tests.faults.waiting import until

_FIRST = "select extract(epoch from min(pg_xact_commit_timestamp(xmin)))::float8 from orders"
BARE, ON_TOP = "a bare consumer's first record, s", "the difference, s"


def first_record(lab: Lab) -> float:
    """Seconds until a bare consumer has one."""
    began = time.perf_counter()
    with consuming(lab, topic_of("json")) as consumer:
        next(batches(consumer, 1))
        return time.perf_counter() - began


def first_commit(lab: Lab) -> float:
    """Seconds until the daemon's first commit, as the server noted it; its clock is ours."""
    lab.empty()
    began = time.time()
    config = daemon.configuration(lab, topic_of("json"), lab.dsn)
    with daemon.running(lab, config), psycopg.connect(lab.dsn, autocommit=True) as connection:
        return until(lambda: connection.execute(_FIRST).fetchone()[0], "the first commit") - began


def main() -> None:
    """Measure, show, save."""
    arguments, console = parser("tests.benchmarks.start", __doc__, records=None).parse_args(), wide()
    with starting(console, 2 * BATCH, ["json"]) as lab:
        found, rounds = circumstances(lab.dsn), []
        first_commit(lab)  # by then Kafka has its topic of offsets, and Python its compiled files
        for _ in range(arguments.rounds):
            bare, whole = first_record(lab), first_commit(lab)
            rounds.append({BARE: bare, "the daemon's first commit, s": whole, ON_TOP: whole - bare})
    report.present_figures(console, "start", "From the start", found | report.figures(rounds, {ON_TOP: 2.0}))


if __name__ == "__main__":
    main()

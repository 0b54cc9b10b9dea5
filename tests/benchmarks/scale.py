"""`python -m tests.benchmarks.scale`: what a row costs with more members, partitions and rows, and larger records.

Each run has a topic of its own. Its records are shown all at once, when every member has its partitions: so what is
measured is all of them at work, and not how they came.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tests.benchmarks import daemon, orders, report
from tests.benchmarks.command import parser, starting, wide
from tests.benchmarks.lab import BATCH, PARTITIONS, Lab
from tests.benchmarks.measuring import Measured
from tests.benchmarks.report import Ratio
from tests.benchmarks.results import circumstances
from tests.faults.waiting import until

# The first is that of members that share two cores with Kafka and PostgreSQL, the last that of members which do not
# wait for cores.
GOALS = {
    ("2 members", "records/s"): 1.6,
    ("2 members, a transform", "records/s"): 1.6,
    ("2 members, upserts", "records/s"): 1.6,
    ("2 members, a slow database", "records/s"): 1.8,
}
_SLOW_SECONDS = 0.05
_LARGEST_TOPIC_BYTES = 200_000_000
NOTES = (
    "Records of a certain size are a number and a text, which PostgreSQL compresses from 2 kB on (TOAST): that is most"
    " of what large ones cost.",
)


@dataclass(frozen=True)
class Point:
    """One set-up. `size`: bytes of each record, of little more than a text; 0: whole orders. `transform`: each record
    goes through a function in Python. `upserts`: each row is there already. `delay`: seconds that the database takes
    longer for each batch."""

    records: int
    members: int = 1
    partitions: int = PARTITIONS
    size: int = 0
    transform: bool = False
    upserts: bool = False
    delay: float = 0.0


def axes(records: int, *, ten_million: bool) -> dict[str, dict[str, Point]]:
    """What is varied, the others being as they are; each point is held against the first."""
    rows = (100_000, 1_000_000, *([10_000_000] if ten_million else []))
    return {
        "members": {_text(count, "member"): Point(records, members=count) for count in (1, 2, 4)},
        "transform": {
            f"{_text(count, 'member')}, a transform": Point(records, members=count, transform=True) for count in (1, 2)
        },
        "upserts": {
            f"{_text(count, 'member')}, upserts": Point(records // 2, members=count, upserts=True) for count in (1, 2)
        },
        "slow": {
            f"{_text(count, 'member')}, a slow database": Point(records, members=count, delay=_SLOW_SECONDS)
            for count in (1, 2)
        },
        "partitions": {_text(count, "partition"): Point(records, partitions=count) for count in (1, 4, 16, 64)},
        "rows": {f"{count:,} rows": Point(count) for count in rows},
        "bytes": {
            f"{size:,} bytes": Point(min(records, _LARGEST_TOPIC_BYTES // size), size=size)
            for size in (100, 1_000, 10_000, 100_000)
        },
    }


def _text(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count > 1)}"


def drained(lab: Lab, point: Point) -> Measured:
    """All of a topic of its own, by members that already have their partitions."""
    topic = f"bench-{lab.new_group()}"
    lab.create(topic, point.partitions)
    delayed = orders.DELAYED.format(seconds=point.delay) if point.delay else ""
    table = orders.PADDED_TABLE if point.size else orders.TABLE
    lab.empty(table, more=orders.KEYED if point.upserts else delayed, filled=point.records * point.upserts)
    numbers = range(point.records)
    values = orders.as_notes(numbers, point.size) if point.size else orders.as_json(numbers)
    more: dict[str, Any] = {"transform": daemon.TRANSFORM} if point.transform else {}
    if point.upserts:
        more["sink"] = {"dsn": lab.dsn, "tables": {"orders": {"mode": "upsert"}}}
    config = daemon.configuration(lab, topic, lab.dsn, **more)
    with orders.withheld(lab.bootstrap, topic, point.partitions, values) as show, ExitStack() as stack:
        names = [f"member-{number}" for number in range(point.members)]
        members = [stack.enter_context(daemon.running(lab, config, name)) for name in names]
        written = stack.enter_context(daemon.progress(lab, config))
        fair = {point.partitions // point.members, -(-point.partitions // point.members)}
        until(lambda: {member.assigned() for member in members} <= fair, "each member has its partitions")
        show()
        measured = daemon.drain(lab, members, written, point.records)
    lab.delete(topic)
    if not point.size:
        lab.verify(point.records)
    return replace(measured, rate=lab.rate(point.records))


def ratios(points: dict[str, Point]) -> list[Ratio]:
    """Of each point to the first."""
    first, *others = points
    return [
        Ratio(f"{other} / {first}: {text}", other, first, GOALS.get((other, text)), figure)
        for other in others
        for text, figure in (("records/s", "rate"), ("records for a second of processor time", "efficiency"))
    ]


def main() -> None:
    """Measure, show, save."""
    options = parser("tests.benchmarks.scale", __doc__, records=400_000)
    options.add_argument("--only", nargs="+", choices=axes(BATCH, ten_million=False), help="these axes")
    options.add_argument("--ten-million", action="store_true", help="rows up to 10,000,000")
    arguments, console = options.parse_args(), wide()
    chosen = axes(arguments.records, ten_million=arguments.ten_million)
    with starting(console) as lab:
        for axis in arguments.only or chosen:
            before, points = circumstances(lab.dsn), chosen[axis]
            candidates = {name: partial(drained, lab, point) for name, point in points.items()}
            rounds = report.in_turn(arguments.rounds, candidates, console)
            found = before | report.results(rounds, ratios(points)) | {"points": points}
            report.present(console, f"scale-{axis}", found, NOTES if axis == "bytes" else ())


if __name__ == "__main__":
    main()

"""The report of a run, for people and for programs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from consumer.runs.history import listed
from consumer.runs.report import Category, Part, Report, Status, lines, of_json

LETTERS = [
    Category(4, "write", "RejectedError", "23514", "orders", "positive", "orders/0/17", "Correct the check."),
    Category(3, "decode", "DecodeError", None, None, None, "orders/1/5", "Give it the schema."),
]
REPORT = Report(
    id="20261127T081500-0a1b2c",
    status=Status.COMPLETED_WITH_DEAD_LETTERS,
    reason="",
    hint="",
    config="my orders.yaml",
    group="orders",
    topics=("orders",),
    until="end",
    version="1.0",
    host="here",
    pid=7,
    started="2026-11-27T08:15:00.000Z",
    ended="2026-11-27T08:15:12.300Z",
    seconds=12.3,
    records={"consumed": 100_000, "written": 99_993, "dead_lettered": 7},
    rows={"orders": 99_993},
    bytes=12_345_678,
    mean_rate=8130.1,
    peak_rate=12_400.0,
    dead_letters=LETTERS,
    pending=2,
    partitions=[Part("orders", 0, 0, 50_000, 50_000, 50_000), Part("orders", 1, None, 7, None, None)],
)


def test_people_read_what_was_done_and_what_to_do() -> None:
    """The outcome first; dead letters with their remedies; each partition."""
    assert list(lines(REPORT)) == [
        "completed with dead letters: 99,993 records written, 7 dead letters",
        "run         20261127T081500-0a1b2c, my orders.yaml, group orders, microbatch 1.0",
        "time        2026-11-27 08:15:00Z to 2026-11-27 08:15:12Z, 12.3 s",
        "records     100,000 consumed, 99,993 written, 7 dead lettered",
        "rows        99,993 in orders",
        "throughput  8,130/s on average, 12,400/s in the best second; 12.3 MB of values",
        "dead        4 write: 23514 positive (first: orders/0/17)",
        "            Correct the check.",
        "dead        3 decode: DecodeError (first: orders/1/5)",
        "            Give it the schema.",
        "            microbatch dlq list 'my orders.yaml' shows them",
        "pending     2 dead letters are in the table, and their topic lacks them",
        "partition   orders/0: from 0 to 50,000, reached 50,000, stored 50,000",
        "partition   orders/1: from unknown to 7, reached unknown, stored unknown",
    ]


def test_a_failure_says_why_and_what_to_do_first() -> None:
    """Before everything else."""
    failed = replace(REPORT, status=Status.FAILED, reason="there is no table orders", hint="Create it.")
    assert list(lines(failed))[:2] == ["failed: there is no table orders", "hint        Create it."]


def test_json_gives_the_same_report_back() -> None:
    """All of it."""
    assert lines(of_json(json.loads(json.dumps(REPORT.as_json())))).__next__() == next(lines(REPORT))
    assert of_json(json.loads(json.dumps(REPORT.as_json()))).as_json() == json.loads(json.dumps(REPORT.as_json()))


@pytest.mark.parametrize(
    ("status", "until", "strict", "code"),
    [
        (Status.COMPLETED, "end", False, 0),
        (Status.COMPLETED, "end", True, 0),
        (Status.COMPLETED_WITH_DEAD_LETTERS, "end", False, 0),
        (Status.COMPLETED_WITH_DEAD_LETTERS, "end", True, 1),
        (Status.STOPPED, "end", False, 1),
        (Status.HELD, "end", False, 1),
        (Status.FAILED, "end", False, 1),
        (Status.STOPPED, None, False, 0),
        (Status.HELD, None, False, 0),
        (Status.FAILED, None, False, 1),
    ],
)
def test_the_exit_code_says_whether_it_is_done(status: Status, until: str | None, strict: bool, code: int) -> None:
    """A daemon is done when it is told to stop, a job is not."""
    assert replace(REPORT, status=status, until=until).exit_code(strict=strict) == code


def test_runs_are_listed_in_a_table() -> None:
    """One a line."""
    assert listed([REPORT]) == [
        "id                      started               seconds  status                       records  dead letters"
        "  config",
        "20261127T081500-0a1b2c  2026-11-27 08:15:00Z  12.3     completed_with_dead_letters  99,993   7           "
        "  my orders.yaml",
    ]

"""What a run adds up to, and what is told while it goes on."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping
from typing import Any

import structlog

from consumer.batch import Batch
from consumer.config import parse
from consumer.errors import DecodeError, RejectedError, TopicPartition
from consumer.goal import Goal
from consumer.letter import DeadLetter, State, evidence_of, letter_of
from consumer.metrics import Metrics
from consumer.runs.recorder import Recorder, begin
from consumer.runs.report import Status
from consumer.telemetry import Telemetry
from consumer.writer import Written
from tests.fake_kafka import MemoryMessage

A, B = ("t", 0), ("t", 1)
NOW = datetime.datetime.now(datetime.UTC)
SETTINGS = parse(
    {
        "kafka": {"bootstrap.servers": "none:1", "group.id": "g", "sasl.password": "canary-1"},
        "topics": ["t"],
        "format": "json",
        "sink": {"dsn": "postgresql://u:canary-2@h/d"},
        "notify": [{"webhook": "https://h/canary-3", "secret": "canary-4-canary-4"}],
    }
)


class Run:
    """A recorder, with what feeds it and what it tells; `clock` is moved by hand."""

    def __init__(self, goal: Goal | None = None) -> None:
        self.now, self.metrics = 100.0, Metrics()
        self.told: list[tuple[str, Mapping[str, Any]]] = []
        self.shown: list[tuple[int, int]] = []
        self.goal = goal or Goal()
        this = begin(SETTINGS, "orders.yaml", None if self.goal.endless else "end")
        self.recorder = Recorder(this, self.metrics, lambda *event: self.told.append(event), clock=lambda: self.now)
        self.telemetry = Telemetry(self.metrics, clock=lambda: self.now, observer=self.recorder)

    def write(self, key: TopicPartition, to: int, records: int, letters: list[DeadLetter] | None = None) -> None:
        """A batch of this partition is committed."""
        messages = [MemoryMessage(*key, to - 1, b"12345678")] * records
        batch = Batch(messages, {key: 0}, {key: to}, {}, 8 * records)
        good = records - len(letters or [])
        self.telemetry.consumed(Counter({key[0]: records}))
        self.goal.moved({key: to})
        rows = Counter(orders=good)
        self.telemetry.wrote(Written(batch, {key: to}, Counter(t=good), rows=rows, letters=letters or []), 0.1)

    def events(self) -> list[str]:
        return [event for event, _ in self.told]


def letter(offset: int, error: DecodeError | RejectedError) -> DeadLetter:
    return letter_of(MemoryMessage("t", 0, offset, b"canary-5"), evidence_of(error, "b"), State.KEPT, NOW)


def test_it_adds_up_what_the_metrics_count() -> None:
    """Records by the ledger, rows by table, bytes, and the best second."""
    run = Run(Goal({A: 10}, {A: 0}))
    run.recorder.aimed(run.goal)
    run.write(A, 4, 4)
    run.now += 1
    run.write(A, 6, 2)
    run.write(A, 9, 3)
    run.now += 3
    report = run.recorder.report()
    assert report.records == dict.fromkeys(("duplicate", "filtered", "dead_lettered", "released", "in_flight"), 0) | {
        "consumed": 9,
        "written": 9,
    }
    assert (report.rows, report.bytes, report.peak_rate, report.mean_rate) == ({"orders": 9}, 72, 5.0, 2.2)
    assert (report.status, report.seconds, report.config, report.group) == (Status.STOPPED, 4.0, "orders.yaml", "g")
    run.write(A, 10, 1)
    report = run.recorder.report(checkpoints={A: 10})
    assert report.status is Status.COMPLETED
    (part,) = report.partitions
    assert (part.start, part.target, part.reached, part.checkpoint) == (0, 10, 10, 10)


def test_dead_letters_are_told_by_kind() -> None:
    """Most first, with the first record of each and a remedy; they make another status."""
    run = Run(Goal({A: 9}, {A: 0}))
    check = RejectedError("check", "23514", "orders", None, "positive")
    run.write(A, 9, 9, [letter(3, DecodeError("no")), letter(4, check), letter(6, check)])
    report = run.recorder.report()
    assert [(kind.count, kind.stage, kind.sqlstate, kind.constraint, kind.first) for kind in report.dead_letters] == [
        (2, "write", "23514", "positive", "t/0/4"),
        (1, "decode", None, None, "t/0/3"),
    ]
    assert all(kind.remedy for kind in report.dead_letters)
    assert report.records["dead_lettered"] == 3


def test_too_many_kinds_are_one() -> None:
    """A report is bounded, whatever a database names its constraints."""
    run = Run()
    refused = [letter(n, RejectedError("check", "23514", "orders", None, f"c{n}")) for n in range(60)]
    run.write(A, 60, 60, refused)
    kinds = run.recorder.report().dead_letters
    assert len(kinds) == 51
    assert (kinds[0].count, kinds[0].stage) == (10, "other")


def test_each_tenth_of_the_way_is_told_once() -> None:
    """Not those that were passed meanwhile, nor the end, which has an event of its own; with the time that is left."""
    run = Run(Goal({A: 50, B: 50}, {A: 0, B: 0}))
    run.recorder.aimed(run.goal, lambda *shown: run.shown.append(shown))
    run.now += 10
    for partition, to in ((A, 5), (A, 20), (A, 21), (B, 20), (A, 50), (B, 50)):
        run.write(partition, to, 1)
        run.now += 3
    told = [about["progress"] for event, about in run.told if event == "milestone"]
    assert [progress["percent"] for progress in told] == [20, 41, 70]
    assert told[0] == {"done": 20, "total": 100, "percent": 20, "per_second": 5.0, "eta_seconds": 16.0}
    assert run.shown[0] == (0, 100)
    assert run.shown[-1] == (100, 100)


def test_the_status_tells_how_far_a_job_is() -> None:
    """From its start, and with the time left once that is known."""
    run = Run(Goal({A: 50, B: 50}, {A: 0, B: 0}))
    run.recorder.aimed(run.goal)
    none = {"per_second": None, "eta_seconds": None}
    assert run.telemetry.status()["job"] == {"done": 0, "total": 100, "percent": 0} | none
    for to in (10, 20):
        run.write(A, to, 10)
        run.now += 2
    run.recorder.looked()
    assert run.telemetry.status()["job"] == {
        "done": 20,
        "total": 100,
        "percent": 20,
        "per_second": 2.5,
        "eta_seconds": 32.0,
    }


def test_a_daemon_has_no_milestones() -> None:
    """It has no end to be measured by."""
    run = Run()
    run.write(A, 100, 100)
    run.recorder.looked()
    assert run.told == []
    assert run.telemetry.status()["job"] is None
    assert run.recorder.report().status is Status.STOPPED


def test_a_hold_is_told_once_and_when_it_is_over() -> None:
    """However often it is tried again meanwhile; ended then, the run was held."""
    run = Run()
    for _ in range(3):
        run.telemetry.stopped_writing("too many", 300)
        run.telemetry.probed(None)
    run.telemetry.held(A, "a gap", "reset")
    assert run.events() == ["held", "held"]
    assert run.told[0][1]["reason"] == "too many"
    report = run.recorder.report()
    assert (report.status, report.reason) == (Status.HELD, "t/0: a gap")
    run.write(B, 1, 1)
    assert run.events() == ["held", "held"]  # one of them is left
    run.telemetry.claimed({A: 7})
    assert run.events() == ["held", "held", "resumed"]
    assert run.recorder.report().status is Status.STOPPED


def test_a_held_partition_that_goes_to_another_is_held_there() -> None:
    """Unless it goes because this run ends: then it was held to the last."""
    for ends, status in ((False, Status.STOPPED), (True, Status.HELD)):
        run = Run()
        run.telemetry.held(A, "a gap", "reset")
        if ends:
            run.telemetry.draining()
        run.telemetry.rebalanced("revoked", [A])
        assert run.events() == (["held"] if ends else ["held", "resumed"])
        assert run.recorder.report().status is status


def test_a_job_that_does_not_move_says_what_it_waits_for() -> None:
    """Every half a minute, with the partitions that are left."""
    run = Run(Goal({A: 50, B: 50}, {A: 0, B: 0}))
    run.recorder.aimed(run.goal)
    run.write(A, 50, 50)
    with structlog.testing.capture_logs() as lines:
        for _ in range(65):
            run.now += 1
            run.recorder.looked()
    assert [line["event"] for line in lines] == ["job_waits"] * 2
    assert lines[0]["left"] == {"t/1": "not known of 50"}


def test_neither_secrets_nor_values_are_told() -> None:
    """In no event, and not in the report."""
    run = Run()
    run.write(A, 1, 1, [letter(0, DecodeError("no"))])
    run.telemetry.stopped_writing("too many", 300)
    run.recorder.event("completed", status="completed")
    assert "canary" not in str(run.told) + str(run.recorder.report())

"""What is told to the probes, the metrics and the log."""

from __future__ import annotations

from collections import Counter

import structlog

from consumer.assignment import Assignment
from consumer.batch import Batch
from consumer.metrics import Metrics
from consumer.telemetry import Telemetry
from consumer.writer import Written
from tests.fake_kafka import MemoryMessage

P = ("t", 0)


class Clock:
    """Moved by hand."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def made() -> tuple[Telemetry, Metrics, Clock]:
    clock, metrics = Clock(), Metrics()
    return Telemetry(metrics, clock=clock), metrics, clock


def looked(telemetry: Telemetry, assignment: Assignment, end: int = 0, written_to: int = 0) -> None:
    telemetry.looked(assignment, {P: end}, {P: written_to}, {}, None)


def assigned(flow: bool) -> Assignment:
    assignment = Assignment()
    assignment.assigned([P], 0)
    if flow:
        assignment.to_claim(0)
        assignment.flow(P, "")
    return assignment


def test_it_is_ready_only_when_every_partition_flows() -> None:
    """Not before it has joined, nor while partitions are claimed; alive all the time."""
    telemetry, _, _ = made()
    assert (telemetry.health().alive, telemetry.health().ready) == (True, False)
    telemetry.rebalanced("assigned", [P])
    looked(telemetry, assigned(flow=False))
    assert not telemetry.health().ready
    looked(telemetry, assigned(flow=True))
    assert telemetry.health().ready


def test_a_loop_that_does_not_turn_is_not_alive() -> None:
    """The one thing that a restart cures."""
    telemetry, _, clock = made()
    clock.now += 59
    assert telemetry.health().alive
    clock.now += 2
    assert not telemetry.health().alive


def test_an_outage_is_alive_and_not_ready_and_says_why() -> None:
    """A restart would only cost the place in the group."""
    telemetry, metrics, _ = made()
    telemetry.rebalanced("assigned", [P])
    telemetry.unavailable("PostgreSQL: the connection is lost", 1, 0.1)
    health = telemetry.health()
    assert (health.alive, health.ready, health.reason) == (True, False, "PostgreSQL: the connection is lost")
    looked(telemetry, assigned(flow=True))
    assert not telemetry.health().ready
    assert metrics.value("state", state="unavailable") == 1
    telemetry.claimed({P: 0})
    assert telemetry.health().ready
    assert metrics.value("state", state="unavailable") == 0


def test_a_held_partition_is_told_with_its_reason() -> None:
    """Readiness says which, and why."""
    telemetry, _, _ = made()
    telemetry.rebalanced("assigned", [P])
    assignment = assigned(flow=True)
    assignment.hold(P, "offsets 3 to 7 are gone", 0)
    looked(telemetry, assignment)
    assert not telemetry.health().ready
    assert "t 0: offsets 3 to 7 are gone" in telemetry.health().reason


def test_lag_is_what_is_not_committed_yet() -> None:
    """In records from the end of the partition, in seconds from the last committed record's time."""
    telemetry, metrics, _ = made()
    last = MemoryMessage("t", 0, 4, b"x", millis=0)
    batch = Batch([last], {P: 4}, {P: 5}, {P: last}, 1)
    telemetry.wrote(Written(batch, {P: 5}, Counter(t=1)), 0.1)
    looked(telemetry, assigned(flow=True), end=9, written_to=5)
    assert metrics.value("consumer_lag", topic="t", partition="0") == 4
    assert metrics.value("consumer_lag_seconds", topic="t", partition="0") > 1e9
    looked(telemetry, assigned(flow=True), end=5, written_to=5)
    assert metrics.value("consumer_lag_seconds", topic="t", partition="0") == 0


def test_a_repeated_trouble_is_noted_once_in_a_while() -> None:
    """The page shows the latest events: an outage must not push all others out."""
    telemetry, _, clock = made()
    for _ in range(150):
        clock.now += 1
        telemetry.unavailable("PostgreSQL: the connection is lost", 1, 0.1)
    telemetry.unavailable("another reason", 1, 0.1)
    events = telemetry.status()["events"]
    assert [one["event"] for one in events] == ["retry"] * 4
    assert events[-1]["reason"] == "another reason"


def test_a_line_about_a_batch_names_it() -> None:
    """By the name that its dead letters have, and by the offsets of each partition."""
    telemetry, _, _ = made()
    batch = Batch([], {P: 4, ("u", 1): 7}, {P: 9, ("u", 1): 8}, name="life-3")
    offsets = {"t/0": [4, 8], "u/1": [7, 7]}
    with structlog.testing.capture_logs() as lines:
        telemetry.wrote(Written(batch, {P: 9}), 0.1)
        telemetry.unavailable("away", 1, 0.1, batch)
        telemetry.stopped_writing("too many", 300, batch)
        telemetry.cut(61, batch)
        telemetry.unavailable("away, at a claim", 1, 0.1)
    named = [(line["event"], line.get("batch"), line.get("offsets")) for line in lines]
    assert named == [
        ("batch_written", "life-3", offsets),
        ("retry", "life-3", offsets),
        ("held", "life-3", offsets),
        ("connection_cut", "life-3", offsets),
        ("retry", None, None),
    ]


def test_fields_that_are_dropped_are_told_once_and_counted_to_a_limit() -> None:
    """A producer that makes names of values fills neither the log nor the status."""
    telemetry, metrics, _ = made()
    message = MemoryMessage("t", 0, 4, b"x")

    def wrote(*names: str) -> None:
        batch = Batch([message], {P: 4}, {P: 5}, {P: message}, 1)
        telemetry.wrote(Written(batch, {P: 5}, Counter(t=1), dropped={"t": frozenset(names)}), 0.1)

    with structlog.testing.capture_logs() as lines:
        for _ in range(10):
            wrote("a", "b")
        wrote("b", "c" * 1000)
    assert [line["fields"] for line in lines if line["event"] == "fields_dropped"] == [["a", "b"], ["c" * 60]]
    assert telemetry.status()["unknown_fields"] == {"t": ["a", "b", "c" * 60]}
    for number in range(100):
        wrote(f"name {number}")
    assert metrics.value("unknown_fields", topic="t") == len(telemetry.status()["unknown_fields"]["t"]) == 50

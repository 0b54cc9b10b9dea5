"""Events on their way to one target."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from consumer.errors import FatalError, UnavailableError
from consumer.metrics import Metrics
from consumer.notify.courier import TRIES, Courier

Delivered = list[tuple[str, bytes]]


class Target:
    """Takes what it is given, after these failures; while `shut`, it hangs."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.tries = list(failures), Delivered()
        self.delivered, self.pauses = Delivered(), list[float]()
        self.open, self.asked = threading.Event(), threading.Event()
        self.open.set()

    def deliver(self, number: str, body: bytes) -> None:
        self.tries.append((number, body))
        self.asked.set()
        assert self.open.wait(20)
        if self.failures:
            raise self.failures.pop(0)
        self.delivered.append((number, body))


@contextmanager
def courier(
    target: Target, metrics: Metrics, *, events: list[str] | None = None, interval: float = 0
) -> Iterator[Courier]:
    """At the end of the block it has ended, with nothing left to do."""
    made = Courier("notify.0", target.deliver, events, interval, metrics, pause=target.pauses.append)
    made.start()
    yield made
    made.close()
    made.join(20)
    assert not made.is_alive()
    assert made.waiting == []


def outcomes(metrics: Metrics) -> dict[str, float]:
    return {outcome: count for (outcome,), count in metrics.by("notifications").items()}


def test_what_is_not_taken_is_tried_again_with_the_same_id_and_body() -> None:
    """So that the receiver can tell a repeat; waits grow, with jitter."""
    target, metrics = Target(UnavailableError("500"), UnavailableError("500")), Metrics()
    with courier(target, metrics) as made:
        made.take("failed", "run-1", b"{}")
    assert target.tries == [("run-1", b"{}")] * 3
    assert target.delivered == [("run-1", b"{}")]
    assert len(target.pauses) == 2
    assert all(0 <= pause <= 0.25 * 2**n for n, pause in enumerate(target.pauses, 1))
    assert outcomes(metrics) == {"delivered": 1, "failed": 0, "superseded": 0}


def test_a_few_tries_are_enough() -> None:
    """Then it is given up, and counted; the next event has as many."""
    target, metrics = Target(*[UnavailableError("500")] * TRIES), Metrics()
    with courier(target, metrics) as made:
        made.take("held", "run-1", b"1")
        made.take("failed", "run-2", b"2")
    assert target.delivered == [("run-2", b"2")]
    assert outcomes(metrics) == {"delivered": 1, "failed": 1, "superseded": 0}


def test_what_will_never_be_taken_is_not_tried_again() -> None:
    """A wrong address does not become right."""
    target, metrics = Target(FatalError("404", "correct it")), Metrics()
    with courier(target, metrics) as made:
        made.take("failed", "run-1", b"")
    assert len(target.tries) == 1
    assert outcomes(metrics)["failed"] == 1


def test_the_wait_that_is_asked_for_is_kept_up_to_a_bound() -> None:
    """Nobody waits for a day."""
    target = Target(UnavailableError("429", 7.0), UnavailableError("503", 86_400.0))
    with courier(target, Metrics()) as made:
        made.take("failed", "run-1", b"")
    assert target.pauses == [7.0, 30.0]


def test_only_what_is_wanted_is_brought() -> None:
    """By kind."""
    target = Target()
    with courier(target, Metrics(), events=["failed"]) as made:
        for number, event in enumerate(["started", "failed", "milestone"]):
            made.take(event, str(number), b"")
    assert target.delivered == [("1", b"")]


def test_a_target_that_hangs_holds_up_nobody_and_grows_nothing() -> None:
    """Of each kind the newest waits; the others are counted; all that waits is brought when it answers."""
    target, metrics = Target(), Metrics()
    target.open.clear()
    with courier(target, metrics) as made:
        made.take("started", "0", b"")
        assert target.asked.wait(20)
        for number in range(1000):
            made.take("milestone", f"m{number}", b"")
            made.take("held", f"h{number}", b"")
        assert sorted(made.waiting) == ["held", "milestone", "started"]
        target.open.set()
    assert [number for number, _ in target.delivered] == ["0", "m999", "h999"]
    assert outcomes(metrics) == {"delivered": 3, "failed": 0, "superseded": 1998}


def test_of_one_kind_not_too_many_are_brought_and_the_last_one_always() -> None:
    """The end waits for no interval."""
    target, metrics = Target(), Metrics()
    with courier(target, metrics, interval=1000) as made:
        made.take("held", "h1", b"")
        assert target.asked.wait(20)
        made.take("held", "h2", b"")
        made.take("held", "h3", b"")
        target.asked.clear()
        made.take("resumed", "r1", b"")  # of another kind: it does not wait
        assert target.asked.wait(20)
        assert made.waiting[-1] == "held"
    assert [number for number, _ in target.delivered] == ["h1", "r1", "h3"]
    assert outcomes(metrics)["superseded"] == 1

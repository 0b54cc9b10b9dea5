"""Waiting between tries."""

from __future__ import annotations

from consumer.backoff import Backoff


def test_the_wait_that_the_other_side_asked_for_is_kept() -> None:
    """And success forgets everything."""
    backoff = Backoff()
    backoff.failed(now=100, retry_after=7)
    assert backoff.until == 107
    backoff.succeeded()
    assert (backoff.failures, backoff.until) == (0, 0.0)


def test_the_first_failure_in_a_row_is_remembered() -> None:
    """So that somebody can say that it has lasted long enough."""
    backoff = Backoff()
    for now in (100, 130, 190):
        backoff.failed(now)
    assert backoff.since == 100
    backoff.succeeded()
    backoff.failed(300)
    assert backoff.since == 300

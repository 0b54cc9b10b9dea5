"""Waiting between tries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.backoff import Backoff, delay


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_lies_between_nothing_and_the_cap(attempt: int, chance: float) -> None:
    """However often it failed."""
    assert 0 <= delay(attempt, lambda: chance) <= 30


def test_the_wait_that_the_other_side_asked_for_is_kept() -> None:
    """And success forgets everything."""
    backoff = Backoff()
    backoff.failed(now=100, retry_after=7)
    assert backoff.until == 107
    backoff.succeeded()
    assert (backoff.failures, backoff.until) == (0, 0.0)


@given(st.floats(0.001, 600), st.integers(1, 40))
def test_no_wait_is_longer_than_its_own_cap(cap: float, failures: int) -> None:
    """Whatever the default is."""
    backoff = Backoff(cap)
    for _ in range(failures):
        backoff.failed(now=0)
    assert 0 <= backoff.until <= cap


def test_the_first_failure_in_a_row_is_remembered() -> None:
    """So that somebody can say that it has lasted long enough."""
    backoff = Backoff()
    for now in (100, 130, 190):
        backoff.failed(now)
    assert backoff.since == 100
    backoff.succeeded()
    backoff.failed(300)
    assert backoff.since == 300

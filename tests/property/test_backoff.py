"""No wait between tries is longer than was asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.backoff import Backoff, delay


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_lies_between_nothing_and_the_cap(attempt: int, chance: float) -> None:
    """However often it failed."""
    assert 0 <= delay(attempt, lambda: chance) <= 30


@given(st.floats(0.001, 600), st.integers(1, 40))
def test_no_wait_is_longer_than_its_own_cap(cap: float, failures: int) -> None:
    """Whatever the default is."""
    backoff = Backoff(cap)
    for _ in range(failures):
        backoff.failed(now=0)
    assert 0 <= backoff.until <= cap

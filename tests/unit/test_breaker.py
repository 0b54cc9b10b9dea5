"""When too many records are at fault: what opens the breaker, and what closes it."""

from __future__ import annotations

import pytest

from consumer.breaker import PROBE, Breaker
from consumer.errors import HeldError


def took(breaker: Breaker, count: int, *failed: int) -> None:
    breaker.judge(count, failed)
    breaker.passed(count, failed)


def test_a_bad_record_now_and_then_is_borne() -> None:
    """Below the limits it stays closed, however long it goes on."""
    breaker = Breaker(3, 0.5)
    for _ in range(1000):
        took(breaker, 10, 0, 1, 5, 6)
    assert not breaker.open


def test_too_many_in_a_row_open_it_across_batches() -> None:
    """Those at the end of one batch and at the beginning of the next are one row."""
    breaker = Breaker(3, 1.0)
    took(breaker, 4, 2, 3)
    with pytest.raises(HeldError, match="more than 3 records in a row"):
        breaker.judge(4, [0, 1])
    assert breaker.open


def test_too_large_a_share_opens_it_but_not_before_a_thousand_records() -> None:
    """A few records say nothing about a share."""
    breaker = Breaker(500, 0.5)
    for _ in range(9):
        took(breaker, 100, *range(1, 100, 2), 0)
    with pytest.raises(HeldError, match="519 of the last 1000"):
        breaker.judge(100, [*range(1, 100, 2), *range(0, 20, 2)])


def test_isolation_without_patience_opens_it() -> None:
    """What was not looked at to the end is never kept."""
    breaker = Breaker(3, 1.0)
    with pytest.raises(HeldError):
        breaker.judge(10, [0], finished=False)


def test_a_good_probe_closes_it_and_a_bad_one_does_not() -> None:
    """Half-open it is tried with few records; more than the share at fault, or all, is still too bad."""
    breaker = Breaker(3, 0.5)
    with pytest.raises(HeldError):
        breaker.judge(10, range(10))
    breaker.probe()
    assert breaker.most == PROBE
    with pytest.raises(HeldError, match="still 2 of 2"):
        breaker.judge(2, [0, 1])
    assert breaker.open
    breaker.probe()
    took(breaker, 10, 4)
    assert (breaker.open, breaker.most) == (False, None)


def test_accepted_once_it_lets_one_batch_pass_and_counts_anew() -> None:
    """Somebody looked: the batch is kept as it is; the next one is judged again."""
    breaker = Breaker(3, 0.5)
    with pytest.raises(HeldError):
        breaker.judge(10, range(10))
    breaker.accept()
    assert breaker.patience is None
    took(breaker, 10, *range(10))
    took(breaker, 10, 0, 1)
    with pytest.raises(HeldError):
        breaker.judge(10, range(10))

"""The breaker against a look at the whole stream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.breaker import Breaker
from consumer.errors import HeldError
from tests.unit.test_breaker import took


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=30), max_size=20), st.integers(0, 5))
def test_it_opens_exactly_when_a_row_is_too_long(batches: list[list[bool]], most: int) -> None:
    """The same answer as looking at the whole stream at once; and patience is what is left of the row."""
    breaker, stream = Breaker(most, 1.0), list[bool]()
    for batch in batches:
        stream += batch
        longest, run = 0, 0
        for bad in stream:
            run = run + 1 if bad else 0
            longest = max(longest, run)
        failed = [index for index, bad in enumerate(batch) if bad]
        if longest > most:
            with pytest.raises(HeldError):
                breaker.judge(len(batch), failed)
            return
        took(breaker, len(batch), *failed)
        assert breaker.patience == most - run

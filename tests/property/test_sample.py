"""A preview takes of each partition as even a share as there is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.preview.sample import shares


@given(st.dictionaries(st.integers(0, 20), st.integers(0, 50)), st.integers(1, 300))
def test_shares_are_as_even_as_what_is_held_allows(held: dict[int, int], most: int) -> None:
    """All that is wanted, if there is so much; and a partition gets less than another only if it holds no more."""
    found = shares({("t", number): count for number, count in held.items()}, most)
    assert sum(found.values()) == min(most, sum(held.values()))
    assert all(found["t", number] <= count for number, count in held.items())
    short = [count for (_, number), count in found.items() if count < held[number]]
    assert all(count >= max(found.values()) - 1 for count in short)

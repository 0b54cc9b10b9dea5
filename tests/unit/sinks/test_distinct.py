"""Rows are said to have different keys only if they have."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.sinks.postgres.distinct import distinct
from consumer.table import TableRows
from consumer.vector import rows_of, vector_of

KEYS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("abcdefghij")), max_size=8)


@pytest.mark.parametrize("places", [(0,), (1,), (0, 1)])
@given(keys=KEYS)
def test_no_two_keys_are_the_same_as_rows_and_as_vectors(places: tuple[int, ...], keys: list[tuple[Any, ...]]) -> None:
    """By any columns, in either form."""
    chosen = [tuple(key[place] for place in places) for key in keys]
    expected = not any(one == other for one, other in combinations(chosen, 2))
    assert distinct(TableRows("t", ("a", "b"), keys, range(len(keys))), places) is expected
    vectors = tuple(filter(None, (vector_of(column) for column in zip(*keys, strict=True))))
    if vectors:
        by_column = TableRows("t", ("a", "b"), rows_of(vectors), range(len(keys)), vectors=vectors)
        assert distinct(by_column, places) is expected


def test_what_has_no_hash_is_not_known_to_differ() -> None:
    """Such as an array that is a key."""
    assert not distinct(TableRows("t", ("a",), [([1],), ([2],)], range(2)), (0,))

"""Whatever a column is given, it is stored without loss or refused."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.errors import RejectedError
from consumer.sinks.conversion import checked
from consumer.table import Kind
from tests.unit.sinks.test_conversion import column

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.lists(JSON))
def test_json_reads_back_equal(values: list[Any]) -> None:
    """Whatever JSON can hold is what its text says."""
    assert [found if found is None else json.loads(found) for found in checked(column(Kind.JSON), values)] == values


@settings(max_examples=40)
@given(st.lists(st.none() | st.integers(-(2**70), 2**70) | st.floats() | st.booleans() | st.text(max_size=5)))
def test_integers_are_in_range_or_refused(values: list[Any]) -> None:
    """Of any mixture the result is null or an int within the bounds, equal to what was given."""
    try:
        found = checked(column(Kind.INTEGER), values)
    except RejectedError:
        return
    for before, after in zip(values, found, strict=True):
        assert after is None or (type(after) is int and -(2**15) <= after < 2**15)
        assert after == (int(before) if isinstance(before, str) else before)

"""The bounds of integers, where a driver would wrap in silence what lies beyond."""

from __future__ import annotations

import pytest

from consumer.errors import RejectedError
from consumer.sinks.conversion import checked
from consumer.table import Column, Kind


@pytest.mark.parametrize(("low", "high"), [(-(2**bits), 2**bits - 1) for bits in (15, 31, 63)] + [(0, 999)])
def test_the_first_integers_beyond_a_column_are_refused(low: int, high: int) -> None:
    """Of each size that machines have, and of any other; those at the bounds are taken as they are."""
    column = Column("c", Kind.INTEGER, "int", minimum=low, maximum=high)
    assert list(checked(column, [low, 0, None, high])) == [low, 0, None, high]
    for beyond in (low - 1, high + 1):
        with pytest.raises(RejectedError):
            checked(column, [0, beyond])

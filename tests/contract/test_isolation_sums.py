"""Sums of many records, of which some cannot be borne: each of the others is added once."""

from __future__ import annotations

import pytest

from consumer.errors import RejectedError
from tests.sinks import INCREMENT, SinkFactory, by_id, group, opened


@pytest.mark.parametrize("bad", [[0], [99], [17, 18, 50], list(range(0, 100, 7))])
def test_every_record_that_is_not_at_fault_is_added_once(sink_factory: SinkFactory, bad: list[int]) -> None:
    """However the records are tried in ranges, and whatever was refused before."""
    sink = opened(sink_factory(INCREMENT))
    rows = group("item", "id amount", *((number % 3, -1000 if number in bad else 1) for number in range(100)))
    with pytest.raises(RejectedError):
        sink.apply([rows])
    found = sink.isolate([rows])
    sink.commit({})
    assert [failure.ordinal for failure in found.failures] == bad
    sums = [(key, sum(number % 3 == key and number not in bad for number in range(100))) for key in range(3)]
    assert by_id(sink_factory.rows("item"), "id", "amount") == sums

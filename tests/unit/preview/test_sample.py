"""Which offsets a preview reads."""

from __future__ import annotations

import pytest

from consumer.cluster import LogState
from consumer.preview import Begin
from consumer.preview.sample import Span, spans_of

P, Q, R = ("orders", 0), ("orders", 1), ("orders", 2)


def log(low: int, high: int) -> LogState:
    return LogState(low, high, None, "", "")


@pytest.mark.parametrize(
    ("begin", "spans"),
    [
        (Begin.STORED, {P: Span(40, 100, 20), Q: Span(80, 100, 20)}),
        (Begin.EARLIEST, {P: Span(10, 100, 20), Q: Span(30, 100, 20)}),
        (Begin.LATEST, {P: Span(80, 100, 20), Q: Span(80, 100, 20)}),
    ],
)
def test_where_the_sample_begins(begin: Begin, spans: dict[tuple[str, int], Span]) -> None:
    """Where the group goes on, or at an end of the log; with nothing beyond it, before it; an empty one is left out."""
    logs = {P: log(10, 100), Q: log(30, 100), R: log(7, 7)}
    assert spans_of(begin, logs, {P: 40, Q: 100, R: 7}, 40) == spans


def test_what_is_gone_is_not_asked_for() -> None:
    """A stored offset that Kafka does not hold any more would be an error to read at."""
    assert spans_of(Begin.STORED, {P: log(10, 15)}, {P: 3}, 100) == {P: Span(10, 15, 5)}
    assert spans_of(Begin.STORED, {P: log(10, 15)}, {P: 99}, 3) == {P: Span(12, 15, 3)}

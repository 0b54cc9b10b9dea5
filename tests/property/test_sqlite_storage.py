"""Time stamps as SQLite's text: what isoformat would give each, given all at once."""

from __future__ import annotations

import datetime

from hypothesis import given
from hypothesis import strategies as st

from consumer.sinks.sqlite.storage import bind
from consumer.table import Column, Kind

COLUMN = Column("at", Kind.TIMESTAMPTZ, "TIMESTAMP")
ZONES = st.sampled_from([datetime.UTC, datetime.timezone(datetime.timedelta(hours=2)), datetime.timezone.max])
MOMENTS = st.datetimes(datetime.datetime(1, 1, 3), datetime.datetime(9999, 12, 29), timezones=ZONES)
WHOLE = MOMENTS.map(lambda moment: moment.replace(microsecond=0))


@given(st.lists(st.none() | MOMENTS | WHOLE, min_size=1))
def test_each_is_written_in_utc_and_of_one_width(values: list[datetime.datetime | None]) -> None:
    """So that text sorts as time does, whatever zones and nulls there are."""
    expected = [value and value.astimezone(datetime.UTC).isoformat(" ", "microseconds") for value in values]
    assert bind([COLUMN], [(value,) for value in values]) == expected

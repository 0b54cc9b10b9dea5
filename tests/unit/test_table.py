"""What a column takes of values that are known to be another column's."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from itertools import product
from typing import Any

import pytest

from consumer.errors import RejectedError
from consumer.sinks.conversion import checked
from consumer.table import Column, Kind

UTC = datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)
VALUES: dict[Kind, list[Any]] = {
    Kind.BOOLEAN: [True],
    Kind.FLOAT: [1e300, float("nan")],
    Kind.DECIMAL: [Decimal("1.5"), Decimal("NaN")],
    Kind.TEXT: ["x"],
    Kind.BYTES: [b"\0"],
    Kind.DATE: [UTC.date()],
    Kind.TIME: [datetime.time(1)],
    Kind.TIMETZ: [datetime.time(1, tzinfo=datetime.UTC)],
    Kind.TIMESTAMP: [UTC.replace(tzinfo=None)],
    Kind.TIMESTAMPTZ: [UTC],
    Kind.INTERVAL: [datetime.timedelta(1)],
    Kind.UUID: [uuid.UUID(int=1)],
    Kind.JSON: [{"a": 1}],
}
INTEGERS = [(None, None), (-(2**15), 2**15 - 1), (-(2**31), 2**31 - 1), (-(2**63), 2**63 - 1), (0, None)]
LABELS = [("sad",), ("sad", "ok"), ()]
PAIRS = [
    *((Column("c", kind, "t"), values) for kind, values in VALUES.items()),
    *(
        (
            Column("c", Kind.INTEGER, "t", minimum=low, maximum=high),
            [2**70 if high is None else high, 0, -(2**70) if low is None else low],
        )
        for low, high in INTEGERS
    ),
    *((Column("c", Kind.ENUM, "t", labels=labels), list(labels or ["other"])) for labels in LABELS),
    (Column("c", Kind.FLOAT, "real", minimum=-3e38, maximum=3e38), [1.0]),
]


def nullable(column: Column, values: list[Any], may: bool) -> tuple[Column, list[Any]]:
    found = Column("c", column.kind, "t", may, labels=column.labels, minimum=column.minimum, maximum=column.maximum)
    return found, [*values, None] if may else values


EVERY = [nullable(*pair, may) for pair, may in product(PAIRS, (True, False))]


def test_what_is_taken_needs_no_look() -> None:
    """Of each two columns: if one takes what the other is known to hold, then each such value, and as it is."""
    taken = [(column, values) for column, _ in EVERY for known, values in EVERY if column.takes(known)]
    assert len(taken) > len(PAIRS)
    for column, values in taken:
        assert checked(column, values) is values, column


@pytest.mark.parametrize(("column", "values"), PAIRS, ids=str)
def test_a_column_takes_its_own(column: Column, values: list[Any]) -> None:
    """But for those kinds whose values must each be looked at, or come out as others."""
    try:
        unchanged = checked(column, values) is values
    except RejectedError:
        unchanged = False
    assert column.takes(column) == (unchanged and column.type_name != "real")

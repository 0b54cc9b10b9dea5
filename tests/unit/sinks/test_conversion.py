"""Values as columns want them: converted without loss, or refused without being told."""

from __future__ import annotations

import datetime
import json
import math
import uuid
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from consumer.errors import FatalError, RejectedError
from consumer.sinks.conversion import checked
from consumer.table import Column, Kind

UTC = datetime.UTC
ZONE = datetime.timezone(datetime.timedelta(hours=2))
ITEM = Column("c", Kind.INTEGER, "integer", minimum=-(2**31), maximum=2**31 - 1)


def column(kind: Kind, **more: Any) -> Column:
    bounds = {"minimum": -(2**15), "maximum": 2**15 - 1} if kind is Kind.INTEGER else {}
    labels = ("sad", "ok") if kind is Kind.ENUM else ()
    item = ITEM if kind is Kind.ARRAY else None
    return Column("c", kind, str(kind), **({"labels": labels, "item": item} | bounds | more))


RIGHT = {
    Kind.BOOLEAN: [True, False],
    Kind.INTEGER: [-(2**15), 0, 2**15 - 1],
    Kind.FLOAT: [0.5, math.inf, -0.0],
    Kind.DECIMAL: [Decimal("1.50")],
    Kind.TEXT: ["", "a", "ü\U0001f600"],
    Kind.BYTES: [b"", b"\0\xff"],
    Kind.DATE: [datetime.date.min, datetime.date.max],
    Kind.TIME: [datetime.time.max],
    Kind.TIMETZ: [datetime.time(1, tzinfo=UTC)],
    Kind.TIMESTAMP: [datetime.datetime.min, datetime.datetime.max],
    Kind.TIMESTAMPTZ: [datetime.datetime(2024, 1, 1, tzinfo=UTC), datetime.datetime(2024, 1, 1, tzinfo=ZONE)],
    Kind.INTERVAL: [datetime.timedelta(-1, 5)],
    Kind.UUID: [uuid.UUID(int=1)],
    Kind.ENUM: ["sad", "ok"],
    Kind.ARRAY: [[], [1, None], [[1, 2], [3, 4]]],
}


@pytest.mark.parametrize("kind", RIGHT)
@pytest.mark.parametrize("null", [False, True])
def test_values_that_are_right_are_not_touched(kind: Kind, null: bool) -> None:
    """The same object comes back, so that the caller need not build its rows anew."""
    values = [*RIGHT[kind], None] if null else RIGHT[kind]
    assert checked(column(kind), values) is values


@pytest.mark.parametrize("kind", Kind)
def test_null_needs_a_nullable_column(kind: Kind) -> None:
    """Null is refused where there must be a value, whatever the kind."""
    if kind is not Kind.OTHER:
        with pytest.raises(RejectedError, match="null") as raised:
            checked(column(kind, nullable=False), [None])
        assert raised.value.column == "c"


@pytest.mark.parametrize(
    ("kind", "value", "converted"),
    [
        (Kind.BOOLEAN, "true", True),
        (Kind.INTEGER, "-12", -12),
        (Kind.INTEGER, 3.0, 3),
        (Kind.INTEGER, Decimal("3.00"), 3),
        (Kind.FLOAT, 3, 3.0),
        (Kind.FLOAT, 2**60, float(2**60)),
        (Kind.FLOAT, "1e3", 1000.0),
        (Kind.DECIMAL, 3, Decimal(3)),
        (Kind.DECIMAL, 2**70, Decimal(2**70)),
        (Kind.DECIMAL, 0.1, Decimal("0.1")),
        (Kind.DECIMAL, "12.30", Decimal("12.30")),
        (Kind.BYTES, bytearray(b"a"), b"a"),
        (Kind.DATE, "2024-02-29", datetime.date(2024, 2, 29)),
        (Kind.TIME, "01:02:03.000004", datetime.time(1, 2, 3, 4)),
        (Kind.TIMETZ, "01:02:03+02:00", datetime.time(1, 2, 3, tzinfo=ZONE)),
        (Kind.TIMESTAMP, "2024-01-01T00:00:00", datetime.datetime(2024, 1, 1)),
        (Kind.TIMESTAMP, "2024-01-01T00:00:00+02:00", datetime.datetime(2023, 12, 31, 22)),
        (Kind.TIMESTAMP, datetime.datetime(2024, 1, 1, tzinfo=ZONE), datetime.datetime(2023, 12, 31, 22)),
        (Kind.TIMESTAMPTZ, "2024-01-01T00:00:00Z", datetime.datetime(2024, 1, 1, tzinfo=UTC)),
        (Kind.INTERVAL, "PT1H", datetime.timedelta(hours=1)),
        (Kind.UUID, "6ba7b810-9dad-11d1-80b4-00c04fd430c8", uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")),
        (Kind.JSON, {"a": [1, None, "ü"]}, '{"a":[1,null,"ü"]}'.encode()),
        (Kind.JSON, "text", b'"text"'),
        (Kind.JSON, Decimal("1.10"), b"1.10"),
        (Kind.JSON, msgspec.Raw(b'{"a": 1}'), b'{"a": 1}'),
        (Kind.ARRAY, ["1", (2)], [1, 2]),
        (Kind.ARRAY, (1, 2), [1, 2]),
        (Kind.ARRAY, [["1"], (2,)], [[1], [2]]),
    ],
)
def test_what_can_be_had_without_loss_is_converted(kind: Kind, value: Any, converted: Any) -> None:
    """Unusual types become the column's, equal in value, and nulls among them stay."""
    (found, null) = checked(column(kind), [value, None])
    assert (type(found), found, null) == (type(converted), converted, None)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.BOOLEAN, 1),
        (Kind.BOOLEAN, "yes"),
        (Kind.INTEGER, True),
        (Kind.INTEGER, 2**15),
        (Kind.INTEGER, -(2**15) - 1),
        (Kind.INTEGER, 2**80),
        (Kind.INTEGER, 1.5),
        (Kind.INTEGER, math.nan),
        (Kind.INTEGER, math.inf),
        (Kind.INTEGER, "1_0"),
        (Kind.INTEGER, "\u0663"),
        (Kind.INTEGER, "40000"),
        (Kind.FLOAT, True),
        (Kind.FLOAT, 2**53 + 1),
        (Kind.FLOAT, 10**400),
        (Kind.DECIMAL, True),
        (Kind.DECIMAL, Decimal("NaN")),
        (Kind.DECIMAL, math.inf),
        (Kind.DECIMAL, "1,5"),
        (Kind.TEXT, 1),
        (Kind.TEXT, b"a"),
        (Kind.TEXT, "a\0"),
        (Kind.TEXT, "\ud800"),
        (Kind.BYTES, "YWJj"),
        (Kind.DATE, "2024-02-30"),
        (Kind.DATE, datetime.datetime(2024, 1, 1)),
        (Kind.TIME, datetime.time(1, tzinfo=UTC)),
        (Kind.TIMETZ, datetime.time(1)),
        (Kind.TIMESTAMP, datetime.date(2024, 1, 1)),
        (Kind.TIMESTAMP, 1704067200),
        (Kind.TIMESTAMP, "1704067200"),
        (Kind.TIMESTAMP, datetime.datetime.max.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=-1)))),
        (Kind.TIMESTAMPTZ, datetime.datetime(2024, 1, 1)),
        (Kind.TIMESTAMPTZ, "2024-01-01T00:00:00"),
        (Kind.INTERVAL, 5),
        (Kind.UUID, "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}"),
        (Kind.JSON, math.nan),
        (Kind.JSON, {"a": [math.inf]}),
        (Kind.JSON, {"a": "\ud800"}),
        (Kind.JSON, object()),
        (Kind.ENUM, "other"),
        (Kind.ENUM, 1),
        (Kind.ARRAY, "[1]"),
        (Kind.ARRAY, [2**31]),
        (Kind.ARRAY, [[1], 2]),
        (Kind.ARRAY, [[1], None]),
    ],
)
def test_what_would_be_lost_is_refused(kind: Kind, value: Any) -> None:
    """The column is named, the value is not."""
    with pytest.raises(RejectedError) as raised:
        checked(column(kind), [RIGHT.get(kind, [{}])[0], value])
    assert raised.value.column == "c"
    assert "YWJj" not in str(raised.value)
    assert "400" not in str(raised.value)


def test_json_of_null_inside_is_not_taken_for_nan() -> None:
    """The slow look at JSON with null in it refuses only what is no JSON."""
    values = [{"a": None, "t": datetime.datetime(2024, 1, 1, tzinfo=UTC)}]
    assert json.loads(checked(column(Kind.JSON), values)[0])["a"] is None


@pytest.mark.parametrize("writable", [True, False])
def test_a_column_that_cannot_be_written_is_a_set_up_error(writable: bool) -> None:
    """Unsupported types and generated columns stop the daemon with a hint, also without a single row."""
    with pytest.raises(FatalError) as raised:
        checked(column(Kind.OTHER if writable else Kind.TEXT, writable=writable), [])
    assert raised.value.hint


@pytest.mark.parametrize("value", [3.5e38, -3.5e38, 1e-60])
def test_a_number_that_a_short_float_cannot_hold_is_refused(value: float) -> None:
    """Neither infinity nor zero is stored for a number that is neither."""
    short = column(Kind.FLOAT, minimum=-3.4028234663852886e38, maximum=3.4028234663852886e38)
    with pytest.raises(RejectedError):
        checked(short, [1.0, value])
    fine = [0.0, math.inf, -math.inf, 3.4028234663852886e38, 1e-45]
    assert checked(short, fine) is fine


@pytest.mark.parametrize("value", [Decimal("1E+999999999"), Decimal("-1E+999999999"), Decimal("Infinity"), 1e300])
def test_a_huge_number_is_refused_without_being_written_out(value: Any) -> None:
    """A few bytes of text must not become an integer of a gigabyte."""
    with pytest.raises(RejectedError):
        checked(column(Kind.INTEGER), [value])

"""Values as a column wants them, a column and a batch at a time; what cannot be had without loss is refused.

Binary protocols trust the client: psycopg's C encoder wraps an integer that is too large for its column in silence, so
types and ranges are checked here. One pass in C over the types of a column is all that a clean batch costs; only
unusual types are looked at one by one.
"""

from __future__ import annotations

import datetime
import json
import math
import operator
import uuid
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import chain
from typing import Any

import msgspec

from consumer.errors import FatalError, RejectedError
from consumer.table import Column, Kind

_PYTHON: dict[Kind, type] = {
    Kind.BOOLEAN: bool,
    Kind.INTEGER: int,
    Kind.FLOAT: float,
    Kind.DECIMAL: Decimal,
    Kind.TEXT: str,
    Kind.BYTES: bytes,
    Kind.DATE: datetime.date,
    Kind.TIME: datetime.time,
    Kind.TIMETZ: datetime.time,
    Kind.TIMESTAMP: datetime.datetime,
    Kind.TIMESTAMPTZ: datetime.datetime,
    Kind.INTERVAL: datetime.timedelta,
    Kind.UUID: uuid.UUID,
    Kind.ENUM: str,
}
# Text that spells one of these is taken; msgspec's lax mode would also take "123" for a time.
_SPELT = {Kind.BOOLEAN, Kind.INTEGER, Kind.FLOAT}
# What `array` checks by itself, by bounds.
_MACHINE_INTEGERS: dict[tuple[float | None, float | None], str] = {
    (-(2**15), 2**15 - 1): "h",
    (-(2**31), 2**31 - 1): "i",
    (-(2**63), 2**63 - 1): "q",
}
_BEYOND_INTEGERS = 2**64
_NONE = type(None)
_LISTS = {list, tuple}
_zone = operator.attrgetter("tzinfo")
_encode = msgspec.json.Encoder(decimal_format="number").encode


def checked(column: Column, values: Sequence[Any]) -> Sequence[Any]:
    """These values of one column as its Kind wants them; the same object if all of them are so already.

    Converted without loss: text by its strict ISO or JSON spelling, int to float and decimal, whole float and decimal
    to int, float to the decimal that it is written as, an aware time stamp to a naive one in UTC. JSON becomes the
    bytes of its text (msgspec.Raw is taken as that); a str there is a JSON string. bool and int are never each other.

    Raises RejectedError, naming the column but never the value, when that cannot be done, and for null where the
    column forbids it, NUL or lone surrogates in text, JSON's lack of NaN. FatalError when the column cannot be written.
    """
    if not column.writable or column.kind is Kind.OTHER:
        raise _unwritable(column)
    if column.kind is Kind.TEXT and _plain(values):
        return values
    types = set(map(type, values))
    present = values
    if _NONE in types:
        if not column.nullable:
            raise _refused(column, "null, where there must be a value")
        types.discard(_NONE)
        present = [value for value in values if value is not None]
    if column.kind is Kind.ARRAY:
        return _arrays(column, values, types)
    if column.kind is Kind.JSON:
        return [None if value is None else _json(column, value) for value in values]
    if types <= {_PYTHON[column.kind]} and not _zoned_in_vain(column, present):
        _check(column, present)
        return values
    converted = [None if value is None else _convert(column, value) for value in values]
    _check(column, [value for value in converted if value is not None])
    return converted


def _refused(column: Column, reason: str) -> RejectedError:
    return RejectedError(f"column {column.name} ({column.type_name}): {reason}", column=column.name)


def _out_of_range(column: Column) -> RejectedError:
    return _refused(column, "a number outside the range of the type")


def _unwritable(column: Column) -> FatalError:
    message = f"column {column.name} ({column.type_name}) cannot be written"
    if column.writable:
        hint = "This type is not supported: leave the column out of the mapping, or give it a supported type."
    else:
        hint = "The database generates its values always: leave the column out of the mapping."
    return FatalError(message, hint)


def _zoned_in_vain(column: Column, values: Iterable[Any]) -> bool:
    return column.kind is Kind.TIMESTAMP and any(map(_zone, values))


def _check(column: Column, values: Sequence[Any]) -> None:
    check = _CHECKS.get(column.kind)
    if check is not None and values:
        check(column, values)


def _check_integer(column: Column, values: Sequence[int]) -> None:
    low, high = column.minimum, column.maximum
    if size := _MACHINE_INTEGERS.get((low, high)):
        try:
            array(size, values)  # half the time of min and max
        except OverflowError:
            raise _out_of_range(column) from None
    elif (low is not None and min(values) < low) or (high is not None and max(values) > high):
        raise _out_of_range(column)


def _check_float(column: Column, values: Sequence[float]) -> None:
    if column.maximum is None:
        return
    # The same rounding as in the column: what becomes infinite or zero there, and was not, is lost.
    for value, stored in zip(values, array("f", values), strict=True):
        if (stored == 0) != (value == 0) or (abs(stored) == float("inf")) != (abs(value) == float("inf")):
            raise _out_of_range(column)


def _check_decimal(column: Column, values: Sequence[Decimal]) -> None:
    if not all(map(Decimal.is_finite, values)):
        raise _refused(column, "a number that is not finite")


def _plain(values: Sequence[Any]) -> bool:
    """Whether this is ASCII text without NUL, and no null: most columns, and told four times faster than by types."""
    try:
        joined = "".join(values)
    except TypeError:
        return False
    return joined.isascii() and "\0" not in joined


def _check_text(column: Column, values: Sequence[str]) -> None:
    joined = "".join(values)
    if "\0" in joined:
        raise _refused(column, "text with a NUL character, which no text column can hold")
    try:
        joined.encode()
    except UnicodeEncodeError:
        raise _refused(column, "text with a lone surrogate, which UTF-8 cannot hold") from None


def _check_label(column: Column, values: Sequence[str]) -> None:
    if not set(values).issubset(column.labels):
        raise _refused(column, "text that is none of the labels of the type")


def _check_time(column: Column, values: Sequence[datetime.time]) -> None:
    if any(map(_zone, values)):
        raise _refused(column, "a time with a zone, where the column has none")


def _check_timetz(column: Column, values: Sequence[datetime.time]) -> None:
    if any(value.utcoffset() is None for value in values):
        raise _refused(column, "a time without an offset from UTC, which the column needs")


def _check_timestamptz(column: Column, values: Sequence[datetime.datetime]) -> None:
    if not all(map(_zone, values)):
        raise _refused(column, "a time stamp without a zone, which the column needs")


_CHECKS: dict[Kind, Callable[[Column, Sequence[Any]], None]] = {
    Kind.INTEGER: _check_integer,
    Kind.FLOAT: _check_float,
    Kind.DECIMAL: _check_decimal,
    Kind.TEXT: _check_text,
    Kind.ENUM: _check_label,
    Kind.TIME: _check_time,
    Kind.TIMETZ: _check_timetz,
    Kind.TIMESTAMPTZ: _check_timestamptz,
}


def _convert(column: Column, value: Any) -> Any:
    kind, wanted = column.kind, _PYTHON[column.kind]
    if kind is Kind.INTEGER and isinstance(value, float | Decimal):
        return _whole(column, value)
    if kind is Kind.BYTES and isinstance(value, str):
        raise _refused(column, "text, where the column wants bytes")
    if kind in (Kind.TEXT, Kind.ENUM) and isinstance(value, str):
        return str(value)
    try:
        converted: Any = msgspec.convert(value, wanted, strict=not (kind in _SPELT and isinstance(value, str)))
        if kind is Kind.TIMESTAMP and converted.tzinfo is not None:
            converted = converted.astimezone(datetime.UTC).replace(tzinfo=None)
    except (msgspec.ValidationError, OverflowError):
        raise _refused(column, f"a value of type {type(value).__name__} that is no {kind}") from None
    if kind is Kind.FLOAT and isinstance(value, int) and int(converted) != value:
        raise _refused(column, "a whole number that a float cannot hold exactly")
    return converted


def _whole(column: Column, value: float | Decimal) -> int:
    # Looked at for its size first: 1E+999999999 is a short text, and an integer of a gigabyte.
    small = math.isfinite(value) and -_BEYOND_INTEGERS < value < _BEYOND_INTEGERS
    whole = int(value) if small else None
    if whole is None or whole != value:
        raise _refused(column, "a number with a fraction, or none that is finite, where the column wants an integer")
    return whole


def _json(column: Column, value: Any) -> bytes:
    try:
        text = bytes(value) if isinstance(value, msgspec.Raw) else _encode(value)
        if b"null" in text and not isinstance(value, msgspec.Raw):
            # msgspec writes NaN and infinity as null (its documentation says so); the slower encoder tells.
            json.dumps(value, allow_nan=False, default=str)
    except (TypeError, ValueError, RecursionError, OverflowError, msgspec.MsgspecError):
        raise _refused(column, f"a value of type {type(value).__name__} that JSON cannot hold") from None
    return text


def _arrays(column: Column, values: Sequence[Any], types: set[type]) -> Sequence[Any]:
    """Items are checked together, whatever array they are in; arrays in arrays are dimensions, as in PostgreSQL."""
    if column.item is None:
        raise _unwritable(column)
    if not types <= _LISTS:
        raise _refused(column, "a value that is no list, where the column wants an array")
    present = [value for value in values if value is not None]
    items = list(chain.from_iterable(present))
    item_types = set(map(type, items))
    nested = column.item.kind is not Kind.JSON and not item_types.isdisjoint(_LISTS)
    if nested and not item_types <= _LISTS and len(present) > 1:
        # Arrays of one column may differ in their dimensions, but not within one array.
        alone = [value if value is None else checked(column, [value])[0] for value in values]
        return values if all(map(operator.is_, alone, values)) else alone
    found = checked(replace(column, nullable=False) if nested else column.item, items)
    if found is items and tuple not in types:
        return values
    rest: Iterator[Any] = iter(found)
    return [None if value is None else [next(rest) for _ in value] for value in values]

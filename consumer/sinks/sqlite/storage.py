"""Values as SQLite stores them: each reads back equal, or its record is rejected. The table is in `schema.py`."""

from __future__ import annotations

import datetime
import operator
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from itertools import chain
from types import NoneType
from typing import Any

import msgspec

from consumer.errors import RejectedError
from consumer.sinks.conversion import checked
from consumer.sinks.sqlite.schema import stored_as_is, stored_as_text
from consumer.table import Column, Kind
from consumer.vector import Vector, values_of

_INTEGERS = range(-(2**63), 2**63)
_SECONDS = len("2026-01-01 00:00:00")
_zone = operator.attrgetter("tzinfo")


def bind(
    columns: Sequence[Column],
    rows: Sequence[tuple[Any, ...]],
    known: Sequence[Column | None] = (),
    vectors: Sequence[Vector] = (),
) -> list[Any]:
    """The values of the rows, one row after the other, as sqlite3 stores them unchanged.

    `known` and `vectors` as in TableRows. Raises RejectedError without the value, FatalError for a column that cannot
    be written.
    """
    if not rows:
        return []
    width = len(columns)
    values = [None] * (len(rows) * width) if vectors else list(chain.from_iterable(rows))
    for place, column in enumerate(columns):
        given = values_of(vectors[place]) if vectors else values[place::width]
        stored = _stored(column, given, known[place] if known else None)
        if vectors or stored is not given:
            values[place::width] = stored
    return values


def _stored(column: Column, values: Sequence[Any], known: Column | None) -> Sequence[Any]:
    if stored_as_is(column):
        return [None if value is None else _as_is(column, value) for value in values]
    if known is None or column.kind is Kind.TEXT or not column.takes(known):
        values = checked(column, values)
    if column.kind is Kind.FLOAT:
        _refuse_nan(column, values)
    if column.kind is Kind.TIMESTAMPTZ:
        return _timestamps(values)
    if column.kind not in _STORED:
        return values
    store = _STORED[column.kind](column)
    return [None if value is None else store(value) for value in values]


def _refuse_nan(column: Column, values: Sequence[float | None]) -> None:
    total = sum(filter(None, values))  # NaN if any value is, and also for infinities of both signs
    if total != total and any(value != value for value in values):
        raise _refused(column, "NaN, which SQLite would turn into NULL")


def _timestamps(values: Sequence[datetime.datetime | None]) -> Sequence[str | None]:
    """As text of one width, in UTC. Written by msgspec all at once: a tenth of the time of isoformat for each."""
    # Not `None in values`: whether a datetime is None takes longer to tell than what type it has.
    present = [value for value in values if value is not None] if NoneType in set(map(type, values)) else values
    if set(map(_zone, present)) != {datetime.UTC}:
        present = [value.astimezone(datetime.UTC) for value in present if value is not None]
    text = msgspec.json.encode(present).replace(b"T", b" ").decode()
    texts = [f"{t}+00:00" if len(t) > _SECONDS else f"{t}.000000+00:00" for t in text[2:-3].split('Z","')]
    if len(present) == len(values):
        return texts
    rest = iter(texts)
    return [None if value is None else next(rest) for value in values]


def _decimal(column: Column, value: Decimal) -> Any:
    if stored_as_text(column):
        return str(value)
    # Looked at for its size first: 1E+999999999 is a short text, and an integer of a gigabyte.
    if value.adjusted() < 19 and value == (whole := value.to_integral_value()) and int(whole) in _INTEGERS:
        return int(whole)
    number = float(value)
    if Decimal(repr(number)) != value:
        raise _refused(column, "more digits than SQLite keeps in a column that is not declared DECIMAL TEXT")
    return number


def _json(column: Column, text: bytes) -> Any:
    if text[:1] in b"-0123456789" and not stored_as_text(column):  # the column would make a number of the text anyway
        return _decimal(column, Decimal(text.decode()))
    return text.decode()


def _as_is(column: Column, value: Any) -> Any:
    if isinstance(value, msgspec.Raw):
        value = msgspec.json.decode(value)
    if isinstance(value, bool | int):
        return int(value)
    if isinstance(value, float):
        _refuse_nan(column, [value])
        return value
    return value if isinstance(value, str | bytes) else checked(column, [value])[0].decode()


def _refused(column: Column, what: str) -> RejectedError:
    return RejectedError(f"column {column.name} ({column.type_name}): {what}", column=column.name)


_STORED: dict[Kind, Callable[[Column], Callable[[Any], Any]]] = {
    Kind.BOOLEAN: lambda _: int,
    Kind.DATE: lambda _: operator.methodcaller("isoformat"),
    Kind.TIME: lambda _: operator.methodcaller("isoformat", "microseconds"),
    Kind.DECIMAL: lambda column: partial(_decimal, column),
    Kind.UUID: lambda _: str,
    Kind.JSON: lambda column: partial(_json, column),
}

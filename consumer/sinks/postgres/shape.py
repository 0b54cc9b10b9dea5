"""Rows checked whole: types, ranges and nulls of all columns in one call into msgspec, for a quarter of the time.

It only ever says yes. Whatever it does not take, or would change, goes the way of `conversion.checked`, column by
column, which also knows the reasons. NUL and lone surrogates in text are left to the server and the driver.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from consumer.sinks.conversion import checked
from consumer.table import Column, Kind

Row = tuple[Any, ...]
_TYPES: dict[Kind, Any] = {
    Kind.BOOLEAN: bool,
    Kind.FLOAT: float,
    Kind.DECIMAL: Decimal,
    Kind.TEXT: str,
    Kind.BYTES: bytes,
    Kind.DATE: datetime.date,
    Kind.TIME: Annotated[datetime.time, msgspec.Meta(tz=False)],
    Kind.TIMETZ: Annotated[datetime.time, msgspec.Meta(tz=True)],
    Kind.TIMESTAMP: Annotated[datetime.datetime, msgspec.Meta(tz=False)],
    Kind.TIMESTAMPTZ: Annotated[datetime.datetime, msgspec.Meta(tz=True)],
    Kind.INTERVAL: datetime.timedelta,
    Kind.UUID: uuid.UUID,
}


class Shape:
    """Rows of these columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        # A struct around it, because msgspec keeps what it makes of a struct, and makes anything else anew each time.
        self._type = msgspec.defstruct("Shape", [("rows", list[tuple[*map(_type, columns)]])])  # type: ignore[misc]
        self._rest = [i for i, column in enumerate(columns) if not _is_enough(column)]

    def fit(self, rows: Sequence[Row]) -> Iterable[Row]:
        """The rows with every value as its column wants it. Raises RejectedError as `conversion.checked` does."""
        try:
            converted: Any = msgspec.convert({"rows": rows}, self._type)
        except msgspec.ValidationError:
            return self.by_column(rows)
        # Equal: nothing was converted but among numbers, and those without loss.
        found: list[Row] = converted.rows
        if found != rows:
            return self.by_column(rows)
        changed = {}
        for index in self._rest:
            values = [row[index] for row in found]
            if (new := checked(self._columns[index], values)) is not values:
                changed[index] = new
        if not changed:
            return found
        return zip(*(changed.get(i, cells) for i, cells in enumerate(zip(*found, strict=True))), strict=True)

    def by_column(self, rows: Sequence[Row]) -> Iterable[Row]:
        """The same the long way, which looks into text too."""
        cells = zip(*rows, strict=True)
        return zip(*(checked(column, values) for column, values in zip(self._columns, cells, strict=True)), strict=True)


def _type(column: Column) -> Any:
    found: Any = _TYPES.get(column.kind, Any)
    if column.kind is Kind.INTEGER:
        found = Annotated[int, msgspec.Meta(ge=column.minimum, le=column.maximum)]
    elif column.kind is Kind.ENUM:
        found = Literal[column.labels]
    return found | None if column.nullable and found is not Any else found


def _is_enough(column: Column) -> bool:
    if column.kind is Kind.DECIMAL:
        return False  # may be infinite
    return _type(column) is not Any and (column.kind is not Kind.FLOAT or column.maximum is None)

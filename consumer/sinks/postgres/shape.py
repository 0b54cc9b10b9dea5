"""Rows checked whole: types, ranges and nulls of all columns in one call into msgspec, for a quarter of the time.

It only ever says yes. Whatever it does not take, or would change, goes the way of `conversion.checked`, column by
column, which also knows the reasons. NUL and lone surrogates in text are left to the server and the driver. Where the
decoder knows what the values are, and that is enough for the column, they are not looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from consumer.exact import exact
from consumer.sinks.conversion import checked
from consumer.table import Column, Kind

Row = tuple[Any, ...]
# So many columns, of which nothing is known, are sooner checked one by one than with all others.
_FEW = 2


class Shape:
    """Rows of these columns; `known` as in TableRows."""

    def __init__(self, columns: Sequence[Column], known: Sequence[Column | None] = ()) -> None:
        self._columns = columns
        pairs = zip(columns, known or [None] * len(columns), strict=True)
        open_ = [i for i, (column, sure) in enumerate(pairs) if sure is None or not column.takes(sure)]
        self._whole = len(open_) > _FEW
        # A struct around it, because msgspec keeps what it makes of a struct, and makes anything else anew each time.
        self._type = msgspec.defstruct("Shape", [("rows", list[tuple[*map(exact, columns)]])])  # type: ignore[misc]
        self._rest = [i for i in open_ if not (self._whole and _is_enough(columns[i]))]

    def fit(self, rows: Sequence[Row]) -> Iterable[Row]:
        """The rows with every value as its column wants it. Raises RejectedError as `conversion.checked` does."""
        found = rows
        if self._whole:
            try:
                converted: Any = msgspec.convert({"rows": rows}, self._type)
            except msgspec.ValidationError:
                return self.by_column(rows)
            found = converted.rows
            # Equal: nothing was converted but among numbers, and those without loss.
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


def _is_enough(column: Column) -> bool:
    if column.kind is Kind.DECIMAL:
        return False  # may be infinite
    return exact(column) is not Any and (column.kind is not Kind.FLOAT or column.maximum is None)

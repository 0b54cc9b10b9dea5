"""What a column takes as it is, as types for msgspec: it checks a batch of values, or decodes right into them."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec

from consumer.table import Column, Kind

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


def exact(column: Column) -> Any:
    """The type of the values of this column, null included where it may be; Any where no type tells.

    What a type leaves open: whether a decimal is finite, and whether a float is one of 32 bits.
    """
    found: Any = _TYPES.get(column.kind, Any)
    if column.kind is Kind.INTEGER:
        found = Annotated[int, msgspec.Meta(ge=column.minimum, le=column.maximum)]
    elif column.kind is Kind.ENUM:
        found = Literal[column.labels]
    return found | None if column.nullable and found is not Any else found

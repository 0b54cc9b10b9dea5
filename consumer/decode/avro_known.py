"""What the values of an Avro type are sure to be, so that nobody has to look at them again."""

from __future__ import annotations

from dataclasses import replace

from consumer.decode.avro_types import Enum, Fixed, Logical, Primitive, Record, Type, Union
from consumer.table import Column, Kind

_PRIMITIVES = {
    "boolean": Column("", Kind.BOOLEAN, "", nullable=False),
    "int": Column("", Kind.INTEGER, "", nullable=False, minimum=-(2**31), maximum=2**31 - 1),
    "long": Column("", Kind.INTEGER, "", nullable=False, minimum=-(2**63), maximum=2**63 - 1),
    "float": Column("", Kind.FLOAT, "", nullable=False),
    "double": Column("", Kind.FLOAT, "", nullable=False),
    "string": Column("", Kind.TEXT, "", nullable=False),
    "bytes": Column("", Kind.BYTES, "", nullable=False),
}
_LOGICAL = {
    "date": Kind.DATE,
    "time-millis": Kind.TIME,
    "time-micros": Kind.TIME,
    "timestamp-millis": Kind.TIMESTAMPTZ,
    "timestamp-micros": Kind.TIMESTAMPTZ,
    "local-timestamp-millis": Kind.TIMESTAMP,
    "local-timestamp-micros": Kind.TIMESTAMP,
    "uuid": Kind.UUID,
}


def known(record: Record, names: tuple[str, ...]) -> tuple[Column | None, ...]:
    """For each of these fields what a decoded value is sure to be; None where that is not known.

    The columns have no name and no type name. A default of the reader's schema is not looked into.
    """
    types = {part.name: part.type for part in record.fields}
    return tuple(_known(types[name]) if name in types else None for name in names)


def _known(part: Type) -> Column | None:
    match part:
        case Primitive():
            return _logical(part.logical, _PRIMITIVES.get(part.promote or part.kind))
        case Fixed():
            return _logical(part.logical, _PRIMITIVES["bytes"])
        case Enum():
            labels = tuple(symbol for symbol in part.symbols if symbol is not None)
            return Column("", Kind.ENUM, "", nullable=False, labels=labels)
        case Union(branches=(Primitive(kind="null"), other) | (other, Primitive(kind="null"))):
            inner = _known(other)
            return inner and replace(inner, nullable=True)
        case _:
            return None


def _logical(logical: Logical | None, plain: Column | None) -> Column | None:
    if logical is None:
        return plain
    kind = _LOGICAL.get(logical.name)
    return Column("", kind, "", nullable=False) if kind else None

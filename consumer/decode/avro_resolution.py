"""A writer's schema seen through a reader's: one tree that reads the writer's bytes into the reader's values.

The rules: https://avro.apache.org/docs/1.12.0/specification/#schema-resolution. Beyond them, a logical type that only
one of the two schemas has is applied, because Java and Python writers leave them out at will.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from consumer.decode import avro_values as values
from consumer.decode.avro_types import (
    NO_DEFAULT,
    Array,
    Enum,
    Fixed,
    Logical,
    Map,
    Never,
    Primitive,
    Record,
    RecordField,
    SchemaError,
    Type,
    Union,
    label,
)
from consumer.errors import DecodeError

_PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}


def resolve(writer: Type, reader: Type) -> Type:
    """The tree; raises SchemaError when no value of the writer could be read."""
    resolved = _Resolver().resolve(writer, reader)
    if (reason := _fails_always(resolved, frozenset())) is not None:
        raise SchemaError(reason)
    return resolved


def _fails_always(part: Type, within: frozenset[int]) -> str | None:
    match part:
        case Never():
            return part.reason
        case Union():
            reasons = [_fails_always(branch, within) for branch in part.branches]
            return None if None in reasons else reasons[0]
        case Record() if id(part) not in within:
            inner = within | {id(part)}
            reasons = [_fails_always(child.type, inner) for child in part.fields]
            return next((reason for reason in reasons if reason is not None), None)
        case _:
            return None


class _Resolver:
    def __init__(self) -> None:
        self._records: dict[tuple[int, int], Record] = {}

    def resolve(self, writer: Type, reader: Type) -> Type:
        if isinstance(writer, Union):
            return Union(tuple(self.resolve(branch, reader) for branch in writer.branches))
        if isinstance(reader, Union):
            chosen = next((branch for branch in reader.branches if _matches(writer, branch)), None)
            return self.resolve(writer, chosen) if chosen is not None else _never(writer, reader)
        if not _matches(writer, reader):
            return _never(writer, reader)
        match writer, reader:
            case Primitive(), Primitive():
                promote = reader.kind if reader.kind != writer.kind and reader.kind != "long" else None
                return Primitive(writer.kind, _logical(writer.logical, reader.logical, promote), promote)
            case Fixed(), Fixed():
                return Fixed(writer.name, writer.size, writer.logical or reader.logical)
            case Enum(), Enum():
                known = {symbol: symbol for symbol in reader.symbols}
                return Enum(writer.name, tuple(known.get(symbol, reader.default) for symbol in writer.symbols))
            case Array(), Array():
                return Array(self.resolve(writer.item, reader.item))
            case Map(), Map():
                return Map(self.resolve(writer.value, reader.value))
            case Record(), Record():
                return self._record(writer, reader)
            case _:
                return _never(writer, reader)

    def _record(self, writer: Record, reader: Record) -> Record:
        key = (id(writer), id(reader))
        if key in self._records:
            return self._records[key]
        record = self._records[key] = Record(reader.name)
        wanted = {name: part for part in reader.fields for name in (part.name, *part.aliases)}
        wanted |= {part.name: part for part in reader.fields}
        missing = {part.name: part for part in reader.fields}
        for written in writer.fields:
            part = wanted.get(written.name)
            if part is not None and missing.pop(part.name, None) is not None:
                record.fields.append(RecordField(part.name, self.resolve(written.type, part.type)))
            else:
                record.fields.append(RecordField(None, written.type))
        for name, part in missing.items():
            if part.default is NO_DEFAULT:
                reason = f"the writer's schema has no field {name} of {reader.name}, and the reader's has no default"
                record.fields.append(RecordField(None, Never(reason)))
            else:
                record.constants[str(name)] = default_value(part.type, part.default)
        return record


def _never(writer: Type, reader: Type) -> Never:
    return Never(f"the reader's schema has {label(reader)} where the writer's has {label(writer)}")


def _logical(writer: Logical | None, reader: Logical | None, promote: str | None) -> Logical | None:
    if promote in ("float", "double"):
        return None
    return writer or reader


def _matches(writer: Type, reader: Type) -> bool:
    match writer, reader:
        case (Union(), _) | (_, Union()):
            return True
        case Primitive(), Primitive():
            return writer.kind == reader.kind or reader.kind in _PROMOTIONS.get(writer.kind, ())
        case Fixed(), Fixed():
            return _same_name(writer, reader) and writer.size == reader.size
        case Record(), Record():
            return _same_name(writer, reader)
        case Enum(), Enum():
            return _same_name(writer, reader)
        case Array(), Array():
            return _matches(writer.item, reader.item)
        case Map(), Map():
            return _matches(writer.value, reader.value)
        case _:
            return False


def _same_name(writer: Record | Enum | Fixed, reader: Record | Enum | Fixed) -> bool:
    name = _short(writer.name)
    return name == _short(reader.name) or name in map(_short, reader.aliases)


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def default_value(part: Type, default: Any) -> Any:
    """A default of a schema as the value that reading it would give; raises SchemaError when it is none of the type."""
    match part:
        case Union():
            return _union_default(part, default)
        case Array() if isinstance(default, list):
            return [default_value(part.item, item) for item in default]
        case Map() if isinstance(default, dict):
            return {key: default_value(part.value, item) for key, item in default.items()}
        case Record() if isinstance(default, dict):
            return _record_default(part, default)
        case Enum() if default in part.symbols:
            return default
        case Fixed() if isinstance(default, str) and len(default) == part.size:
            return _logical_value(part.logical, _latin(default))
        case Primitive():
            return _primitive_default(part, default)
        case _:
            raise SchemaError(f"a default that is no {label(part)}")


def _union_default(part: Union, default: Any) -> Any:
    for branch in part.branches:
        try:
            return default_value(branch, default)
        except SchemaError:
            continue
    raise SchemaError("a default that is none of its union's branches")


def _record_default(part: Record, default: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for child in part.fields:
        value = default.get(str(child.name), child.default)
        if value is NO_DEFAULT:
            raise SchemaError(f"a default of {part.name} without its field {child.name}")
        found[str(child.name)] = default_value(child.type, value)
    return found


_DEFAULTS: dict[str, Any] = {
    "null": None,
    "boolean": bool,
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "string": str,
    "bytes": str,
}


def _primitive_default(part: Primitive, default: Any) -> Any:
    try:
        value = msgspec.convert(default, _DEFAULTS[part.kind])
    except msgspec.ValidationError:
        raise SchemaError(f"a default that is no {part.kind}") from None
    return _logical_value(part.logical, _latin(value) if part.kind == "bytes" else value)


def _latin(text: str) -> bytes:
    try:
        return text.encode("latin-1")  # as the standard writes bytes in JSON
    except UnicodeEncodeError:
        raise SchemaError("a default of bytes with a character beyond U+00FF") from None


_LOGICAL_VALUES: dict[str, Callable[[Any], Any]] = {
    "date": lambda days: datetime.date.fromordinal(days + values.FIRST_DAY),
    "time-millis": lambda ticks: values.time_of(ticks, values.MILLISECOND),
    "time-micros": lambda ticks: values.time_of(ticks, values.MICROSECOND),
    "timestamp-millis": lambda ticks: values.EPOCH + values.MILLISECOND * ticks,
    "timestamp-micros": lambda ticks: values.EPOCH + values.MICROSECOND * ticks,
    "local-timestamp-millis": lambda ticks: values.LOCAL_EPOCH + values.MILLISECOND * ticks,
    "local-timestamp-micros": lambda ticks: values.LOCAL_EPOCH + values.MICROSECOND * ticks,
    "uuid": lambda value: UUID(bytes=value) if isinstance(value, bytes) else values.uuid_of(value),
}


def _logical_value(logical: Logical | None, value: Any) -> Any:
    if logical is None:
        return value
    try:
        if logical.name == "decimal":
            found: Decimal = values.DecimalReader(logical)(value)
            return found
        return _LOGICAL_VALUES[logical.name](value)
    except (DecodeError, OverflowError, ValueError) as error:
        raise SchemaError(f"a default that is no {logical.name}: {error}") from None

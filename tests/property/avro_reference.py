"""A strict Avro decoder for tests: slow, obvious, and without a line in common with the one under test."""

from __future__ import annotations

import datetime
import struct
import uuid
from decimal import Context, Decimal
from typing import Any

EXACT = Context(prec=100_000)


class BadError(Exception):
    """The bytes are not what the schema says."""


def read_all(schema: Any, data: bytes) -> Any:
    """The value; raises BadError."""
    reader = _Reader(data)
    try:
        value = reader.read(schema)
    except (OverflowError, ValueError, EOFError) as error:
        raise BadError from error
    if reader.at != len(data):
        raise BadError("trailing bytes")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self.data) - self.at:
            raise BadError("size")
        self.at += size
        return self.data[self.at - size : self.at]

    def long(self, bits: int = 64) -> int:
        raw = shift = 0
        while True:
            byte = self.take(1)[0]
            raw |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift >= 70:
                raise BadError("varint")
        if raw >= 2**bits:
            raise BadError("range")
        return (raw >> 1) ^ -(raw & 1)

    def index(self, size: int) -> int:
        index = self.long()
        if not 0 <= index < size:
            raise BadError("index")
        return index

    def counts(self) -> Any:
        while count := self.long():
            if count < 0:
                self.long()
                count = -count
            yield from range(count)

    def read(self, schema: Any) -> Any:
        if isinstance(schema, list):
            return self.read(schema[self.index(len(schema))])
        if isinstance(schema, str):
            schema = {"type": schema}
        return logical(schema, getattr(self, f"read_{schema['type']}")(schema))

    def read_null(self, schema: Any) -> None:
        return None

    def read_boolean(self, schema: Any) -> bool:
        byte = self.take(1)
        if byte not in (b"\0", b"\1"):
            raise BadError("boolean")
        return byte == b"\1"

    def read_int(self, schema: Any) -> int:
        return self.long(32)

    def read_long(self, schema: Any) -> int:
        return self.long()

    def read_float(self, schema: Any) -> float:
        return struct.unpack("<f", self.take(4))[0]

    def read_double(self, schema: Any) -> float:
        return struct.unpack("<d", self.take(8))[0]

    def read_bytes(self, schema: Any) -> bytes:
        return self.take(self.long())

    def read_string(self, schema: Any) -> str:
        return self.take(self.long()).decode()

    def read_fixed(self, schema: Any) -> bytes:
        return self.take(schema["size"])

    def read_enum(self, schema: Any) -> str:
        return schema["symbols"][self.index(len(schema["symbols"]))]

    def read_array(self, schema: Any) -> list[Any]:
        return [self.read(schema["items"]) for _ in self.counts()]

    def read_map(self, schema: Any) -> dict[str, Any]:
        return {self.read("string"): self.read(schema["values"]) for _ in self.counts()}

    def read_record(self, schema: Any) -> dict[str, Any]:
        return {field["name"]: self.read(field["type"]) for field in schema["fields"]}


def logical(schema: dict[str, Any], value: Any) -> Any:
    """The value of its logical type."""
    micros = {"millis": 1000, "micros": 1}
    kind = schema.get("logicalType", "")
    stem, _, unit = kind.rpartition("-")
    if stem in ("timestamp", "local-timestamp") and unit in micros:
        zone = datetime.UTC if stem == "timestamp" else None
        days, rest = divmod(value * micros[unit], 86_400_000_000)
        midnight = datetime.datetime.fromordinal(days + 719_163).replace(tzinfo=zone)
        return midnight + datetime.timedelta(microseconds=rest)
    if stem == "time":
        seconds, rest = divmod(value * micros[unit], 1_000_000)
        return datetime.time(seconds // 3600, seconds // 60 % 60, seconds % 60, rest)
    if kind == "date":
        return datetime.date.fromordinal(value + 719_163)
    if kind == "uuid":
        return uuid.UUID(bytes=value) if isinstance(value, bytes) else uuid.UUID(value)
    if kind == "decimal":
        unscaled = int.from_bytes(value, "big", signed=True)
        if len(str(abs(unscaled))) > schema["precision"]:
            raise BadError("precision")
        return Decimal(unscaled).scaleb(-schema.get("scale", 0), EXACT)
    return value

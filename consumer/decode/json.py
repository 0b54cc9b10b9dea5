"""JSON payloads, decoded by msgspec: into plain values, or typed by the columns they go to without a dict a record.

What it refuses as DecodeError: NaN and infinity, text that is not UTF-8 (lone surrogates included), values nested
deeper than Python's recursion limit, integers of more digits than Python converts (4,300), and floats beyond the range
of 64 bits. Of a repeated key the last value counts.
"""

from __future__ import annotations

import datetime
import operator
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import UNSET

from consumer.decode import Fields
from consumer.errors import DecodeError
from consumer.exact import exact
from consumer.table import PLAIN, Column, Kind

# Text stays open to the kinds that the sink also takes spelt out, because its message is the better one. An int is not
# made a float here: the sink refuses those that a float cannot hold.
_TYPES: dict[Kind, Any] = {
    Kind.BOOLEAN: bool | str,
    Kind.INTEGER: int | float | str,
    Kind.FLOAT: int | float | str,
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
# PostgreSQL's MAXDIM; https://www.postgresql.org/docs/current/arrays.html
_MAX_DIMENSIONS = 6
# What JSON says in one way only. An int where a float is wanted is one that a float cannot hold, perhaps.
_EXACT = PLAIN | {Kind.INTEGER}
# From this many records on, a batch tells which fields its producers always send; a few say too little.
_ENOUGH_TO_LEARN = 100
_SPELT = 100

_decode = msgspec.json.Decoder().decode


class JsonDecoder:
    """JSON values. `columns`: top-level field -> the column that it goes to; `rows` types these fields by them.

    Typed by a column means: DECIMAL holds the number exactly as written, BYTES is base64, JSON stays text
    (msgspec.Raw, a view of the payload), a field without a column is whatever JSON it is.
    """

    def __init__(self, columns: Mapping[str, Column] | None = None) -> None:
        self._columns = columns or {}
        self._layouts: dict[tuple[str, ...], _Layout] = {}

    def decode(self, payloads: Sequence[bytes]) -> list[Any]:
        """Plain Python values; floats are 64 bits, whole numbers exact."""
        with _as_decode_error():
            return list(map(_decode, payloads))

    def rows(self, payloads: Sequence[bytes], fields: tuple[str, ...]) -> Fields:
        """These top-level fields, typed by their columns. The rest is passed over, UTF-8 or not."""
        layout = self._layouts.get(fields)
        if layout is None:
            layout = self._layouts[fields] = _Layout(fields, self._columns)
        with _as_decode_error():
            return layout.rows(payloads)


@contextmanager
def _as_decode_error() -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError:  # its own message shows bytes of the payload
        raise DecodeError("text that is not UTF-8") from None
    except RecursionError:
        raise DecodeError("values nested too deep") from None
    except msgspec.DecodeError as error:  # names types, positions and field names, never values
        raise DecodeError(str(error)) from None


class _Layout:
    """One choice of fields, with a type for msgspec that requires those which every record had of late.

    A missing field that is required makes msgspec raise; so the common batch is not searched for gaps record by
    record. Only the optional fields are, and every batch that raises is decoded once more with all fields optional.
    Likewise it asks for what the columns take as it is, so that values need not be looked at again.
    """

    def __init__(self, fields: tuple[str, ...], columns: Mapping[str, Column]) -> None:
        self._fields = fields
        self._types = {field: _field_type(columns.get(field)) for field in fields}
        self._json = [f"f{at}" for at, field in enumerate(fields) if self._types[field] is msgspec.Raw]
        found = (columns.get(field) for field in fields)
        self._known = tuple(column if column and column.kind in _EXACT else None for column in found)
        self._required: frozenset[str] = frozenset()
        self._exact = False
        self._spelt = 0  # batches to come in which values may be spelt in other ways, because some were
        self._lenient = self._strict = self._decoder()

    def rows(self, payloads: Sequence[bytes]) -> Fields:
        required, known = self._required, self._known if self._exact else ()
        try:
            records = list(map(self._strict, payloads))
        except msgspec.ValidationError:
            if self._strict is self._lenient:
                raise
            required, known = frozenset(), ()
            records = list(map(self._lenient, payloads))
        for attribute in self._json:
            _check_json(records, attribute)
        missing = {field: self._count_missing(records, field) for field in self._fields if field not in required}
        if len(records) >= _ENOUGH_TO_LEARN:
            always = frozenset(self._fields) - {field for field, count in missing.items() if count}
            self._learn(always, spelt=self._exact and not known and always >= self._required)
        if not any(missing.values()):
            return Fields(self._fields, list(map(msgspec.structs.astuple, records)), known=known)
        names = tuple(field for field in self._fields if missing.get(field, 0) < len(records))
        return Fields(names, list(map(self._picker(names), records)), any(missing.get(name) for name in names))

    def _count_missing(self, records: list[msgspec.Struct], field: str) -> int:
        return list(map(self._attribute(field), records)).count(UNSET)

    def _learn(self, required: frozenset[str], spelt: bool) -> None:
        """`spelt`: no field was missed, and yet a batch was not as the columns have it."""
        self._spelt = _SPELT if spelt else max(0, self._spelt - 1)
        if (required, self._spelt == 0) != (self._required, self._exact):
            self._required, self._exact = required, self._spelt == 0
            self._strict = self._decoder()

    def _decoder(self) -> Callable[[bytes], msgspec.Struct]:
        attributes = {field: f"f{at}" for at, field in enumerate(self._fields)}
        sure = dict(zip(self._fields, self._known, strict=True)) if self._exact else {}
        types = {field: exact(column) if (column := sure.get(field)) else self._types[field] for field in self._fields}
        members: list[Any] = [
            (name, types[field]) if field in self._required else (name, types[field], UNSET)
            for field, name in attributes.items()
        ]
        rename = {name: field for field, name in attributes.items()}
        struct = msgspec.defstruct("Record", members, rename=rename, kw_only=True, gc=False)
        return msgspec.json.Decoder(struct).decode

    def _attribute(self, field: str) -> Callable[[msgspec.Struct], Any]:
        return operator.attrgetter(f"f{self._fields.index(field)}")

    def _picker(self, names: tuple[str, ...]) -> Callable[[msgspec.Struct], tuple[Any, ...]]:
        if len(names) > 1:
            return operator.attrgetter(*(f"f{self._fields.index(name)}" for name in names))
        if not names:
            return lambda record: ()
        only = self._attribute(names[0])
        return lambda record: (only(record),)


def _field_type(column: Column | None) -> Any:
    if column is None:
        return Any
    if column.kind is Kind.JSON:
        return msgspec.Raw
    if column.kind is not Kind.ARRAY:
        return _TYPES[column.kind] | None if column.kind in _TYPES else Any
    item: Any = _TYPES.get(column.item.kind, Any) if column.item is not None else Any
    array: Any = None
    for _ in range(_MAX_DIMENSIONS):
        array = list[item | array | None] if item is not Any else list
    return array | None


def _check_json(records: list[msgspec.Struct], attribute: str) -> None:
    """Does to Raw values what msgspec left undone: text is checked, and null is None as it is elsewhere.

    Raises UnicodeDecodeError or msgspec.DecodeError.
    """
    values = list(map(operator.attrgetter(attribute), records))
    raws = [value for value in values if value is not UNSET]
    joined = b"\n".join([b"", *raws, b""])
    joined.decode()
    if b"\\u" in joined:  # perhaps a lone surrogate; a full decode tells
        for raw in raws:
            _decode(raw)
    if b"\nnull\n" in joined:
        for record, value in zip(records, values, strict=True):
            if value is not UNSET and bytes(value) == b"null":
                setattr(record, attribute, None)

"""Avro records as vectors: a field of all records at once, where that can be done. It only ever says yes.

Records without arrays, maps and wider unions than one with null are read a field at a time: the positions of all
records move on together, so that a few calls into numpy read a thousand numbers. Whatever is not as a writer of the
schema would have written it, and whatever is too rare to be worth it, ends in UnfitError; the generated readers
(`avro_code`) then take the same payloads, and know which of them is at fault and why. Both accept the same bytes, and
both check all of them.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from consumer.decode.avro_types import Enum, Fixed, Logical, Primitive, Record, Type, Union
from consumer.table import Kind
from consumer.vector import Array, Numbers, Spans, Vector, items, spans_of, spread


class UnfitError(Exception):
    """These payloads, or this schema, are not for this way of reading."""


_PADDING = bytes(16)  # so that a number can be read as words wherever it begins
_MORE = 0x80  # in each byte of a number but its last
_HIGH = np.uint64(0x8080808080808080)
_ONE, _SEVEN = np.uint64(1), np.uint64(7)
# Groups of 7 bits are pushed together in pairs, the pairs in pairs, and those again: mask of what stays, of what moves,
# and by how much.
_PUSHES = [
    (np.uint64(0x007F007F007F007F), np.uint64(0x7F007F007F007F00), np.uint64(1)),
    (np.uint64(0x00003FFF00003FFF), np.uint64(0x3FFF00003FFF0000), np.uint64(2)),
    (np.uint64(0x000000000FFFFFFF), np.uint64(0x0FFFFFFF00000000), np.uint64(4)),
]
_EPOCH = datetime.datetime(1970, 1, 1)
_MICROSECOND = datetime.timedelta(microseconds=1)
_FIRST, _LAST = ((moment - _EPOCH) // _MICROSECOND for moment in (datetime.datetime.min, datetime.datetime.max))
_DAY = 86_400_000_000
# Unit in microseconds, and what is allowed.
_TIMES: dict[str, tuple[Kind, int, int, int]] = {
    "date": (Kind.DATE, 1, _FIRST // _DAY, _LAST // _DAY),
    "time-millis": (Kind.TIME, 1000, 0, _DAY - 1),
    "time-micros": (Kind.TIME, 1, 0, _DAY - 1),
    "timestamp-millis": (Kind.TIMESTAMPTZ, 1000, _FIRST, _LAST),
    "timestamp-micros": (Kind.TIMESTAMPTZ, 1, _FIRST, _LAST),
    "local-timestamp-millis": (Kind.TIMESTAMP, 1000, _FIRST, _LAST),
    "local-timestamp-micros": (Kind.TIMESTAMP, 1, _FIRST, _LAST),
}
_WORD = 8
# What fits into 64 bits, however the digits behind the point are grouped.
_MOST_DIGITS, _MOST_SCALE = 18, 16
_UUID_TEXT, _UUID_BYTES = 36, 16
_DASHES = [8, 13, 18, 23]
_DIGITS = np.setdiff1d(np.arange(_UUID_TEXT), _DASHES)
_HEX = np.full(256, 255, np.uint8)
for _digit in b"0123456789abcdefABCDEF":
    _HEX[_digit] = int(chr(_digit), 16)


class _Bytes:
    """The payloads of a batch, one after the other, as what may begin at each byte."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.octets = items(data, np.uint8)
        self.words = items(data, "<u8")
        self.floats = items(data, "<f4")
        self.doubles = items(data, "<f8")


Step = Callable[[_Bytes, Array], tuple[Vector, Array]]
"""Reads a value at each of these positions; also says where each ends."""


class VectorReader:
    """Reads these fields of records of one schema. Raises UnfitError for a schema that cannot be read in this way."""

    def __init__(self, record: Record, names: Sequence[str]) -> None:
        self._steps = [(part.name, _step(part.type)) for part in record.fields]
        self._constants = {name: record.constants[name] for name in names if name in record.constants}
        try:
            for value in self._constants.values():
                _constant(value, 0)
        except (OverflowError, UnicodeEncodeError):  # a number beyond 64 bits, a lone surrogate
            raise UnfitError from None
        self._names = names

    def read(self, payloads: Sequence[bytes], frame: bytes) -> tuple[Vector, ...]:
        """A vector for each name; each payload must begin with `frame`. Raises UnfitError."""
        count = len(payloads)
        ends = np.cumsum(np.fromiter(map(len, payloads), np.int64, count))
        at = np.concatenate([[0], ends[:-1]])
        source = _Bytes(b"".join([*payloads, _PADDING]))
        found: dict[str | None, Vector] = {}
        try:
            at = _behind(frame, source, at)
            with np.errstate(invalid="ignore"):  # a NaN that is a signal to processors is a value too
                for name, step in self._steps:
                    found[name], at = step(source, at)
        except (IndexError, UnicodeDecodeError):
            raise UnfitError from None
        _require((at == ends).all())
        for name, value in self._constants.items():
            found[name] = _constant(value, count)
        return tuple(found[name] for name in self._names)


def _behind(frame: bytes, source: _Bytes, at: Array) -> Array:
    if frame:
        found = items(source.data, f"V{len(frame)}")[at].view(np.uint8).reshape(-1, len(frame))
        _require((found == np.frombuffer(frame, np.uint8)).all())
    return at + len(frame)


def _require(fact: Any) -> None:
    if not fact:
        raise UnfitError


def _step(part: Type) -> Step:
    match part:
        case Primitive(kind="boolean", promote=None, logical=None):
            return _boolean
        case Primitive(kind="int" | "long"):
            return _whole(part)
        case Primitive(kind="float" | "double", logical=None):
            return partial(_float, part.kind == "float")
        case Primitive(kind="string" | "bytes"):
            return _spans(part)
        case Fixed():
            return _fixed(part)
        case Enum() if None not in part.symbols:
            return _enum([symbol for symbol in part.symbols if symbol is not None])
        case Union(branches=(Primitive(kind="null"), other)):
            return partial(_nullable, 0, _step(other))
        case Union(branches=(other, Primitive(kind="null"))):
            return partial(_nullable, 2, _step(other))
        case _:
            raise UnfitError


def _varint(source: _Bytes, at: Array) -> tuple[Array, Array]:
    """Variable-length numbers, without zig-zag, and where each ends."""
    first = source.octets[at]
    if first.max(initial=0) < _MORE:
        return first.astype(np.uint64), at + 1
    words = source.words[at]
    stops = ~words & _HIGH
    last = stops & (~stops + _ONE)  # the high bit of the byte that ends the number; 0: it has more than 8 bytes
    raw = words & ((last << _ONE) - _ONE) & ~_HIGH
    for stay, move, by in _PUSHES:
        raw = (raw & stay) | ((raw & move) >> by)
    ends = at + ((np.bitwise_count(last - _ONE).astype(np.int64) + 1) >> 3)
    if not last.all():
        long = np.flatnonzero(last == 0)
        ninth, tenth = (source.octets[at[long] + place].astype(np.uint64) for place in (8, 9))
        more = ninth > 127
        _require((tenth[more] <= 1).all())  # of the tenth byte there is only a bit left in 64
        raw[long] |= (ninth & np.uint64(127)) << np.uint64(56)
        raw[long] |= np.where(more, tenth, 0).astype(np.uint64) << np.uint64(63)
        ends[long] = at[long] + 9 + more
    return raw, ends


def _zigzag(raw: Array) -> Array:
    return (raw >> _ONE).view(np.int64) ^ -(raw & _ONE).view(np.int64)


def _boolean(source: _Bytes, at: Array) -> tuple[Vector, Array]:
    values = source.octets[at]
    _require((values <= 1).all())
    return Numbers(Kind.BOOLEAN, values), at + 1


def _whole(part: Primitive) -> Step:
    promoted = part.promote in ("float", "double")
    if part.logical is not None and (part.logical.name not in _TIMES or promoted):
        raise UnfitError
    make = partial(_time, *_TIMES[part.logical.name]) if part.logical else _number
    narrow = part.kind == "int"

    def step(source: _Bytes, at: Array) -> tuple[Vector, Array]:
        raw, at = _varint(source, at)
        _require(not narrow or (raw <= 0xFFFFFFFF).all())
        values = _zigzag(raw)
        return (Numbers(Kind.FLOAT, values.astype(np.float64)) if promoted else make(values)), at

    return step


def _number(values: Array) -> Vector:
    return Numbers(Kind.INTEGER, values)


def _time(kind: Kind, unit: int, low: int, high: int, values: Array) -> Vector:
    _require(((values >= -(-low // unit)) & (values <= high // unit)).all())
    return Numbers(kind, values * unit)


def _float(single: bool, source: _Bytes, at: Array) -> tuple[Vector, Array]:
    found = source.floats if single else source.doubles
    return Numbers(Kind.FLOAT, found[at].astype(np.float64)), at + found.itemsize


def _spans(part: Primitive) -> Step:
    kind = Kind.TEXT if (part.promote or part.kind) == "string" else Kind.BYTES
    is_text = "string" in (part.kind, part.promote)
    finish = _finisher(part.logical)

    def step(source: _Bytes, at: Array) -> tuple[Vector, Array]:
        raw, at = _varint(source, at)
        _require((raw <= 2 * len(source.data)).all() and not (raw & _ONE).any())  # else beyond the data, or negative
        sizes = (raw >> _ONE).view(np.int64)
        spans = Spans(kind, source.data, at, sizes)
        if is_text:
            _require_text(spans)
        return finish(spans), at + sizes

    return step


def _finisher(logical: Logical | None) -> Callable[[Spans], Vector]:
    match logical:
        case None:
            return lambda spans: spans
        case Logical(name="uuid"):
            return _uuid
        case Logical(name="decimal", scale=scale) if scale <= _MOST_SCALE:
            return partial(_decimal, min(logical.precision, _MOST_DIGITS), scale)
        case _:
            raise UnfitError


def _require_text(spans: Spans) -> None:
    """Raises UnicodeDecodeError for what is not UTF-8."""
    for size, places in spans.groups:
        text = items(spans.data, f"V{size}")[spans.starts[places]].view(np.uint8).reshape(-1, size)
        if text.max() > 127:
            # With a line end after each, so that no character reaches over two of them.
            np.concatenate([text, np.full((len(text), 1), 10, np.uint8)], axis=1).tobytes().decode()


def _uuid(spans: Spans) -> Spans:
    """From the usual text; other spellings are rare enough."""
    _require((spans.sizes == _UUID_TEXT).all())
    text = items(spans.data, f"V{_UUID_TEXT}")[spans.starts].view(np.uint8).reshape(-1, _UUID_TEXT)
    digits = _HEX[text[:, _DIGITS]]
    _require((text[:, _DASHES] == ord("-")).all() and (digits < 16).all())
    octets = digits[:, 0::2] << 4 | digits[:, 1::2]
    starts = np.arange(len(text)) * _UUID_BYTES
    return Spans(Kind.UUID, octets.tobytes(), starts, np.full(len(text), _UUID_BYTES))


def _decimal(digits: int, scale: int, spans: Spans) -> Numbers:
    """From big-endian two's complement of any size, as long as the number has 64 bits."""
    values = np.zeros(len(spans.starts), np.int64)
    for size, places in spans.groups:
        octets = items(spans.data, f"V{size}")[spans.starts[places]].view(np.uint8).reshape(-1, size)
        found = octets[:, max(0, size - _WORD)].astype(np.int8).astype(np.int64)
        _require((octets[:, : max(0, size - _WORD)] == (found < 0).astype(np.uint8)[:, None] * 255).all())
        for at in range(max(0, size - _WORD) + 1, size):
            found = (found << 8) | octets[:, at]
        values[places] = found
    _require((np.abs(values) < 10**digits).all() and (values != np.iinfo(np.int64).min).all())
    return Numbers(Kind.DECIMAL, values, None, scale)


def _fixed(part: Fixed) -> Step:
    is_uuid = part.logical is not None and part.logical.name == "uuid"
    kind = Kind.UUID if is_uuid else Kind.BYTES
    finish = _finisher(None if is_uuid else part.logical)

    def step(source: _Bytes, at: Array) -> tuple[Vector, Array]:
        return finish(Spans(kind, source.data, at, np.full(len(at), part.size))), at + part.size

    return step


def _enum(symbols: Sequence[str]) -> Step:
    known = spans_of(Kind.ENUM, [symbol.encode() for symbol in symbols])

    def step(source: _Bytes, at: Array) -> tuple[Vector, Array]:
        raw, at = _varint(source, at)
        _require(not (raw & _ONE).any())
        index = (raw >> _ONE).view(np.int64)  # beyond the last: IndexError
        return Spans(Kind.ENUM, known.data, known.starts[index], known.sizes[index]), at

    return step


def _nullable(null: int, inner: Step, source: _Bytes, at: Array) -> tuple[Vector, Array]:
    """`null`: the byte that stands before a null; 2 less it before a value."""
    index = source.octets[at]
    present = index == 2 - null
    _require((present | (index == null)).all())
    at = at + 1
    found, at[present] = inner(source, at[present])
    return (found if present.all() else spread(found, present)), at


def _constant(value: Any, count: int) -> Vector:
    """The default of a reader's field, for each record."""
    match value:
        case None:
            nothing = np.zeros(count, np.int64)
            return Spans(Kind.OTHER, b"", nothing, nothing, np.zeros(count, np.bool_))
        case bool():
            return Numbers(Kind.BOOLEAN, np.full(count, value, np.uint8))
        case int():
            return Numbers(Kind.INTEGER, np.full(count, value, np.int64))
        case float():
            return Numbers(Kind.FLOAT, np.full(count, value))
        case str():
            data = value.encode()
            return Spans(Kind.TEXT, data, np.zeros(count, np.int64), np.full(count, len(data)))
        case _:
            raise UnfitError

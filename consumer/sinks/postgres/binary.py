"""Vectors in the form of binary COPY, a column at a time.

A row there is its number of fields, 2 bytes, and for each its length, 4 bytes, -1 for null, and so many bytes:
https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format". What rows have at the same distance from one
another is put there in one piece for all of them: columns of fixed width together, text by its size.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from consumer.sinks.postgres.plan import Plan
from consumer.table import Column, Kind
from consumer.vector import Array, Numbers, Spans, Vector, items

_HEAD = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TAIL = b"\xff\xff"
_LENGTH = np.dtype(">i4")
_COUNT = np.dtype(">i2")
# The server counts from 2000.
_BEGIN = datetime.datetime(2000, 1, 1) - datetime.datetime(1970, 1, 1)
_DAYS, _MICROSECONDS = _BEGIN.days, _BEGIN // datetime.timedelta(microseconds=1)
_FLOAT4 = np.dtype(">f4")
_NUMBERS: dict[int, np.dtype[Any]] = {
    16: np.dtype("u1"),
    20: np.dtype(">i8"),
    21: np.dtype(">i2"),
    23: np.dtype(">i4"),
    700: _FLOAT4,
    701: np.dtype(">f8"),
    1082: np.dtype(">i4"),
    1083: np.dtype(">i8"),
    1114: np.dtype(">i8"),
    1184: np.dtype(">i8"),
}
_NUMERIC = 1700
_DIGITS, _GROUP, _TEN_THOUSAND, _NEGATIVE = 18, 4, np.uint64(10_000), 0x4000
_TOO_LARGE = np.uint64(10**_DIGITS)
_SINCE = {Kind.DATE: _DAYS, Kind.TIMESTAMP: _MICROSECONDS, Kind.TIMESTAMPTZ: _MICROSECONDS}
_TEXTS = {Kind.TEXT, Kind.ENUM}


def encoded(plan: Plan, vectors: Sequence[Vector], numbers: Sequence[int]) -> memoryview | None:
    """All that `plan.copy` takes; `numbers` of the rows, where they are numbered.

    None where a column does not take what its vector holds as it is: the rows show what can be done about that.
    """
    if not all(map(_takes, plan.columns, vectors)):
        return None
    if plan.numbered:
        deletes = np.full(len(numbers), plan.deletes, np.uint8)
        row = np.fromiter(numbers, np.int64, len(numbers))
        vectors = (Numbers(Kind.INTEGER, row), Numbers(Kind.BOOLEAN, deletes), *vectors)
    fields = [_field(oid, vector) for oid, vector in zip(plan.wire, vectors, strict=True)]
    return _rows([field for field in fields if field is not None]) if all(f is not None for f in fields) else None


def _takes(column: Column, vector: Vector) -> bool:
    """Whether the column takes these, but for what is found on the way and what the server says about text."""
    kind = vector.kind
    if vector.present is not None and not column.nullable:
        return False
    if isinstance(vector, Numbers) and kind is Kind.INTEGER:
        return column.kind in (Kind.INTEGER, Kind.DECIMAL) and _within(column, vector)
    return kind is Kind.OTHER or kind is column.kind or (kind in _TEXTS and column.kind in _TEXTS)


def _within(column: Column, vector: Numbers) -> bool:
    values = vector.values if vector.present is None else vector.values[vector.present]
    low, high = column.minimum, column.maximum
    inside = (low is None or values.min(initial=0) >= low) and (high is None or values.max(initial=0) <= high)
    return bool(inside)


@dataclass(frozen=True, slots=True)
class _Varying:
    """A field that is not equally wide in all rows: its bytes, and the length that stands before them."""

    spans: Spans
    lengths: Array


def _field(oid: int, vector: Vector) -> Array | _Varying | None:
    """Numbers as the server wants them, if none is null; None for those that it would round to something else."""
    if isinstance(vector, Spans):
        spans = vector
    else:
        numbers = _decimals(vector) if oid == _NUMERIC else _numbers(_NUMBERS[oid], vector)
        if numbers is None or vector.present is None:
            return numbers
        size = numbers.itemsize
        sizes = np.where(vector.present, size, 0)
        spans = Spans(vector.kind, numbers.tobytes(), np.arange(len(numbers)) * size, sizes)
    lengths = spans.sizes if vector.present is None else np.where(vector.present, spans.sizes, -1)
    return _Varying(spans, lengths)


def _numbers(dtype: np.dtype[Any], vector: Numbers) -> Array | None:
    values = vector.values - _SINCE.get(vector.kind, 0)
    with np.errstate(over="ignore", invalid="ignore"):
        numbers: Array = values.astype(dtype)
    if dtype is _FLOAT4 and ((np.isinf(numbers) != np.isinf(values)) | ((numbers == 0) != (values == 0))).any():
        return None
    return numbers


def _decimals(vector: Numbers) -> Array | None:
    """Digits in groups of four, the point between two groups: numeric_recv in the server's numeric.c drops zeros.

    None for more than 18 digits.
    """
    size = np.abs(vector.values).astype(np.uint64)
    if (size >= _TOO_LARGE).any():
        return None
    before, behind = -(-_DIGITS // _GROUP), -(-vector.scale // _GROUP)
    whole, part = np.divmod(size, np.uint64(10**vector.scale))
    part *= np.uint64(10 ** (behind * _GROUP - vector.scale))
    found = np.zeros(
        len(size), [*((name, _COUNT) for name in ("n", "weight", "sign", "scale")), ("digits", _COUNT, before + behind)]
    )
    found["n"], found["weight"], found["scale"] = before + behind, before - 1, vector.scale
    found["sign"] = np.where(vector.values < 0, _NEGATIVE, 0)
    for at in reversed(range(before + behind)):
        source = whole if at < before else part
        found["digits"][:, at] = source % _TEN_THOUSAND
        source //= _TEN_THOUSAND
    return found


def _rows(fields: Sequence[Array | _Varying]) -> memoryview:
    pieces = list(_pieces(fields))
    widths = sum(piece.sizes if isinstance(piece, Spans) else np.full(len(piece), piece.itemsize) for piece in pieces)
    ends = np.cumsum(widths) + len(_HEAD)
    out = np.empty(int(ends[-1]) + len(_TAIL), np.uint8)
    out[: len(_HEAD)] = np.frombuffer(_HEAD, np.uint8)
    out[-len(_TAIL) :] = np.frombuffer(_TAIL, np.uint8)
    at = ends - widths
    for piece in pieces:
        if isinstance(piece, Spans):
            for size, places in piece.groups:
                items(out, f"V{size}")[at[places]] = items(piece.data, f"V{size}")[piece.starts[places]]
            at = at + piece.sizes
        else:
            items(out, f"V{piece.itemsize}")[at] = piece.view(f"V{piece.itemsize}")
            at = at + piece.itemsize
    return out.data


def _pieces(fields: Sequence[Array | _Varying]) -> Iterator[Array | Spans]:
    """What is put into each row, from left to right: items of one width each, and varying values between them."""
    count = len(fields[0].lengths if isinstance(fields[0], _Varying) else fields[0])
    parts: list[tuple[np.dtype[Any], Any]] = [(_COUNT, len(fields))]
    for field in fields:
        if isinstance(field, _Varying):
            yield _side_by_side(count, [*parts, (_LENGTH, field.lengths)])
            yield field.spans
            parts = []
        else:
            parts += [(_LENGTH, field.itemsize), (field.dtype, field)]
    if parts:
        yield _side_by_side(count, parts)


def _side_by_side(count: int, parts: Sequence[tuple[np.dtype[Any], Any]]) -> Array:
    found = np.empty(count, np.dtype([(f"f{at}", dtype) for at, (dtype, _) in enumerate(parts)]))
    for at, (_, values) in enumerate(parts):
        found[f"f{at}"] = values
    return found

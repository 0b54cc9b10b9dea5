"""Columns as arrays: the values of many records without a Python object each.

What decoders read in this form, and sinks write from it, costs a tenth of what rows cost. It is never needed: whoever
makes vectors can make the rows as well, and whoever cannot use them asks for the rows.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from consumer.table import Kind

Array = NDArray[Any]
_SMALL = 1 << 16
Group = tuple[int, Array | slice]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column of values that are numbers: INTEGER int64; FLOAT float64; BOOLEAN uint8, 0 or 1; DATE int64, days since
    1970; TIME, TIMESTAMP, TIMESTAMPTZ int64, microseconds since midnight or 1970; DECIMAL int64, of at most 18 digits,
    of which `scale` stand behind the point.

    `present`: False where the value is null, whatever stands there; None: no value is null.
    """

    kind: Kind
    values: Array
    present: Array | None = None
    scale: int = 0


@dataclass(frozen=True)
class Spans:
    """A column of values that are bytes: TEXT and ENUM in UTF-8, BYTES, UUID with 16 bytes; OTHER: all are null.

    Each begins at an index in `data` and has a size, both int64. `present` as in Numbers; where null, the size is 0.
    """

    kind: Kind
    data: bytes
    starts: Array
    sizes: Array
    present: Array | None = None

    @cached_property
    def groups(self) -> list[Group]:
        """Which values have the same size: what is done size by size is done for a thousand values at a time."""
        return by_size(self.sizes)


Vector = Numbers | Spans


def by_size(sizes: Array) -> list[Group]:
    """The sizes above 0 that there are, each with the places where it is."""
    if not len(sizes):
        return []
    first = int(sizes[0])
    if (sizes == first).all():
        return [(first, slice(None))] if first else []
    # Small numbers are sorted by their digits, several times as quickly.
    order = np.argsort(sizes.astype(np.uint16) if sizes.max() < _SMALL else sizes, kind="stable")
    cuts = np.flatnonzero(np.diff(sizes[order])) + 1
    found = [(int(sizes[places[0]]), places) for places in np.split(order, cuts)]
    return [(size, places) for size, places in found if size]


def items(data: bytes | bytearray | memoryview | Array, dtype: Any) -> Array:
    """The data as items of this type, one beginning at every byte: `items(data, "<u8")[[3, 5]]` reads two numbers.

    Empty where there is not even one. Writable if the data is.
    """
    kind = np.dtype(dtype)
    count = max(0, len(data) - kind.itemsize + 1)
    return np.ndarray((count,), kind, buffer=data, strides=(1,)) if count else np.empty(0, kind)


def spans_of(kind: Kind, values: Sequence[bytes]) -> Spans:
    """These values, one after the other."""
    sizes = np.fromiter(map(len, values), np.int64, len(values))
    return Spans(kind, b"".join(values), np.cumsum(sizes) - sizes, sizes)


def vector_of(values: Sequence[Any]) -> Vector | None:
    """Python values as a vector; None unless all are of one type, and of one that many columns have."""
    types = set(map(type, values))
    try:
        match types.pop() if len(types) == 1 else None:
            case builtins.int:
                return Numbers(Kind.INTEGER, np.fromiter(values, np.int64, len(values)))
            case builtins.float:
                return Numbers(Kind.FLOAT, np.fromiter(values, np.float64, len(values)))
            case builtins.str:
                return spans_of(Kind.TEXT, list(map(str.encode, values)))
            case _:
                return None
    except (OverflowError, UnicodeEncodeError):
        return None


def spread(vector: Vector, present: Array) -> Vector:
    """The values at the places where `present` is True, and null elsewhere."""
    if isinstance(vector, Numbers):
        return replace(vector, values=_spread(vector.values, present), present=present)
    return Spans(vector.kind, vector.data, _spread(vector.starts, present), _spread(vector.sizes, present), present)


def joined(parts: Sequence[Vector], places: Sequence[Array], count: int) -> Vector | None:
    """One vector of `count` values from parts, whose values go to these places; None if they differ in kind."""
    kind = parts[0].kind
    if any(part.kind is not kind for part in parts) or len(scales := set(map(_scale, parts))) > 1:
        return None
    present = np.ones(count, np.bool_)
    for part, at in zip(parts, places, strict=True):
        if part.present is not None:
            present[at] = part.present
    nulls = None if present.all() else present
    if numbers := [part.values for part in parts if isinstance(part, Numbers)]:
        return Numbers(kind, _placed(numbers, places, count), nulls, scales.pop())
    spans = [part for part in parts if isinstance(part, Spans)]
    begins = accumulate([len(part.data) for part in spans], initial=0)
    starts = _placed([part.starts + begin for part, begin in zip(spans, begins, strict=False)], places, count)
    sizes = _placed([part.sizes for part in spans], places, count)
    return Spans(kind, b"".join([part.data for part in spans]), starts, sizes, nulls)


def _scale(part: Vector) -> int:
    return part.scale if isinstance(part, Numbers) else 0


def _spread(values: Array, present: Array) -> Array:
    found = np.zeros(len(present), values.dtype)
    found[present] = values
    return found


def _placed(parts: Sequence[Array], places: Sequence[Array], count: int) -> Array:
    found = np.empty(count, parts[0].dtype)
    for part, at in zip(parts, places, strict=True):
        found[at] = part
    return found

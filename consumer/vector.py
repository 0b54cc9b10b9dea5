"""Columns as arrays: the values of many records without a Python object each.

What decoders read in this form, and sinks write from it, costs a tenth of what rows cost. It is never needed: whoever
makes vectors can make the rows as well, and whoever cannot use them asks for the rows.
"""

from __future__ import annotations

import builtins
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from functools import cached_property
from itertools import accumulate
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from consumer.table import Kind

Array = NDArray[Any]
_SMALL = 1 << 16
_SHORT = 24  # bytes of text that may take five times as many for a moment
_WORTH = 100  # so many texts of one length take numpy no longer than one by one
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
# Of its own: a transform may have changed the one of the thread.
_DECIMALS = Context(prec=18, Emax=MAX_EMAX, Emin=MIN_EMIN)
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


def values_of(vector: Vector) -> list[Any]:
    """The values of the Python types that Kind names (timestamptz: in UTC); None where they are null."""
    if vector.present is None:
        return _all_values(vector)
    places = np.flatnonzero(vector.present)
    values: list[Any] = [None] * len(vector.present)
    for place, value in zip(places.tolist(), _all_values(_at(vector, places)), strict=True):
        values[place] = value
    return values


def rows_of(vectors: Sequence[Vector]) -> list[tuple[Any, ...]]:
    """The same of several columns, of which there is one at least, row by row."""
    return list(zip(*map(values_of, vectors), strict=True))


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


def _at(vector: Vector, places: Array) -> Vector:
    if isinstance(vector, Numbers):
        return replace(vector, values=vector.values[places], present=None)
    return Spans(vector.kind, vector.data, vector.starts[places], vector.sizes[places])


def _all_values(vector: Vector) -> list[Any]:
    if isinstance(vector, Numbers):
        make = _OF_NUMBERS.get(vector.kind)
        found: list[Any] = make(vector) if make else vector.values.tolist()
        return found
    match vector.kind:
        case Kind.TEXT | Kind.ENUM:
            return _texts(vector)
        case Kind.UUID:
            return [UUID(bytes=part) for part in _parts(vector.data, vector.starts, vector.sizes)]
        case _:
            return _parts(vector.data, vector.starts, vector.sizes)


def _parts(data: bytes, starts: Array, sizes: Array | int) -> list[bytes]:
    ends = starts + sizes
    return [data[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]


def _texts(vector: Spans) -> list[str]:
    """Short text of few lengths by numpy, in a quarter of the time, but for what it does not keep: NUL at the end."""
    groups = vector.groups
    if len(groups) * _WORTH > len(vector.starts) or any(size > _SHORT for size, _ in groups):
        return list(map(bytes.decode, _parts(vector.data, vector.starts, vector.sizes)))
    found = np.full(len(vector.starts), "", np.object_)
    for size, places in groups:
        starts = vector.starts[places]
        octets = items(vector.data, f"V{size}")[starts].view(np.uint8).reshape(-1, size)
        if octets.max() < 128 and octets[:, -1].all():
            found[places] = octets.astype(np.uint32).view(f"U{size}").ravel().tolist()
        else:
            found[places] = list(map(bytes.decode, _parts(vector.data, starts, size)))
    texts: list[str] = found.tolist()
    return texts


def _decimals(vector: Numbers) -> list[Decimal]:
    return [Decimal(number).scaleb(-vector.scale, _DECIMALS) for number in vector.values.tolist()]


# numpy makes what `datetime` has, which knows no time alone and no zone, in a tenth of the time.
_OF_NUMBERS: dict[Kind, Callable[[Numbers], list[Any]]] = {
    Kind.BOOLEAN: lambda vector: vector.values.astype(np.bool_).tolist(),
    Kind.DATE: lambda vector: vector.values.astype("M8[D]").tolist(),
    Kind.TIME: lambda vector: list(map(datetime.datetime.time, vector.values.astype("M8[us]").tolist())),
    Kind.TIMESTAMP: lambda vector: vector.values.astype("M8[us]").tolist(),
    Kind.TIMESTAMPTZ: lambda vector: list(map(_EPOCH.__add__, vector.values.astype("m8[us]").tolist())),
    Kind.DECIMAL: _decimals,
}


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

"""Payloads into values: the Decoder protocol. A decoder works on whole batches and knows nothing of offsets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from consumer.table import Column, Row

if TYPE_CHECKING:
    from consumer.vector import Vector


@dataclass(frozen=True, slots=True)
class Fields:
    """Some fields of records, a tuple a record in the order of `names`.

    A name that no record has may be left out of `names`. `sparse`: msgspec.UNSET stands where a record lacks a field;
    False: every record has every field in `names`. `known`: for each name, what all its values are sure to be; None, or
    nothing at all, where that is not known. `vectors`: the same by field; `rows` are then made when asked for.
    """

    names: tuple[str, ...]
    rows: Sequence[Row]
    sparse: bool = False
    known: tuple[Column | None, ...] = ()
    vectors: tuple[Vector, ...] = ()


class Decoder(Protocol):
    """Turns payloads (never None) into values. Bulk first: one bad payload raises for all, and the caller finds it.

    Both calls raise DecodeError when the bytes are not what the format says; its reason never holds the bytes.
    FatalError when the set-up is plainly wrong for every record (framed values where a plain schema was configured).
    """

    def decode(self, payloads: Sequence[bytes]) -> list[Any]:
        """One plain Python value a payload, in order: a dict for a record of named fields."""

    def rows(self, payloads: Sequence[bytes], fields: tuple[str, ...]) -> Fields:
        """Only these top-level fields, without a dict a record where there is a way round it.

        None are named where the format has no fields. Raises DecodeError for a payload that is no record of them.
        """

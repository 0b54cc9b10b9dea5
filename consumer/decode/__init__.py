"""Payloads into values: the Decoder protocol. A decoder works on whole batches and knows nothing of offsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Decoder(Protocol):
    """Turns payloads (never None) into values. Bulk first: one bad payload raises for all, and the caller finds it.

    Raises DecodeError when the bytes are not what the format says; its reason never holds the bytes. FatalError when
    the set-up is plainly wrong for every record (framed values where a plain schema was configured).
    """

    def decode(self, payloads: Sequence[bytes]) -> list[Any]:
        """One value a payload, in order: a dict for records of named fields."""

    def rows(self, payloads: Sequence[bytes], fields: tuple[str, ...]) -> list[tuple[Any, ...]] | None:
        """The same as tuples of exactly these top-level fields: the fast way round the dicts.

        None when this decoder has no such way, or when any record lacks one of them or has a field of the table that
        is not among them: `decode` then tells what there is. Raises DecodeError as `decode` does, or answers None.
        """

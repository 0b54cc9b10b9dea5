"""Payloads that are one value without fields: bytes as they are, and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

from consumer.decode import Fields
from consumer.errors import DecodeError


class RawDecoder:
    """The value is the payload itself."""

    def decode(self, payloads: Sequence[bytes]) -> list[Any]:
        """The same bytes objects, in a list."""
        return list(payloads)

    def rows(self, payloads: Sequence[bytes], fields: tuple[str, ...]) -> Fields:
        """Raises DecodeError always: bytes have no fields."""
        _refuse("raw bytes")


class TextDecoder:
    """The value is the payload as UTF-8 text."""

    def decode(self, payloads: Sequence[bytes]) -> list[Any]:
        """Strings; raises DecodeError when one of the payloads is not UTF-8."""
        try:
            return [str(payload, "utf-8") for payload in payloads]
        except UnicodeDecodeError:
            raise DecodeError("text that is not UTF-8") from None

    def rows(self, payloads: Sequence[bytes], fields: tuple[str, ...]) -> Fields:
        """Raises DecodeError always: text has no fields."""
        _refuse("text")


def _refuse(what: str) -> NoReturn:
    raise DecodeError(f"{what} without fields, where the mapping wants a record of named fields")

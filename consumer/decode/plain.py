"""Payloads that are one value without fields: bytes as they are, and text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from consumer.decode import Fields
from consumer.errors import DecodeError


class RawDecoder:
    """The value is the payload itself."""

    def decode(self, payloads: Sequence[bytes]) -> list[Any]:
        """The same bytes objects, in a list."""
        return list(payloads)

    def rows(self, payloads: Sequence[bytes], fields: tuple[str, ...]) -> Fields:
        """None of the fields: bytes have none."""
        return Fields((), [()] * len(payloads))


class TextDecoder:
    """The value is the payload as UTF-8 text."""

    def decode(self, payloads: Sequence[bytes]) -> list[Any]:
        """Strings; raises DecodeError when one of the payloads is not UTF-8."""
        try:
            return [str(payload, "utf-8") for payload in payloads]
        except UnicodeDecodeError:
            raise DecodeError("text that is not UTF-8") from None

    def rows(self, payloads: Sequence[bytes], fields: tuple[str, ...]) -> Fields:
        """None of the fields: text has none."""
        return Fields((), [()] * len(payloads))

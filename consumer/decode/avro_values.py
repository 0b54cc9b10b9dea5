"""What generated Avro readers call: the rarer steps of reading bytes, and values of logical types.

Positions are indexes into a payload. Everything here raises DecodeError for bytes that no writer produces.
"""

from __future__ import annotations

import datetime
import uuid
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import NoReturn

from consumer.decode.avro_types import Logical
from consumer.errors import DecodeError

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
LOCAL_EPOCH = datetime.datetime(1970, 1, 1)
FIRST_DAY = datetime.date(1970, 1, 1).toordinal()
MILLISECOND = datetime.timedelta(milliseconds=1)
MICROSECOND = datetime.timedelta(microseconds=1)
_DAY = datetime.timedelta(days=1)


def refuse(reason: str) -> NoReturn:
    """Raises DecodeError."""
    raise DecodeError(reason)


def truncated() -> NoReturn:
    """Raises DecodeError: the payload ends too early."""
    raise DecodeError("truncated: the payload ends before its value is complete")


def ended_wrong(at: int, size: int) -> NoReturn:
    """Raises DecodeError: the value ended at `at`, the payload at `size`."""
    if at > size:
        truncated()
    raise DecodeError(f"{size - at} bytes follow after the value: written with another schema?")


def number(data: bytes, at: int, first: int) -> tuple[int, int]:
    """The rest of a variable-length number (not yet zig-zag decoded) whose first byte is read, and where it ends."""
    raw, shift = first & 127, 7
    while shift < 70:
        byte = data[at]
        at += 1
        if byte < 128:
            raw |= byte << shift
            if raw >> 64:
                break
            return raw, at
        raw |= (byte & 127) << shift
        shift += 7
    raise DecodeError("a number of more than 64 bits")


def length(data: bytes, at: int, first: int) -> tuple[int, int]:
    """As `number`, for the length of something that must lie within the payload."""
    raw, at = number(data, at, first)
    if raw & 1:
        negative()
    if at + (raw >> 1) > len(data):
        truncated()
    return raw, at


def negative() -> NoReturn:
    """Raises DecodeError: a length below zero."""
    raise DecodeError("a negative length")


def block(data: bytes, at: int) -> tuple[int, int]:
    """How many items the block of an array or map has (0: there are no more), and where they start."""
    raw, at = number(data, at + 1, first) if (first := data[at]) > 127 else (first, at + 1)
    if not raw & 1:
        return raw >> 1, at
    # A negative count is followed by the size of the block in bytes, which only who skips it needs.
    first = data[at]
    at += 1
    if first > 127:
        _, at = number(data, at, first)
    return (raw >> 1) + 1, at


def time_of(ticks: int, tick: datetime.timedelta) -> datetime.time:
    """The time of day after so many ticks."""
    since = tick * ticks
    if ticks < 0 or since >= _DAY:
        raise DecodeError("a time of day outside 24 hours")
    return (LOCAL_EPOCH + since).time()


def uuid_of(text: str) -> uuid.UUID:
    """A UUID from its text."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise DecodeError("text that is no UUID") from None


class DecimalReader:
    """Makes decimals of one precision and scale from their unscaled bytes, exactly."""

    def __init__(self, logical: Logical) -> None:
        self._limit = 10**logical.precision
        self._shift = -logical.scale
        self._context = Context(prec=logical.precision, Emax=MAX_EMAX, Emin=MIN_EMIN)

    def __call__(self, data: bytes) -> Decimal:
        """The number of these bytes, big-endian. Raises DecodeError beyond the precision."""
        unscaled = int.from_bytes(data, "big", signed=True)
        if not -self._limit < unscaled < self._limit:
            raise DecodeError("a decimal of more digits than its precision")
        return Decimal(unscaled).scaleb(self._shift, self._context)

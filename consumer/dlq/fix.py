"""The user's own function that mends a dead letter's value before it is replayed."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from consumer.config import JsonFormat, Settings
from consumer.decode import Decoder
from consumer.decode.opening import open_decoder
from consumer.dlq.stored import StoredMessage
from consumer.errors import ConfigError, DecodeError, FatalError, MappingError, RecordError
from consumer.letter import DeadLetter
from consumer.mapping.opening import load_transform
from consumer.mapping.sources import headers_of, moments
from consumer.record import Record

Fix = Callable[[Record], Any]


class Fixer:
    """Calls `fix` with the record: its value decoded, or as bytes where that cannot be done.

    What it gives is the value from then on: bytes, or (`as_json`) a dict. None leaves the value as it is.
    """

    def __init__(self, fix: Fix, value: Decoder, key: Decoder, *, as_json: bool) -> None:
        self._fix, self._value, self._key, self._as_json = fix, value, key, as_json

    def fixed(self, letter: DeadLetter) -> DeadLetter:
        """The same with its value mended. Raises RecordError, also for whatever the function raises."""
        try:
            found = self._fix(self._record(letter))
        except RecordError:
            raise
        except Exception as error:  # noqa: BLE001 - the user's code: whatever it raises, it raises about this record
            line = traceback.extract_tb(error.__traceback__)[-1].lineno
            raise MappingError(f"the fix function raised {type(error).__name__} in line {line}") from None
        return letter if found is None else replace(letter, value=self._bytes(found))

    def _record(self, letter: DeadLetter) -> Record:
        message = StoredMessage(letter)
        value, key = opened(self._value, letter.value), opened(self._key, letter.key)
        headers = headers_of(message)
        (when,) = moments([letter.timestamp])
        return Record(*letter.coordinates, when, key, value, headers, {})

    def _bytes(self, found: Any) -> bytes:
        if isinstance(found, bytes):
            return found
        if not (self._as_json and isinstance(found, dict)):
            other = ", or a dict" if self._as_json else ""
            raise MappingError(f"the fix function gave a {type(found).__name__}; it must give bytes{other}, or None")
        try:
            return json.dumps(found, ensure_ascii=False, allow_nan=False).encode()
        except (TypeError, ValueError, RecursionError):
            raise MappingError("the fix function gave a dict that JSON cannot hold") from None


def open_fixer(settings: Settings, path: str) -> Fixer:
    """The function `module:function`. Raises ConfigError when it cannot be had."""
    try:
        fix = load_transform(path)
    except ConfigError as error:
        raise ConfigError("--fix", path, error.reason) from None
    value = open_decoder(settings.format, "format")({})
    key = open_decoder(settings.key_format, "key_format")({})
    return Fixer(fix, value, key, as_json=isinstance(settings.format, JsonFormat))


def opened(decoder: Decoder, payload: bytes | None) -> Any:
    """The payload decoded; as it is where that cannot be done."""
    if payload is None:
        return None
    try:
        return decoder.decode([payload])[0]
    except (DecodeError, FatalError):
        return payload

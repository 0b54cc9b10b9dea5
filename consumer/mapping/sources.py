"""Where the values of a column come from, other than a field of its name: paths, metadata, constants."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from consumer.decode import Decoder
from consumer.errors import ConfigError, DecodeError, MappingError
from consumer.record import Headers, Message
from consumer.table import Column, Kind
from consumer.vector import Numbers, values_of

_TEXTUAL = {Kind.TEXT, Kind.ENUM}
_skim = msgspec.json.Decoder(msgspec.Raw).decode
_EPOCH = datetime.datetime(1970, 1, 1)
_MILLISECOND = datetime.timedelta(milliseconds=1)
_FIRST, _LAST = ((moment - _EPOCH) // _MILLISECOND for moment in (datetime.datetime.min, datetime.datetime.max))
_TIMESTAMP = np.dtype([("kind", np.int64), ("milliseconds", np.int64)])


class Inputs:
    """The records of one call, and what is decoded of them, when it is asked for. None stands for null."""

    def __init__(self, messages: Sequence[Message], value: Decoder, key: Decoder) -> None:
        self.messages, self._value, self._key = messages, value, key
        self.kind = type(messages[0])  # unbound methods of its class: a third of the time of a call by name
        self.payloads: list[Any] = list(map(self.kind.value, messages))

    @cached_property
    def values(self) -> list[Any]:
        """Decoded values. Raises DecodeError for all."""
        return decoded(self._value, self.payloads)

    @cached_property
    def keys(self) -> list[Any]:
        """Decoded keys. Raises DecodeError for all."""
        return decoded(self._key, list(map(self.kind.key, self.messages)))


Source = Callable[[Inputs], Sequence[Any]]


def decoded(decoder: Decoder, payloads: Sequence[bytes | None]) -> list[Any]:
    """What the decoder makes of them; None stays None."""
    present = [payload for payload in payloads if payload is not None]
    values = decoder.decode(present) if present else []
    if len(present) == len(payloads):
        return values
    rest = iter(values)
    return [None if payload is None else next(rest) for payload in payloads]


def source(text: str, column: Column) -> Source:
    """How the configuration's `text` (`$offset`, `$key.id`, `a.b`) becomes values of this column.

    UNSET stands where a record does not have it. Raises ConfigError for a `$` name that there is not.
    """
    name, _, path = text.partition(".")
    if name == "$headers":
        found = _header(path) if path else _all_headers
    elif name in _METADATA and not path:
        found = _METADATA[name]
    elif name == "$timestamp" and not path:
        found = _milliseconds if column.kind is Kind.INTEGER else _moments
    elif name in ("$key", "$value"):
        found = _decoded(name, path)
    elif text.startswith("$"):
        raise ConfigError(f"columns.{column.name}", text, "is no source; there are $topic, $partition, $offset, ...")
    else:
        found = _decoded("$value", text)
    return lambda inputs: _fitting(found(inputs), text, column)


def constant(value: Any) -> Source:
    """The same for every record."""
    return lambda inputs: [value] * len(inputs.messages)


def reach(value: Any, path: str) -> Any:
    """What stands at `a.b` in a value; a field that is called `a.b` goes first. UNSET: there is nothing."""
    if not isinstance(value, dict):
        return UNSET
    if path in value:
        return value[path]
    name, dot, rest = path.partition(".")
    return reach(value[name], rest) if dot and name in value else UNSET


def headers_of(message: Message) -> Headers:
    """Raises MappingError where the client cannot read them: it needs names in UTF-8."""
    try:
        return message.headers() or []
    except SystemError:
        raise MappingError("a header's name is not UTF-8") from None


def moments(timestamps: Iterable[tuple[int, int]]) -> list[datetime.datetime | None]:
    """Kafka timestamps as aware UTC; None where there is none. Raises MappingError outside the years 1 to 9999."""
    found = np.fromiter(timestamps, _TIMESTAMP)
    present = found["kind"] != 0
    milliseconds = np.where(present, found["milliseconds"], 0)
    if (milliseconds < _FIRST).any() or (milliseconds > _LAST).any():
        raise MappingError("the record's timestamp is outside the years 1 to 9999")
    return values_of(Numbers(Kind.TIMESTAMPTZ, milliseconds * 1000, None if present.all() else present))


def _moments(inputs: Inputs) -> Sequence[Any]:
    return moments(map(inputs.kind.timestamp, inputs.messages))


def _milliseconds(inputs: Inputs) -> Sequence[Any]:
    return [milliseconds if kind else None for kind, milliseconds in map(inputs.kind.timestamp, inputs.messages)]


def _all_headers(inputs: Inputs) -> Sequence[Any]:
    return [
        [[name, None if value is None else _text(value, "$headers")] for name, value in headers_of(message)]
        for message in inputs.messages
    ]


def _header(name: str) -> Source:
    def find(inputs: Inputs) -> Sequence[Any]:
        return [dict(headers_of(message)).get(name, UNSET) for message in inputs.messages]

    return find


def _decoded(name: str, path: str) -> Source:
    def find(inputs: Inputs) -> Sequence[Any]:
        values = inputs.keys if name == "$key" else inputs.values
        return [reach(value, path) for value in values] if path else values

    return find


def _fitting(values: Sequence[Any], text: str, column: Column) -> Sequence[Any]:
    """Bytes as text or JSON where the column holds that."""
    if bytes not in set(map(type, values)) or column.kind not in {*_TEXTUAL, Kind.JSON}:
        return values
    make: Callable[[bytes, str], Any] = _json if column.kind is Kind.JSON else _text
    return [make(value, text) if isinstance(value, bytes) else value for value in values]


def _json(value: bytes, where: str) -> msgspec.Raw:
    _text(value, where)  # text in Raw is not looked into
    try:
        return _skim(value)
    except (msgspec.DecodeError, RecursionError):
        raise DecodeError(f"{where} is not JSON") from None


def _text(value: bytes, where: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise DecodeError(f"{where} is not UTF-8") from None


_METADATA: dict[str, Source] = {
    "$topic": lambda inputs: list(map(inputs.kind.topic, inputs.messages)),
    "$partition": lambda inputs: list(map(inputs.kind.partition, inputs.messages)),
    "$offset": lambda inputs: list(map(inputs.kind.offset, inputs.messages)),
}

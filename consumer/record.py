"""A record as a transform sees it, the rows that it makes, and what this package needs of a Kafka message."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

Headers = list[tuple[str, bytes | None]]


class Message(Protocol):
    """What this package needs of a Kafka record as read; `confluent_kafka.Message` is one."""

    def topic(self) -> str:
        """Where it was read."""

    def partition(self) -> int:
        """Of the topic."""

    def offset(self) -> int:
        """Its own: one less than the next offset after it."""

    def key(self) -> bytes | None:
        """As Kafka holds it; None where that is null."""

    def value(self) -> bytes | None:
        """As Kafka holds it; None where that is null: a tombstone."""

    def headers(self) -> Headers | None:
        """In their order; None where there are none. Raises SystemError where a name is not UTF-8."""

    def timestamp(self) -> tuple[int, int]:
        """Kind (0: none) and milliseconds since 1970."""

    def __len__(self) -> int:
        """Bytes of the value."""


class Record(NamedTuple):
    """One Kafka entry, decoded: what a transform is given.

    `value` and `key` are decoded as the format and the key format say (None where Kafka holds null), `timestamp` is
    aware UTC or None. `context` is a dict for the transform's own use: one for each partition, made at assignment,
    dropped when the partition leaves; a cache, never a place for what must survive.
    """

    topic: str
    partition: int
    offset: int
    timestamp: datetime.datetime | None
    key: Any
    value: Any
    headers: Headers
    context: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Row:
    """A row that a transform makes for a table that it names; `delete`: the table's row of that key is to go.

    A plain dict does for a row of the only table.
    """

    table: str
    values: Mapping[str, Any]
    delete: bool = False

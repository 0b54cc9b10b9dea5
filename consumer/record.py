"""A record as a transform sees it, and what this package needs of a Kafka message."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Any, Protocol

Headers = list[tuple[str, bytes | None]]


class Message(Protocol):
    """What this package needs of a Kafka record as read; `confluent_kafka.Message` is one."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> Headers | None: ...
    def timestamp(self) -> tuple[int, int]:
        """Kind (0: none) and milliseconds since 1970."""

    def __len__(self) -> int:
        """Bytes of the value."""


@dataclass(frozen=True, slots=True)
class Record:
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
    context: dict[str, Any] = field(default_factory=dict, compare=False)

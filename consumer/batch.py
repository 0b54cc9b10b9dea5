"""The batch: the unit of writing and committing, bounded by records, bytes and time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from consumer.errors import TopicPartition


class Message(Protocol):
    """What this package needs of a Kafka record; `confluent_kafka.Message` is one."""

    def topic(self) -> str | None: ...
    def partition(self) -> int | None: ...
    def offset(self) -> int | None: ...
    def value(self) -> Any: ...


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When a batch is closed: by whichever bound is reached first."""

    max_records: int = 5000
    max_bytes: int = 8 * 1024 * 1024
    max_wait_ms: int = 500


@dataclass(slots=True)
class Batch:
    """Records in the order in which they were read. `next_offsets` are the offsets after the last of each partition."""

    messages: list[Message] = field(default_factory=list)
    next_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    size: int = 0
    opened_at: float = 0.0
    attempts: int = 0

    def add(self, messages: list[Message], now: float) -> None:
        """Append what one poll returned; `now` is monotonic, in seconds."""
        if messages and not self.messages:
            self.opened_at = now
        self.messages += messages
        for message in messages:
            self.next_offsets[coordinates(message)] = offset_of(message) + 1
            self.size += len(message.value() or b"")

    def trigger(self, policy: BatchPolicy, now: float) -> str | None:
        """Why the batch is to be closed now, or None."""
        if not self.messages:
            return None
        if len(self.messages) >= policy.max_records:
            return "records"
        if self.size >= policy.max_bytes:
            return "bytes"
        if (now - self.opened_at) * 1000 >= policy.max_wait_ms:
            return "wait"
        return None

    def without(self, partitions: frozenset[TopicPartition]) -> Batch:
        """The same batch without the records of `partitions`."""
        kept = Batch(opened_at=self.opened_at, attempts=self.attempts)
        kept.add([m for m in self.messages if coordinates(m) not in partitions], self.opened_at)
        return kept


def coordinates(message: Message) -> TopicPartition:
    """Topic and partition of a record as read."""
    topic, partition = message.topic(), message.partition()
    if topic is None or partition is None:
        raise ValueError("a record as read has a topic and a partition")
    return topic, partition


def offset_of(message: Message) -> int:
    """The offset of a record as read."""
    offset = message.offset()
    if offset is None:
        raise ValueError("a record as read has an offset")
    return offset

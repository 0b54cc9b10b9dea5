"""Records between given offsets, for commands: by a consumer of the moment that joins no group."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from consumer.errors import TopicPartition as Coordinates
from consumer.errors import UnavailableError
from consumer.record import Message
from consumer.source import effective

_LOGGER = logging.getLogger("kafka")
_WAIT_SECONDS, _SILENCE_SECONDS = 0.2, 30.0


class Excerpt:
    """The records of each partition from its offset in `starts` up to, and without, the one in `ends`.

    `positions`: the next offset of each, as far as it was read. Nobody else's partitions move, and nothing is stored
    but by `remember`, as the offsets of `group`.
    """

    def __init__(
        self,
        properties: Mapping[str, Any],
        group: str,
        starts: Mapping[Coordinates, int],
        ends: Mapping[Coordinates, int],
    ) -> None:
        self.positions, self._ends = dict(starts), ends
        # Without group.instance.id and the group's protocol: this is no member.
        plain = {name: value for name, value in properties.items() if not name.startswith("group.")}
        mine = {"group.id": group, "enable.partition.eof": True}
        self._consumer = Consumer(effective(plain) | mine, logger=_LOGGER)
        self._left: set[Coordinates] = set()

    def batches(self, size: int) -> Iterator[list[Message]]:
        """At most `size` records at a time, in the order of each partition. Raises UnavailableError."""
        self._left = {key for key, end in self._ends.items() if self.positions[key] < end}
        self._consumer.assign([TopicPartition(*key, self.positions[key]) for key in sorted(self._left)])
        heard = time.monotonic()
        while self._left:
            answers: list[Any] = self._consumer.consume(size, _WAIT_SECONDS)
            if answers:
                heard = time.monotonic()
            if batch := [message for message in answers if self._wanted(message)]:
                yield batch
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE_SECONDS:
                raise UnavailableError("Kafka does not answer")
            self._left = {key for key in self._left if self.positions[key] < self._ends[key]}

    def leave(self, partitions: Collection[Coordinates]) -> None:
        """Read no more of these."""
        self._left -= set(partitions)
        self._consumer.pause([TopicPartition(*key) for key in partitions])

    def remember(self) -> None:
        """Store how far all of it was read. Raises UnavailableError."""
        offsets = [TopicPartition(*key, offset) for key, offset in sorted(self.positions.items())]
        try:
            for done in (self._consumer.commit(offsets=offsets, asynchronous=False) or ()) if offsets else ():
                if done.error is not None:
                    raise KafkaException(done.error)
        except KafkaException as error:
            raise UnavailableError(f"Kafka: how far it is done cannot be stored: {error.args[0].str()}") from None

    def close(self) -> None:
        """Release the connections."""
        self._consumer.close()

    def _wanted(self, message: Any) -> bool:
        """Whether it is a record between the offsets; notes how far its partition is."""
        key = (message.topic(), message.partition())
        if (error := message.error()) is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise UnavailableError(f"Kafka: {error.str()}")
            self._left.discard(key)
            return False
        if key not in self._left or message.offset() >= self._ends[key]:
            return False
        self.positions[key] = message.offset() + 1
        return True

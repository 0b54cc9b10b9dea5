"""The only module that consumes with confluent_kafka. Every call is made by one thread, the owner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from consumer.errors import FatalError, UnavailableError
from consumer.errors import TopicPartition as Coordinates

Partitions = frozenset[Coordinates]
_TIMEOUT = 5.0


class KafkaSource:
    """A member of a consumer group. Assigned partitions start paused; `start_at` makes them flow."""

    def __init__(
        self,
        properties: dict[str, Any],
        topics: list[str],
        on_assigned: Callable[[Partitions], None],
        on_revoked: Callable[[Partitions], None],
    ) -> None:
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._failure: BaseException | None = None
        defaults = {"partition.assignment.strategy": "cooperative-sticky", "fetch.queue.backoff.ms": 50}
        fixed = {"enable.auto.commit": False, "enable.auto.offset.store": False, "auto.offset.reset": "error"}
        self._consumer = Consumer(defaults | properties | fixed)
        self._consumer.subscribe(topics, on_assign=self._assign, on_revoke=self._revoke, on_lost=self._revoke)

    def poll(self, records: int, timeout: float) -> list[Any]:
        """At most `records` records, after at most `timeout` seconds; rebalance callbacks run in here.

        Raises FatalError when the client says that it cannot go on, or when a callback failed: the position is
        unknown then (an exception inside `consume` drops what was fetched), so nothing more may be committed.
        """
        messages = self._consumer.consume(records, timeout)
        if self._failure:
            raise self._failure
        errors = [error for message in messages if (error := message.error()) is not None]
        for error in errors:
            self._judge(error)
        return [message for message in messages if message.error() is None] if errors else messages

    def starts(self, partitions: Partitions) -> dict[Coordinates, int]:
        """Where Kafka would start each: the group's committed offset, else the first that is held.

        Raises UnavailableError when the broker does not answer in time.
        """
        try:
            asked = [TopicPartition(*key) for key in sorted(partitions)]
            found = {}
            for item in self._consumer.committed(asked, timeout=_TIMEOUT):
                low, _ = self._consumer.get_watermark_offsets(TopicPartition(item.topic, item.partition), _TIMEOUT)
                found[item.topic, item.partition] = item.offset if item.offset >= 0 else low
        except KafkaException as error:
            raise UnavailableError(f"Kafka did not tell where to start: {error.args[0].str()}") from error
        return found

    def start_at(self, offsets: dict[Coordinates, int]) -> None:
        """Read these partitions from these offsets on."""
        for (topic, partition), offset in offsets.items():
            self._consumer.seek(TopicPartition(topic, partition, offset))
        self._consumer.resume([TopicPartition(*key) for key in offsets])

    def pause(self, partitions: Partitions) -> None:
        """Stop fetching these; polling goes on."""
        self._consumer.pause([TopicPartition(*key) for key in partitions])

    def commit(self, offsets: dict[Coordinates, int]) -> None:
        """Tell Kafka, for lag tools only: the sink's own offsets decide."""
        self._consumer.commit(offsets=[TopicPartition(*key, offset) for key, offset in offsets.items()])

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def _assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            cooperative = [TopicPartition(p.topic, p.partition, OFFSET_BEGINNING) for p in partitions]
            consumer.incremental_assign(cooperative)
            consumer.pause(cooperative)
            self._on_assigned(frozenset((p.topic, p.partition) for p in partitions))
        except BaseException as error:  # noqa: BLE001 - raised again by poll: out of a callback it would drop records
            self._failure = error

    def _revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        try:
            self._on_revoked(frozenset((p.topic, p.partition) for p in partitions))
            consumer.incremental_unassign(partitions)
        except BaseException as error:  # noqa: BLE001 - raised again by poll: out of a callback it would drop records
            self._failure = error

    def _judge(self, error: KafkaError) -> None:
        if error.code() == KafkaError._PARTITION_EOF:
            return
        if error.fatal() or error.code() in {KafkaError._AUTO_OFFSET_RESET, KafkaError._FATAL}:
            hint = "Kafka no longer holds the next record, or the client cannot go on; look at the topic's retention."
            raise FatalError(f"Kafka: {error.str()}", hint)

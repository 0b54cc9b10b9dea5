"""The only module that consumes with confluent_kafka. Every call is made by one thread, the owner.

Nothing that runs inside a callback raises: an exception out of `consume()` drops records that were fetched already
while the position has moved on (confluent-kafka-python, all versions up to 2.16.1, measured).
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as KafkaMessage

from consumer.config.complaints import shown
from consumer.config.properties import is_classic
from consumer.errors import ConfigError, FatalError, UnavailableError
from consumer.errors import TopicPartition as Coordinates
from consumer.record import Message

# consume() keeps the interpreter's lock while it makes its records, and the writer waits for it several times a batch.
_AT_ONCE = 500
_LARGE_BYTES = 4 * 1024 * 1024  # of those: larger than they were when it was reckoned how many to ask for
_CLOSE_SECONDS = 10.0
_WAKE_SECONDS = _ASK_SECONDS = 0.1
DEFAULTS = {
    "partition.assignment.strategy": "cooperative-sticky",
    # The default of 1 s stops fetching a partition whose queue is full for that long: 113 k records/s against 951 k.
    "fetch.queue.backoff.ms": 50,
    # Memory: records in hand keep the whole answer of the broker alive that they came in, 1 MiB for each partition by
    # default. With these two, 16 partitions of 1 kB records take 144 MB instead of 230, at the same rate (measured;
    # with 16 MiB 151 MB, with 8 MiB 138 MB and 0.93 of the rate).
    "queued.max.messages.kbytes": 12288,
    "fetch.message.max.bytes": 262144,
    # Without it a corrupt batch stalls its partition without a word (librdkafka #5581).
    "check.crcs": True,
}
FIXED = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    # A position that Kafka does not hold is ours to judge: any other value skips or repeats records silently.
    "auto.offset.reset": "error",
}
# Settings of the group that KIP-848 moved to the broker: the client refuses them with `group.protocol: consumer`.
_CLASSIC_ONLY = {"partition.assignment.strategy", "session.timeout.ms", "heartbeat.interval.ms"}
_IGNORED = {KafkaError._PARTITION_EOF, KafkaError._MAX_POLL_EXCEEDED}
_FORBIDDEN = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError._AUTHENTICATION,
    KafkaError.SASL_AUTHENTICATION_FAILED,
}
_TWIN = {KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID}
_TWIN_HINT = (
    "Give each instance a group.instance.id of its own; that of one that was killed is free again when its session has "
    "timed out."
)
_IMPOSSIBLE = {
    KafkaError._FATAL,
    KafkaError.INVALID_SESSION_TIMEOUT,
    KafkaError.INCONSISTENT_GROUP_PROTOCOL,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError.UNSUPPORTED_VERSION,
}


class Listener(Protocol):
    """Who is told of the partitions that come and go, from inside `poll` and `close`; must not raise nor block long."""

    def assigned(self, partitions: frozenset[Coordinates]) -> None:
        """These have come, and do not flow yet: `Source.start` makes them."""

    def revoked(self, partitions: frozenset[Coordinates]) -> None:
        """These will go when this returns: the last chance to finish what is being written of them."""

    def lost(self, partitions: frozenset[Coordinates]) -> None:
        """These have gone already, to somebody else perhaps."""

    def out_of_range(self, partition: Coordinates) -> None:
        """Kafka does not hold the next record of this partition."""

    def ended(self, partition: Coordinates, next_offset: int) -> None:
        """Every record before `next_offset`, for now its end, is delivered; only of a source that was asked for it."""

    def commit_failed(self, reason: str) -> None:
        """Offsets were not committed to Kafka; the next commit carries newer ones."""

    def trouble(self, reason: str) -> None:
        """The client reports an error that it goes on to mend by itself."""

    def away(self, reason: str) -> None:
        """No broker can be reached; the client goes on trying, and does not tell when one can."""


class Source(Protocol):
    """A member of a consumer group: what the pipeline needs of Kafka. One thread makes all calls."""

    def open(self, listener: Listener) -> None:
        """Join the group."""

    def poll(self, records: int, timeout: float) -> list[Message]:
        """At most `records` records, after at most `timeout` seconds; the listener is called in here.

        Raises FatalError when the client cannot go on: the position is unknown then, nothing more may be committed.
        """

    def start(self, positions: Mapping[Coordinates, int]) -> None:
        """Let these partitions flow from these next offsets. Raises UnavailableError: then claim them again.

        A client may go back to the beginning half a second later: librdkafka 2.16 asks a logical offset once more when
        the answer comes after a seek (rd_kafka_toppar_handle_Offset), as it does where brokers are slow. Whoever sees
        that happen seeks again.
        """

    def seek(self, positions: Mapping[Coordinates, int]) -> None:
        """Read these on from these next offsets, paused or not. Raises UnavailableError: then claim them again."""

    def pause(self, partitions: Collection[Coordinates]) -> None:
        """Stop fetching these; polling goes on."""

    def resume(self, partitions: Collection[Coordinates]) -> None:
        """Fetch these again from where they were paused."""

    def commit(self, next_offsets: Mapping[Coordinates, int], wait: bool) -> None:
        """Tell the group's offsets to Kafka; `wait`: return when it is done. A failure goes to the listener."""

    def high_watermark(self, partition: Coordinates) -> int | None:
        """The end of the partition as last heard, without asking; None if not heard yet."""

    def rejoin(self) -> None:
        """Leave the group and join it again."""

    def connected(self) -> bool:
        """Whether a broker can be asked; at most 0.1 s.

        False for good after metadata that named no broker, as they may while brokers restart: librdkafka drops all that
        it knew then, those of `bootstrap.servers` too (its issue 5301).
        """

    def renew(self) -> None:
        """Be a member by another client, which has nothing yet: what there was is lost. At most 10 s."""

    def close(self) -> None:
        """Leave the group; at most 10 s."""


def effective(properties: Mapping[str, Any]) -> dict[str, Any]:
    """What librdkafka is given: the user's properties over our defaults, and under what is fixed."""
    classic = is_classic(properties)
    return {k: v for k, v in DEFAULTS.items() if classic or k not in _CLASSIC_ONLY} | dict(properties) | FIXED


def verify(properties: Mapping[str, Any]) -> None:
    """Raises ConfigError, naming the property, when librdkafka refuses one; connects to nothing."""
    silent = logging.getLogger("kafka.verify")  # what it says here is said again, when the real one is made
    silent.disabled = True
    try:
        Consumer(effective(properties) | {"bootstrap.servers": ""}, logger=silent).close()
    except KafkaException as error:
        text = error.args[0].str().removeprefix("Failed to create consumer: ")
        named = sorted((name for name in properties if name in text), key=len)
        field = f"kafka.{named[-1]}" if named else "kafka"
        reason = f"librdkafka refuses it: {text}; its CONFIGURATION.md lists names and values"
        raise ConfigError(field, shown(field, properties[named[-1]]) if named else None, reason) from None


class KafkaSource:
    """Source on a real cluster. Assigned partitions start paused. `ends`: the listener is told of them."""

    def __init__(self, properties: Mapping[str, Any], topics: list[str], *, ends: bool = False) -> None:
        self._properties = effective(properties) | ({"enable.partition.eof": True} if ends else {})
        self._topics, self._ends = topics, ends
        strategy = str(self._properties.get("partition.assignment.strategy", "cooperative"))
        self._incremental = not is_classic(properties) or strategy.startswith("cooperative")
        self._failure: BaseException | None = None
        self._ended_fetching: set[Coordinates] = set()
        self._client = 0  # the how-manieth; callbacks of one that is given up count no more

    def open(self, listener: Listener) -> None:
        """See Source.open. Raises FatalError when librdkafka refuses the properties."""
        self._listener = listener
        callbacks = {"error_cb": self._guarded(self._on_error), "on_commit": self._guarded(self._on_commit)}
        try:
            self._consumer = Consumer(self._properties | callbacks, logger=logging.getLogger("kafka"))
        except KafkaException as error:
            hint = "Mend the property under `kafka:`; the list is librdkafka's CONFIGURATION.md."
            raise FatalError(f"librdkafka refused the settings: {error.args[0].str()}", hint) from None
        self._subscribe()

    def poll(self, records: int, timeout: float) -> list[Message]:
        """See Source.poll."""
        try:
            messages = self._consume(records, timeout)
        except KafkaException as error:
            hint = "Restart the daemon; if it happens again, look at the broker's log."
            raise FatalError(f"Kafka: {error.args[0].str()}", hint) from error
        if self._failure:
            raise self._failure
        if not any(map(KafkaMessage.error, messages)):
            return messages
        for message in messages:
            if (failure := message.error()) is not None:
                self._judge(failure, message)
        return [message for message in messages if message.error() is None]

    def _consume(self, records: int, timeout: float) -> list[Any]:
        messages: list[Any] = self._consumer.consume(min(records, _AT_ONCE), timeout)
        more = messages
        while len(more) == _AT_ONCE and len(messages) < records and sum(map(len, more)) < _LARGE_BYTES:
            more = self._consumer.consume(min(records - len(messages), _AT_ONCE), 0)
            messages += more
        return messages

    def start(self, positions: Mapping[Coordinates, int]) -> None:
        """See Source.start."""
        self.seek(positions)
        # Not before the seek: records of the former position have come after those of the new one then (measured).
        self.resume(positions)
        self._wake(positions)

    def seek(self, positions: Mapping[Coordinates, int]) -> None:
        """See Source.seek."""
        if self._ended_fetching & positions.keys():
            self.rejoin()
            raise UnavailableError("Kafka: a partition must be assigned anew; joining the group again")
        try:
            for (topic, partition), offset in positions.items():
                self._consumer.seek(TopicPartition(topic, partition, offset))
        except KafkaException as error:
            raise UnavailableError(f"Kafka: a partition could not be positioned: {error.args[0].str()}") from error

    def _wake(self, partitions: Collection[Coordinates]) -> None:
        """Ask the leaders anything: librdkafka's broker threads sleep for up to a second before they see a resume."""
        with contextlib.suppress(KafkaException):
            self._consumer.offsets_for_times([TopicPartition(*key, 0) for key in partitions], timeout=_WAKE_SECONDS)

    def pause(self, partitions: Collection[Coordinates]) -> None:
        """See Source.pause."""
        self._consumer.pause([TopicPartition(*key) for key in partitions])

    def resume(self, partitions: Collection[Coordinates]) -> None:
        """See Source.resume."""
        self._consumer.resume([TopicPartition(*key) for key in partitions])

    def commit(self, next_offsets: Mapping[Coordinates, int], wait: bool) -> None:
        """See Source.commit. Never a reason to stop: newer offsets follow, and a repeat is what at-least-once means."""
        offsets = [TopicPartition(*key, offset) for key, offset in next_offsets.items()]
        try:
            if wait:
                self._consumer.commit(offsets=offsets, asynchronous=False)
            else:
                self._consumer.commit(offsets=offsets)
        except KafkaException as error:
            self._listener.commit_failed(error.args[0].str())

    def high_watermark(self, partition: Coordinates) -> int | None:
        """See Source.high_watermark."""
        _, high = self._consumer.get_watermark_offsets(TopicPartition(*partition), cached=True)
        return high if high >= 0 else None

    def rejoin(self) -> None:
        """See Source.rejoin."""
        self._ended_fetching.clear()
        self._consumer.unsubscribe()
        self._subscribe()

    def connected(self) -> bool:
        """See Source.connected."""
        try:
            self._consumer.list_topics(self._topics[0], timeout=_ASK_SECONDS)
        except KafkaException as error:
            return bool(error.args[0].code() != KafkaError._TRANSPORT)  # an answer that is late does not have it
        return True

    def renew(self) -> None:
        """See Source.renew."""
        lost = _coordinates(self._consumer.assignment())
        self._client += 1
        self.close()
        self._ended_fetching.clear()
        if lost:
            self._listener.lost(lost)
        self.open(self._listener)

    def close(self) -> None:
        """See Source.close. On a thread of its own, because librdkafka's close can hang (its issue #1667)."""
        closing = threading.Thread(target=self._consumer.close, daemon=True, name="kafka-close")
        closing.start()
        closing.join(_CLOSE_SECONDS)

    def _subscribe(self) -> None:
        self._consumer.subscribe(
            self._topics,
            on_assign=self._guarded(self._on_assign),
            on_revoke=self._guarded(self._on_revoke),
            on_lost=self._guarded(self._on_lost),
        )

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        client = self._client

        def call(*arguments: Any) -> None:
            if client != self._client:
                return
            try:
                callback(*arguments)
            except BaseException as error:  # noqa: BLE001 - raised again by poll: out of a callback it drops records
                self._failure = error

        return call

    def _on_assign(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        # From the beginning and paused: where it really starts is known only when the sink has answered the claim.
        starts = [TopicPartition(p.topic, p.partition, OFFSET_BEGINNING) for p in partitions]
        (self._consumer.incremental_assign if self._incremental else self._consumer.assign)(starts)
        self._consumer.pause(starts)
        self._listener.assigned(_coordinates(partitions))

    def _on_revoke(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._listener.revoked(_coordinates(partitions))
        self._unassign(partitions)

    def _on_lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._listener.lost(_coordinates(partitions))
        self._unassign(partitions)

    def _unassign(self, partitions: list[TopicPartition]) -> None:
        if self._incremental:
            self._consumer.incremental_unassign(partitions)
        else:
            self._consumer.unassign()

    def _on_error(self, error: KafkaError) -> None:
        if error.code() in _FORBIDDEN:
            self._judge(error, None)
        if error.code() == KafkaError._ALL_BROKERS_DOWN:
            self._listener.away(f"Kafka: {error.str()}")
        self._listener.trouble(f"Kafka: {error.str()}")

    def _on_commit(self, error: KafkaError | None, _: list[TopicPartition]) -> None:
        if error is not None:
            self._listener.commit_failed(error.str())

    def _judge(self, error: KafkaError, message: Any) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF and self._ends:
            self._listener.ended((message.topic(), message.partition()), message.offset())
        if code in _IGNORED:
            return
        if code == KafkaError._AUTO_OFFSET_RESET:
            key = message.topic(), message.partition()
            # librdkafka does not fetch it again, nor take a seek, until it is assigned anew (rd_kafka_offset_reset).
            self._ended_fetching.add(key)
            self._listener.out_of_range(key)
        elif code in _FORBIDDEN:
            hint = "Give the user READ on the topics and the group, or mend security.* and sasl.* under `kafka:`."
            raise FatalError(f"Kafka refuses access: {error.str()}", hint)
        elif error.fatal() or code in _IMPOSSIBLE:
            # A fatal error keeps its cause only in its text.
            twin = code in _TWIN or "instance" in error.str().lower()
            hint = _TWIN_HINT if twin else "Mend the settings under `kafka:`."
            raise FatalError(f"Kafka: the client cannot go on: {error.str()}", hint)
        else:
            self._listener.trouble(f"Kafka: {error.str()}")


def _coordinates(partitions: list[TopicPartition]) -> frozenset[Coordinates]:
    return frozenset((p.topic, p.partition) for p in partitions)

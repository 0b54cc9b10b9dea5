"""What Kafka holds of the partitions: ends, committed offsets, identity. Asked by an admin client, from any thread."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, ConfigResource, OffsetSpec  # type: ignore[attr-defined]

from consumer.errors import FatalError, UnavailableError
from consumer.errors import TopicPartition as Coordinates

Start = Literal["earliest", "latest"] | datetime.datetime
_TIMEOUT = 5.0
_REPLACED_SECONDS = 30.0
# To ask for none ends the process where metadata name no broker: describe_cluster does (an assertion of librdkafka 2.16
# in rd_kafka_admin_response_parse; seen).
_ANY_TOPIC = "__consumer_offsets"
_LOGGER = logging.getLogger("kafka")
_EARLIEST: OffsetSpec = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: OffsetSpec = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_SHARED = (
    "bootstrap.servers", "client.", "security.", "sasl.", "ssl.", "enable.ssl", "https.", "socket.", "broker.",
    "metadata.", "topic.metadata.", "reconnect.", "api.", "enable.sasl", "debug", "log", "test.mock",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LogState:
    """One partition as Kafka has it now: the offsets `low` <= o < `high` are held.

    `committed` is the group's next offset in Kafka, None without one. `topic_id` is "" where the broker tells none.
    """

    low: int
    high: int
    committed: int | None
    cluster_id: str
    topic_id: str


class Cluster(Protocol):
    """What the pipeline asks of a Kafka cluster, from any thread. Every call raises UnavailableError."""

    def states(self, partitions: Collection[Coordinates]) -> dict[Coordinates, LogState]:
        """The partitions as they are now."""

    def existing(self) -> set[Coordinates]:
        """Every partition that there is."""

    def start(self, start: Start, states: Mapping[Coordinates, LogState]) -> dict[Coordinates, int]:
        """Where partitions without any offset start; a time later than every record means the end."""

    def ask_ids(self, topics: Collection[str]) -> Callable[[], dict[str, str] | None]:
        """Ask for the ids of topics, without waiting: the function returned gives them, or None while they are out.

        Without topics it only tells whether Kafka answers.
        """

    def ask_ends(self, partitions: Collection[Coordinates]) -> Callable[[], dict[Coordinates, int] | None]:
        """Ask for the ends of partitions, as `ask_ids` does."""


class KafkaCluster:
    """Cluster over an admin client of its own; a call ends within seconds, with an answer or UnavailableError.

    A client that gets none may know no broker any more (see `Source.connected`): once in 30 s it is replaced then.
    """

    def __init__(self, properties: Mapping[str, Any], group_id: str) -> None:
        self._shared = {name: value for name, value in properties.items() if name.startswith(_SHARED)}
        self._admin, self._made_at = AdminClient(self._shared, logger=_LOGGER), time.monotonic()
        self._group = group_id
        uncommitted = str(properties.get("isolation.level", "")).lower() == "read_uncommitted"
        self._isolation = IsolationLevel.READ_UNCOMMITTED if uncommitted else IsolationLevel.READ_COMMITTED
        self._anonymous = False

    def states(self, partitions: Collection[Coordinates]) -> dict[Coordinates, LogState]:
        """See Cluster.states."""
        cluster = self.cluster_id()
        low = self.offsets(partitions, _EARLIEST)
        high = self.offsets(partitions, _LATEST)
        committed = self._committed(partitions)
        ids = self._ids(self._ask_ids(self._admin, {topic for topic, _ in partitions}))
        return {k: LogState(low[k], high[k], committed.get(k), cluster, ids.get(k[0], "")) for k in partitions}

    def existing(self) -> set[Coordinates]:
        """See Cluster.existing."""
        topics = self._metadata().topics.values()
        return {(topic.topic, partition) for topic in topics for partition in topic.partitions}

    def offsets(self, partitions: Collection[Coordinates], spec: OffsetSpec) -> dict[Coordinates, int]:
        """The offset that `spec` means in each partition; -1 where a time is later than every record."""
        return self._offsets(_ask_offsets(self._admin, partitions, spec))

    def readable(self, partitions: Collection[Coordinates]) -> dict[Coordinates, int]:
        """Where what can be read now ends: with `read_committed`, the default, before the first open transaction."""
        return self._offsets(_ask_offsets(self._admin, partitions, _LATEST, isolation_level=self._isolation))

    def start(self, start: Start, states: Mapping[Coordinates, LogState]) -> dict[Coordinates, int]:
        """See Cluster.start."""
        if start == "earliest":
            return {key: state.low for key, state in states.items()}
        if isinstance(start, datetime.datetime) and states:
            spec = OffsetSpec.for_timestamp(int(start.timestamp() * 1000))
            found = self.offsets(states, spec)
            return {key: found[key] if found[key] >= 0 else state.high for key, state in states.items()}
        return {key: state.high for key, state in states.items()}

    def ask_ids(self, topics: Collection[str]) -> Callable[[], dict[str, str] | None]:
        """See Cluster.ask_ids; a topic whose broker tells no id (KIP-516) is left out."""
        admin = self._admin
        if not topics:
            return partial(_when_done, admin, self._ask_ids(admin, [_ANY_TOPIC]), self._heard)
        return partial(_when_done, admin, self._ask_ids(admin, topics), self._ids)

    def ask_ends(self, partitions: Collection[Coordinates]) -> Callable[[], dict[Coordinates, int] | None]:
        """See Cluster.ask_ends."""
        admin = self._admin
        return partial(_when_done, admin, _ask_offsets(admin, partitions, _LATEST), self._offsets)

    def cluster_id(self) -> str:
        """The cluster's id; "" where it has none."""
        cluster = self._metadata().cluster_id or ""
        # librdkafka's mock (its own name for itself, rdkafka_mock.c) never answers describe_topics.
        self._anonymous = cluster.startswith("mockCluster")
        return cluster

    def _metadata(self, timeout: float = _TIMEOUT) -> Any:
        try:
            return self._admin.list_topics(timeout=timeout)
        except KafkaException as error:
            raise self._unavailable(f"Kafka does not answer: {error.args[0].str()}") from error

    def topics(self, timeout: float = _TIMEOUT) -> dict[str, int]:
        """Every topic that this user may see, and its number of partitions; an answer within `timeout` seconds."""
        found = self._metadata(timeout).topics
        return {name: len(topic.partitions) for name, topic in found.items()}

    def forgets_by_record_time(self, topic: str) -> bool:
        """Whether the topic deletes records by the time that their producer gave them, so that an old one goes at once.

        Raises UnavailableError, also where this user may not ask.
        """
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        (future,) = self._admin.describe_configs([resource], request_timeout=_TIMEOUT).values()
        found = {name: entry.value for name, entry in self._answer(future).items()}
        kept = "delete" not in found.get("cleanup.policy", "delete") or found.get("retention.ms") == "-1"
        return not kept and found.get("message.timestamp.type", "CreateTime") == "CreateTime"

    def move(self, next_offsets: Mapping[Coordinates, int]) -> None:
        """Set the group's committed offsets. Raises FatalError when the group is running."""
        offsets = [TopicPartition(*key, offset) for key, offset in sorted(next_offsets.items())]
        asked = ConsumerGroupTopicPartitions(self._group, offsets)
        (future,) = self._admin.alter_consumer_group_offsets([asked], request_timeout=_TIMEOUT).values()
        for answered in self._answer(future).topic_partitions:  # the future itself succeeds, whatever happened to these
            if answered.error is None:
                continue
            if answered.error.code() == KafkaError.UNKNOWN_MEMBER_ID:
                hint = "Stop every instance of it, and try again."
                raise FatalError(f"the group {self._group} is running: its offsets cannot be set", hint)
            raise UnavailableError(f"Kafka: {answered.error.str()}")

    def _ask_ids(self, admin: AdminClient, topics: Collection[str]) -> dict[str, Future[Any]]:
        if self._anonymous or not topics:
            return {}
        asked = TopicCollection(sorted(topics))
        futures: dict[str, Future[Any]] = admin.describe_topics(asked, request_timeout=_TIMEOUT)
        return futures

    def _committed(self, partitions: Collection[Coordinates]) -> dict[Coordinates, int]:
        # By a consumer of the moment that never joins: after a restart of the broker the admin client's own call for it
        # times out for ever, and has ended the process (librdkafka 2.16.0, measured).
        asker = Consumer(self._shared | {"group.id": self._group, "enable.auto.commit": False}, logger=_LOGGER)
        try:
            found = asker.committed([TopicPartition(*key) for key in sorted(partitions)], timeout=_TIMEOUT)
        except KafkaException as error:
            raise UnavailableError(f"Kafka: the group's offsets: {error.args[0].str()}") from error
        finally:
            asker.close()
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0 and p.error is None}

    def _heard(self, futures: Mapping[str, Future[Any]]) -> dict[str, str]:
        """Nothing, once a broker has said anything: that there is no such topic, or none for us, too."""
        for future in futures.values():
            error = future.exception()
            if not (isinstance(error, KafkaException) and error.args[0].code() > 0):  # below are librdkafka's own
                self._answer(future)
        return {}

    def _ids(self, futures: Mapping[str, Future[Any]]) -> dict[str, str]:
        return {topic: str(self._answer(future).topic_id) for topic, future in futures.items()}

    def _offsets(self, futures: Mapping[TopicPartition, Future[Any]]) -> dict[Coordinates, int]:
        return {(p.topic, p.partition): self._answer(future).offset for p, future in futures.items()}

    def _answer(self, future: Future[Any]) -> Any:
        try:
            return future.result(_TIMEOUT + 1)
        except TimeoutError:
            raise self._unavailable("Kafka does not answer in time") from None
        except KafkaException as error:
            raise self._unavailable(f"Kafka: {error.args[0].str()}") from error

    def _unavailable(self, reason: str) -> UnavailableError:
        if time.monotonic() - self._made_at >= _REPLACED_SECONDS:
            self._admin, self._made_at = AdminClient(self._shared, logger=_LOGGER), time.monotonic()
        return UnavailableError(reason)


def _ask_offsets(
    admin: AdminClient, partitions: Collection[Coordinates], spec: OffsetSpec, **how: Any
) -> dict[TopicPartition, Future[Any]]:
    asked = {TopicPartition(*key): spec for key in sorted(partitions)}
    futures: dict[TopicPartition, Future[Any]] = admin.list_offsets(asked, request_timeout=_TIMEOUT, **how)
    return futures


def _when_done(asked: AdminClient, futures: Mapping[Any, Future[Any]], take: Callable[[Any], Any]) -> Any:
    """`asked` stays until then: the questions to a client that is gone are never done (measured)."""
    return take(futures) if all(future.done() for future in futures.values()) else None

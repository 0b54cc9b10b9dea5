"""Records put back into the topics that they come from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from consumer.config import Settings
from consumer.deadletter import producer_properties
from consumer.dlq.replay import Delivery
from consumer.errors import ConfigError, FatalError, MicrobatchError, UnavailableError
from consumer.letter import DeadLetter
from consumer.offsets import cluster_of
from consumer.record import Headers

_FLUSH_SECONDS = 35.0  # a little more than the producer's delivery.timeout.ms
_OWN = ("microbatch.", "__dlq.")
_LOST = FatalError("its headers cannot be read here, and would be lost", "Replay it into the table.")


class SourceTopics:
    """See Destination: the topics that the records come from, into their partitions. `dry_run`: nothing is produced.

    They get the time of now: with their own the topic's retention might delete them before anybody has read them.
    """

    def __init__(self, settings: Settings, counts: Mapping[str, int], *, dry_run: bool) -> None:
        self._counts, self._dry_run = counts, dry_run
        self._producer = Producer(producer_properties(settings.kafka), logger=logging.getLogger("kafka"))

    def prepare(self, letters: Sequence[DeadLetter]) -> Delivery:
        """See Destination.prepare."""

        def deliver(kept: Sequence[int]) -> dict[int, MicrobatchError]:
            errors: dict[int, MicrobatchError] = {
                place: _LOST for place in kept if letters[place].evidence.headers_lost
            }
            if self._dry_run:
                return errors
            waiting = set(kept) - errors.keys()
            for place in sorted(waiting):
                self._produce(letters[place], partial(_answered, place, waiting, errors))
            self._producer.flush(_FLUSH_SECONDS)
            lost = UnavailableError("not confirmed in time; it may be in the topic all the same")
            return errors | dict.fromkeys(waiting, lost)

        return deliver

    def _produce(self, letter: DeadLetter, answered: Callable[[KafkaError | None, Any], None]) -> None:
        there = letter.partition < self._counts.get(letter.topic, 0)
        while True:
            try:
                self._producer.produce(
                    letter.topic,
                    letter.value,
                    letter.key,
                    partition=letter.partition if there else -1,
                    headers=[*_without_own(letter.headers or [])],
                    on_delivery=answered,
                )
            except BufferError:
                if not len(self._producer):  # it alone is larger than the whole queue
                    answered(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), None)
                    return
                self._producer.poll(0.1)
            except KafkaException as error:
                answered(error.args[0], None)
                return
            else:
                return


def require_topics(settings: Settings, topics: Collection[str]) -> dict[str, int]:
    """Their numbers of partitions. Raises ConfigError when one is not there, UnavailableError."""
    counts = cluster_of(settings).topics()
    for topic in topics:
        if topic not in counts:
            raise ConfigError("--to-topic", topic, "there is no such topic in this Kafka: create it, or leave it out")
    return {topic: counts[topic] for topic in topics}


def _without_own(headers: Headers) -> Headers:
    """Those that no dead letter added."""
    return [(name, value) for name, value in headers if not name.startswith(_OWN)]


def _answered(
    place: int, waiting: set[int], errors: dict[int, MicrobatchError], error: KafkaError | None, _: Any
) -> None:
    waiting.discard(place)
    if error is not None:
        errors[place] = UnavailableError(f"its topic did not take it: {error.str()}")

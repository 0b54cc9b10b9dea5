"""Dead letters in their topics.

A topic cannot be changed, so what is done with its dead letters is remembered by offsets, as those of a group of its
own: `orders.dlq` for the group `orders`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

from consumer.cluster import LogState
from consumer.config import Settings
from consumer.config.rules import subscribes
from consumer.deadletter import DeadLetterTopic, NoDeadLetterError, letter_of_dead_letter
from consumer.dlq.replay import Delivery, Lot, Reasons, evidence_again, name_of
from consumer.errors import ConfigError, MicrobatchError, UnavailableError
from consumer.excerpt import Excerpt
from consumer.letter import DeadLetter
from consumer.offsets import cluster_of
from consumer.outbox import origin_topic
from consumer.record import Message

_LOT = 200  # records, which are as large as the topic allows
_STYLE = "microbatch.style"
_GROUPS = ("__dlq.errors.group", "__connect.errors.connector.name", "kafka_dlt-original-consumer-group")


class DeadLetterReader:
    """The dead letters of the group in the topics of `origins` (dead-letter topic -> where its records come from).

    `all_of_it`: from the topics' beginning; else from where `remember` was called last. To the ends of now. Nothing of
    another group's, and no repeats. Raises UnavailableError.
    """

    def __init__(self, settings: Settings, origins: Mapping[str, str], *, all_of_it: bool) -> None:
        self.origins = origins
        self._group = str(settings.kafka["group.id"])
        own = f"{self._group}.dlq"
        cluster = cluster_of(settings, own)
        counts = cluster.topics()
        states = cluster.states([(topic, number) for topic in origins for number in range(counts[topic])])
        ends = {key: state.high for key, state in states.items()}
        starts = {key: state.low if all_of_it else _start(state) for key, state in states.items()}
        self._excerpt = Excerpt(settings.kafka, own, starts, ends)

    def lots(self, strays: Reasons, *, whole: bool = True, size: int = _LOT) -> Iterator[list[DeadLetter]]:
        """Those that are left, in the order of the topic; adds what is no dead letter to `strays`.

        `whole`: only those whose record is all there, the others are strays as well.
        """
        seen = set()
        for messages in self._excerpt.batches(size):
            lot = []
            for message in messages:
                try:
                    letter = self._letter(message, whole)
                except NoDeadLetterError as error:
                    strays.add(error, name_of((message.topic(), message.partition(), message.offset())))
                    continue
                if letter is not None and letter.coordinates not in seen:
                    seen.add(letter.coordinates)
                    lot.append(letter)
            yield lot

    def remember(self) -> None:
        """All that was read is done with. Raises UnavailableError."""
        self._excerpt.remember()

    def close(self) -> None:
        """Release the connections."""
        self._excerpt.close()

    def _letter(self, message: Message, whole: bool) -> DeadLetter | None:
        """None: it is of another group."""
        letter = letter_of_dead_letter(message, whole=whole)
        origin = self.origins[message.topic()]
        if letter.topic != origin:
            raise NoDeadLetterError(message, f"it does not come from {origin}, whose dead letters are here")
        told = dict(message.headers() or ())
        group = next((told[name] for name in _GROUPS if name in told), None)
        return None if _STYLE in told and group != self._group.encode() else letter


class TopicKeeper:
    """The topic: what is not delivered is appended to it again, with its new evidence, and then all is remembered.

    At least once. `outbox` None: nothing is appended and nothing remembered. `transaction` is what they are delivered
    in.
    """

    def __init__(
        self,
        reader: DeadLetterReader,
        outbox: DeadLetterTopic | None,
        transaction: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._reader, self._outbox, self._transaction = reader, outbox, transaction

    def settle(self, letters: Sequence[DeadLetter], deliver: Delivery) -> Lot:
        """See Keeper.settle."""
        kept = range(len(letters))
        errors: Mapping[int, MicrobatchError] = {}
        if letters:
            with self._transaction():
                errors = deliver(kept)
        if self._outbox is not None:
            again = evidence_again(letters, errors, "replay")
            _publish(self._outbox, [_renewed(letters[place], again) for place in sorted(errors)])
            self._reader.remember()
        return Lot(kept, errors)


def origins_of(settings: Settings, topic: str | None) -> dict[str, str]:
    """The dead-letter topics that are there, and where their records come from; of one `topic`, if given.

    Raises ConfigError when there is none, UnavailableError.
    """
    template = settings.dead_letter.topic
    if template is None:
        raise ConfigError("dead_letter.topic", None, "is null, so that no topic holds dead letters: use the table")
    there = cluster_of(settings).topics()
    found = {name: origin for name in sorted(there) if (origin := origin_topic(template, name))}
    mine = {
        name: origin
        for name, origin in found.items()
        if topic in (None, origin) and any(subscribes(entry, origin) for entry in settings.topics)
    }
    if not mine:
        reason = f"none of Kafka's topics holds dead letters of {topic or ', '.join(settings.topics)}"
        raise ConfigError("dead_letter.topic", template, reason)
    return mine


@contextmanager
def open_reader(settings: Settings, topic: str | None, *, all_of_it: bool) -> Iterator[DeadLetterReader]:
    """A reader of the settings' dead-letter topics. Raises ConfigError, UnavailableError."""
    reader = DeadLetterReader(settings, origins_of(settings, topic), all_of_it=all_of_it)
    try:
        yield reader
    finally:
        reader.close()


def _start(state: LogState) -> int:
    return max(state.low, min(state.committed or 0, state.high))


def _renewed(letter: DeadLetter, again: Mapping[Any, Any]) -> DeadLetter:
    """With the new evidence, if it failed again."""
    if letter.coordinates not in again:
        return letter
    return replace(letter, evidence=again[letter.coordinates], replay_count=letter.replay_count + 1)


def _publish(outbox: DeadLetterTopic, letters: Sequence[DeadLetter]) -> None:
    """Return when the topic has them all. Raises UnavailableError."""
    left = {letter.coordinates: letter for letter in letters}
    while left:
        outbox.send(list(left.values()))
        outbox.wait(1.0)
        for receipt in outbox.receipts():
            if receipt.error is not None:
                raise UnavailableError(f"a dead letter that failed again cannot be kept: {receipt.error}")
            left.pop(receipt.coordinates, None)

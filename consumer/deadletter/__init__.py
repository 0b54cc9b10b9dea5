"""The only module that produces: dead letters into their topics, and out of them again.

A dead letter is delivered when its delivery report says so, and by nothing else: a flush may end with nothing left
though records were refused (librdkafka; measured).
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException, Producer

from consumer.deadletter.headers import NoDeadLetterError, Style, letter_of_dead_letter, with_evidence
from consumer.errors import FatalError
from consumer.events import Event, tell
from consumer.letter import Coordinates, DeadLetter
from consumer.outbox import Receipt, dead_letter_topic

__all__ = ["DeadLetterTopic", "NoDeadLetterError", "Style", "letter_of_dead_letter", "producer_properties"]

_CUT_BYTES = 4096
_CLOSE_SECONDS = 5.0
# Scope C in librdkafka's CONFIGURATION.md; and what would undo what is fixed below, under whichever name.
_CONSUMER_ONLY = re.compile(
    r"(auto|enable\.auto|fetch|group|max\.poll|offset|queued|share)\..*|check\.crcs|consume\.callback\.max\.messages"
    r"|coordinator\.query\.interval\.ms|enable\.partition\.eof|heartbeat\.interval\.ms|isolation\.level"
    r"|max\.partition\.fetch\.bytes|partition\.assignment\.strategy|session\.timeout\.ms"
)
_DECIDED = re.compile(
    r"(batch|delivery|linger|queuing|sticky|transaction|transactional)\..*|(request\.required\.)?acks|max\.in\.flight.*"
    r"|enable\.(gapless\.guarantee|idempotence)|(message\.send\.max\.)?retries|(message\.timeout|queue\.buffering\.max)\.ms"
)
_DEFAULTS = {
    "queue.buffering.max.kbytes": 65_536,
    "message.max.bytes": 64 * 1024 * 1024,  # the topic's own limit decides
    "topic.metadata.propagation.max.ms": 5000,  # for so long a topic may be too new to be known
    # A topic that is missing or forbidden is so until metadata are read again, every 5 minutes otherwise (measured).
    "topic.metadata.refresh.interval.ms": 5000,
}
_FIXED = {
    "acks": "all",
    "enable.idempotence": True,
    "delivery.timeout.ms": 30_000,
    "linger.ms": 0,
    # A broker takes any first number of a producer that it does not know. If the first record is refused for the moment
    # (a leader moves, a broker starts) and the second, already on its way, is taken, then librdkafka counts the first
    # as delivered, too: a receipt for what the topic lacks (measured: on its mock, and with a real broker killed).
    "max.in.flight": 1,
    "allow.auto.create.topics": False,
}
# Brokers refuse batches, not records: what was refused in company is sent once more, each record by itself.
_ALONE = {"batch.num.messages": 1}
_TOO_LARGE = {KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE}
_OF_RECORD = _TOO_LARGE | {
    KafkaError.INVALID_RECORD,
    KafkaError._INVALID_DIFFERENT_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.POLICY_VIOLATION,
}
_ADVICE: dict[int, str] = {
    **dict.fromkeys(_TOO_LARGE, "raise the topic's max.message.bytes, or set dead_letter.too_large to `cut`"),
    KafkaError.UNKNOWN_TOPIC_OR_PART: "create the topic",
    KafkaError._UNKNOWN_TOPIC: "create the topic",
    KafkaError.TOPIC_AUTHORIZATION_FAILED: "give the user WRITE on the topic",
    KafkaError.INVALID_RECORD: "a compacted topic takes no record without a key: set its cleanup.policy to delete",
}


class _Form(Enum):
    """How much of a record is published."""

    WHOLE = "whole"
    CUT = "cut"  # only the first bytes of the value
    VALUELESS = "kept"  # no value
    BARE = "bare"  # nothing but the evidence


# What is tried in turn, by whether the value may be cut and whether a table keeps the record.
_FORMS = {
    ("keep", True): (_Form.WHOLE, _Form.VALUELESS, _Form.BARE),
    ("keep", False): (_Form.WHOLE,),
    ("cut", True): (_Form.WHOLE, _Form.CUT, _Form.BARE),
    ("cut", False): (_Form.WHOLE, _Form.CUT),
}


@dataclass(slots=True, eq=False)
class _Flight:
    """A dead letter on its way: whether by itself, the how-manieth form is tried, whether with the record's time."""

    letter: DeadLetter
    alone: bool = False
    step: int = 0
    timed: bool = True


def producer_properties(kafka: Mapping[str, Any]) -> dict[str, Any]:
    """What librdkafka's producer is given of the consumer's properties: addresses, TLS and SASL above all."""
    passed = {k: v for k, v in kafka.items() if not _CONSUMER_ONLY.fullmatch(k) and not _DECIDED.fullmatch(k)}
    return _DEFAULTS | passed | _FIXED


class DeadLetterTopic:
    """The Outbox on a cluster: `template` names the topic of a topic's dead letters, which must exist.

    Records keep their time, by which Kafka deletes them: the topics need `retention.ms: -1`, or to put their own time
    on records (`message.timestamp.type: LogAppendTime`; the headers have the other one).
    A record that its topic does not take, because it is too large, is published in part: `keep` leaves the value out,
    `cut` cuts it to 4 kB, and if that is still too large only the evidence is published; the receipt says so. Without
    a `table` that has the whole record nothing is left out but by `cut`: the receipt is an error then. Records are sent
    together, and once more each alone if their topic refuses that. For one thread.
    """

    def __init__(
        self,
        kafka: Mapping[str, Any],
        template: str = "{topic}.dlq",
        headers: Style = "kip-1191",
        too_large: Literal["keep", "cut"] = "keep",
        *,
        group: str,
        table: bool = True,
    ) -> None:
        self._properties, self._template, self._style, self._group = kafka, template, headers, group
        self._forms = _FORMS[too_large, table]
        self._producers: dict[bool, Producer] = {}  # by whether it sends each alone
        self._failure: str | None = None
        self._stuck = False
        self._flights: dict[Coordinates, _Flight] = {}
        self._decided: list[tuple[_Flight, KafkaError | None]] = []
        self._again: deque[_Flight] = deque()  # in another form, as soon as there is room
        self._receipts: list[Receipt] = []

    def send(self, letters: Sequence[DeadLetter]) -> None:
        """See Outbox.send. Raises FatalError when librdkafka refuses the properties."""
        for letter in () if self._stuck else letters:
            if letter.coordinates in self._flights:
                continue
            flight = self._flights[letter.coordinates] = _Flight(letter)
            if not self._hand_over(flight):
                del self._flights[letter.coordinates]
                break

    def receipts(self) -> list[Receipt]:
        """See Outbox.receipts."""
        self._serve(0)
        receipts, self._receipts = self._receipts, []
        return receipts

    @property
    def in_flight(self) -> int:
        """See Outbox.in_flight."""
        return len(self._flights)

    def wait(self, seconds: float) -> None:
        """See Outbox.wait."""
        end = time.monotonic() + seconds
        while self._flights and (left := end - time.monotonic()) > 0:
            self._serve(0 if self._decided else left)

    def close(self) -> None:
        """See Outbox.close; at most 5 s."""
        self._flights.clear()
        self._again.clear()
        self._retire(_CLOSE_SECONDS)

    def _hand_over(self, flight: _Flight) -> bool:
        """Give it to the producer; False when there is no room now."""
        letter, producer = flight.letter, self._connected(flight.alone)
        sent, parts = _reduced(letter, self._forms[flight.step])
        kind, millis = letter.timestamp
        try:
            producer.produce(
                dead_letter_topic(self._template, letter.topic),
                value=sent.value,
                key=sent.key,
                headers=[*with_evidence(sent, self._style, self._group, parts)],
                timestamp=millis if kind and flight.timed else 0,  # 0 means now, so that 1970 cannot be told
                on_delivery=partial(self._delivered, flight),
            )
        except BufferError:
            if len(producer):
                return False
            # It alone is larger than the whole queue.
            self._decided.append((flight, KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)))
        except KafkaException as error:
            self._decided.append((flight, error.args[0]))
        return True

    def _delivered(self, flight: _Flight, error: KafkaError | None, _: object) -> None:
        self._decided.append((flight, error))

    def _serve(self, seconds: float) -> None:
        """Take what was decided by now, or within so many seconds if nothing was."""
        for producer in self._producers.values():
            self._poll(producer, 0)
        busy = [producer for producer in self._producers.values() if len(producer)]
        if seconds and busy and not self._decided:
            self._poll(busy[-1], seconds)
        decided, self._decided = self._decided, []
        for flight, error in decided:
            if self._flights.get(flight.letter.coordinates) is flight:  # and not of a producer that was given up
                self._decide(flight, error)
        if self._failure is not None:
            self._give_up(self._failure)
        while self._again and self._hand_over(self._again[0]):
            self._again.popleft()
        if self._stuck and not self._flights:
            self._retire(0)

    def _poll(self, producer: Producer, seconds: float) -> None:
        try:
            producer.poll(seconds)
        except KafkaException as failure:  # a fatal error, which the callback is told of as well, or not
            self._on_error(failure.args[0])

    def _decide(self, flight: _Flight, error: KafkaError | None) -> None:
        letter = flight.letter
        if error is not None:
            self._on_error(error)
            if self._failure is not None:
                return  # _give_up tells it
            # A client may never send again to a partition that had no leader for a moment (librdkafka's issue 5430):
            # once a record has timed out and none is on its way, the next ones go by another client.
            self._stuck = self._stuck or error.code() == KafkaError._MSG_TIMED_OUT
            if error.code() in _OF_RECORD and self._changed(flight, error.code()):
                self._again.append(flight)
                return
        del self._flights[letter.coordinates]
        whole = self._forms[flight.step] is _Form.WHOLE
        self._receipts.append(Receipt(letter.coordinates, self._complaint(letter, error), whole))

    def _changed(self, flight: _Flight, code: int) -> bool:
        """Whether there is another way to send it, which is tried next."""
        if not flight.alone:
            flight.alone = True
        elif code in _TOO_LARGE and flight.step + 1 < len(self._forms):
            flight.step += 1
        elif code == KafkaError.INVALID_TIMESTAMP and flight.timed:
            flight.timed = False
        else:
            return False
        return True

    def _complaint(self, letter: DeadLetter, error: KafkaError | None) -> str | None:
        if error is None:
            return None
        advice = f"; {_ADVICE[error.code()]}" if error.code() in _ADVICE else ""
        return f"{dead_letter_topic(self._template, letter.topic)}: {error.str()} ({error.name()}){advice}"

    def _connected(self, alone: bool) -> Producer:
        if alone not in self._producers:
            settings = producer_properties(self._properties) | (_ALONE if alone else {}) | {"error_cb": self._on_error}
            try:
                self._producers[alone] = Producer(settings, logger=logging.getLogger("kafka"))
            except KafkaException as error:
                hint = "Mend the property under `kafka:`; the list is librdkafka's CONFIGURATION.md."
                raise FatalError(f"librdkafka refused the settings: {error.args[0].str()}", hint) from None
        return self._producers[alone]

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() == KafkaError._FATAL:
            self._failure = error.str()

    def _give_up(self, reason: str) -> None:
        """After a fatal error a producer does nothing more: the next one has to send what is on its way."""
        tell(Event.DEAD_LETTER_PRODUCER_FAILED, reason=reason, in_flight=len(self._flights))
        self._receipts += [Receipt(key, f"the producer failed: {reason}") for key in self._flights]
        self.close()

    def _retire(self, seconds: float) -> None:
        """Close the producers, on threads of their own, because librdkafka's close can hang; wait for so long."""
        closing = [
            threading.Thread(target=_close, args=[producer], daemon=True, name="dead-letter-close")
            for producer in self._producers.values()
        ]
        self._producers, self._failure, self._decided, self._stuck = {}, None, [], False
        for thread in closing:
            thread.start()
        end = time.monotonic() + seconds
        for thread in closing:
            thread.join(max(0.0, end - time.monotonic()))


def _close(producer: Producer) -> None:
    producer.purge()
    producer.close()


def _reduced(letter: DeadLetter, form: _Form) -> tuple[DeadLetter, dict[str, str]]:
    """What is published of a letter in that form, and what is to be told of the rest."""
    if form is _Form.WHOLE:
        return letter, {}
    value = letter.value or b""
    parts = {"value": "cut" if form is _Form.CUT else "kept", "value.bytes": str(len(value))}
    if form is _Form.CUT:
        return replace(letter, value=letter.value and value[:_CUT_BYTES]), parts
    if form is _Form.VALUELESS:
        return replace(letter, value=None), parts
    return replace(letter, key=None, value=None, headers=None), parts | {"key": "kept", "headers": "kept"}

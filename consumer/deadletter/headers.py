"""The headers of dead letters: written for whoever looks at their topic, read when one is to be replayed.

Those of a record come first, as they were. Ours follow, and take the place of what an earlier failure left there: so a
record that is replayed and fails again does not grow. None holds a row's value, and together they stay below 8 kB.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from consumer.errors import RecordError
from consumer.letter import DeadLetter, Evidence, State
from consumer.record import Headers, Message

Style = Literal["kip-1191", "connect", "spring"]
_OWN = "microbatch."
_TEXT, _REASON = 250, 1000  # bytes; a topic's name has 249 at most
_KINDS = ("NoTimestampType", "CreateTime", "LogAppendTime")  # Kafka's names of the kinds that Message.timestamp numbers
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_NUMBER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_CONNECT_STAGES = {"decode": "VALUE_CONVERTER", "map": "TRANSFORMATION", "write": "TASK_PUT"}


class NoDeadLetterError(RecordError):
    """A record is none of the dead letters that are understood here, or is not all there."""

    stage = "dead letter"

    def __init__(self, message: Message, reason: str) -> None:
        place = f"{message.topic()} partition {message.partition()} offset {message.offset()}"
        super().__init__(f"{place}: {reason}")


def _text(value: object, limit: int = _TEXT) -> bytes:
    return str(value).encode("utf-8", "replace")[:limit].decode("utf-8", "ignore").encode()


def _packed(value: int, size: int) -> bytes:
    return value.to_bytes(size, "big", signed=True)


def _kip(letter: DeadLetter, group: str) -> dict[str, bytes]:
    told = letter.evidence
    return {
        "topic": _text(letter.topic),
        "partition": _text(letter.partition),
        "offset": _text(letter.offset),
        "group": _text(group),
        "delivery.count": _text(told.attempts),
        "message": _text(told.reason, _REASON),
    }


def _connect(letter: DeadLetter, group: str) -> dict[str, bytes]:
    told = letter.evidence
    return {
        "topic": _text(letter.topic),
        "partition": _text(letter.partition),
        "offset": _text(letter.offset),
        "connector.name": _text(group),
        "stage": _text(_CONNECT_STAGES.get(told.stage, told.stage)),
        "exception.class.name": _text(told.error),
        "exception.message": _text(told.reason, _REASON),
    }


def _spring(letter: DeadLetter, group: str) -> dict[str, bytes]:
    kind, millis = letter.timestamp
    return {
        "original-topic": _text(letter.topic),
        "original-partition": _packed(letter.partition, 4),
        "original-offset": _packed(letter.offset, 8),
        "original-timestamp": _packed(millis if kind else -1, 8),
        "original-timestamp-type": _text(_KINDS[kind]),
        "original-consumer-group": _text(group),
        "exception-fqcn": _text(letter.evidence.error),
        "exception-message": _text(letter.evidence.reason, _REASON),
    }


@dataclass(frozen=True, slots=True)
class _Family:
    """Names that a product gives its evidence: how to write them, and under which to look for what."""

    prefix: str
    write: Callable[[DeadLetter, str], dict[str, bytes]]
    origin: str = ""  # before `topic`, `partition` and `offset`
    error: str = ""
    reason: str = ""
    packed: bool = False  # numbers are big-endian, not decimal

    def name(self, part: str) -> str:
        """Where the topic, partition or offset stands."""
        return self.prefix + self.origin + part


# https://cwiki.apache.org/confluence/display/KAFKA/KIP-1191%3A+Dead-letter+queues+for+share+groups; the names of Kafka
# Connect's DeadLetterQueueReporter; those of Spring Kafka's DeadLetterPublishingRecoverer.
_FAMILIES: dict[str, _Family] = {
    "kip-1191": _Family("__dlq.errors.", _kip, reason="message"),
    "connect": _Family("__connect.errors.", _connect, error="exception.class.name", reason="exception.message"),
    "spring": _Family("kafka_dlt-", _spring, "original-", "exception-fqcn", "exception-message", packed=True),
}


def with_evidence(letter: DeadLetter, style: Style, group: str, parts: Mapping[str, str] | None = None) -> Headers:
    """The headers of a record, and those that say what happened to it.

    `parts`: what is not there as it was, such as `value` -> `kept`.
    """
    family, told = _FAMILIES[style], letter.evidence
    kind, millis = letter.timestamp
    own = {
        "style": style,
        "stage": told.stage,
        "error": told.error,
        "reason": told.reason,
        "sqlstate": told.sqlstate,
        "table": told.table,
        "column": told.column,
        "constraint": told.constraint,
        "attempts": told.attempts,
        "batch": told.batch,
        "first_failed_at": letter.first_failed_at.astimezone(datetime.UTC).isoformat(),
        "replay_count": letter.replay_count,
        "timestamp": millis,
        "timestamp.type": _KINDS[kind],
        "lost": "headers" if told.headers_lost else None,
        **(parts or {}),
    }
    headers = _without_ours(letter.headers, family)
    headers += [(family.prefix + name, value) for name, value in family.write(letter, group).items()]
    limits = {"reason": _REASON}
    return headers + [(_OWN + k, _text(v, limits.get(k, _TEXT))) for k, v in own.items() if v is not None]


def letter_of_dead_letter(message: Message, *, whole: bool = True) -> DeadLetter:
    """The dead letter that a record of a dead-letter topic holds, published here or by one of the other products.

    Of theirs at least the origin is known. Raises NoDeadLetterError, also for one whose value was too large for the
    topic, unless `whole` is False: then what is there of it is returned.
    """
    try:
        headers = message.headers() or []
    except SystemError:
        raise NoDeadLetterError(message, "a header's name is not UTF-8, so that none can be read") from None
    found = _Found(message, headers)
    for part in ("value", "key", "headers") if whole else ():
        if _OWN + part in found:
            raise NoDeadLetterError(message, f"its {part} was too large for this topic; is it in the table?")
    style = found.text(_OWN + "style")
    for name, family in _FAMILIES.items():
        if style in (None, name) and family.name("topic") in found:
            return _letter(message, found, family, own=style is not None)
    raise NoDeadLetterError(message, "is no dead letter: no header tells the topic that it comes from")


def _letter(message: Message, found: _Found, family: _Family, *, own: bool) -> DeadLetter:
    topic = found.text(family.name("topic")) or ""
    if not _TOPIC.fullmatch(topic):
        raise found.wrong(family.name("topic"), "topic")
    partition = found.number(family.name("partition"), 31, packed=family.packed)
    offset = found.number(family.name("offset"), 63, packed=family.packed)
    timestamp = found.timestamp() if own else message.timestamp()
    return DeadLetter(
        topic,
        partition,
        offset,
        message.key(),
        message.value(),
        _without_ours(found.headers, family) or None,
        timestamp,
        found.evidence() if own else found.foreign(family),
        found.time() if own else _moment(message.timestamp()),
        State.PUBLISHED,
        found.number(_OWN + "replay_count", 31) if own else 0,
    )


def _without_ours(headers: Iterable[tuple[str, bytes | None]] | None, family: _Family) -> Headers:
    return [(name, value) for name, value in headers or () if not name.startswith((_OWN, family.prefix))]


def _moment(timestamp: tuple[int, int]) -> datetime.datetime:
    try:
        return datetime.datetime.fromtimestamp(timestamp[1] / 1000 if timestamp[0] else 0, datetime.UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.datetime.fromtimestamp(0, datetime.UTC)


class _Found:
    """The headers of one record; of those with the same name the last one counts."""

    def __init__(self, message: Message, headers: Headers) -> None:
        self.headers, self._message, self._last = headers, message, dict(headers)

    def __contains__(self, name: str) -> bool:
        return name in self._last

    def wrong(self, name: str, wanted: str) -> NoDeadLetterError:
        """That a header is missing, or is no such thing."""
        return NoDeadLetterError(self._message, f"its header {name} holds no {wanted}")

    def text(self, name: str) -> str | None:
        """At most what is written here, in characters that every database takes."""
        value = self._last.get(name)
        return None if value is None else value[:_REASON].decode("utf-8", "replace").replace("\0", "\ufffd")

    def number(self, name: str, bits: int, *, least: int = 0, packed: bool = False) -> int:
        """A whole number of at most so many bits."""
        value = self._last.get(name) or b""
        if packed and len(value) in (4, 8):
            number = int.from_bytes(value, "big", signed=True)
        elif not packed and _NUMBER.fullmatch(value):
            number = int(value)
        else:
            raise self.wrong(name, "number")
        if number < least or number >> bits > 0:
            raise self.wrong(name, "number that can be")
        return number

    def timestamp(self) -> tuple[int, int]:
        """The record's, which the topic may have replaced."""
        kind = self.text(_OWN + "timestamp.type")
        if kind not in _KINDS:
            raise self.wrong(_OWN + "timestamp.type", "kind of timestamp")
        return _KINDS.index(kind), self.number(_OWN + "timestamp", 63, least=-(1 << 63))

    def time(self) -> datetime.datetime:
        """When it failed first, aware UTC."""
        name = _OWN + "first_failed_at"
        try:
            return datetime.datetime.fromisoformat(self.text(name) or "").astimezone(datetime.UTC)
        except (ValueError, OverflowError):
            raise self.wrong(name, "time") from None

    def evidence(self) -> Evidence:
        """What is written here."""

        def told(name: str) -> str | None:
            return self.text(_OWN + name)

        return Evidence(
            told("stage") or "",
            told("error") or "",
            told("reason") or "",
            told("sqlstate"),
            told("table"),
            told("column"),
            told("constraint"),
            self.number(_OWN + "attempts", 31),
            told("batch") or "",
            told("lost") == "headers",
        )

    def foreign(self, family: _Family) -> Evidence:
        """What another product tells."""
        error, reason = (self.text(family.prefix + name) for name in (family.error, family.reason))
        return Evidence("unknown", error or "", reason or "")

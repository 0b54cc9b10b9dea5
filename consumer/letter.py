"""Dead letters: records that cannot be written, with the evidence; kept until somebody replays or discards them."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from enum import StrEnum

from consumer.errors import RecordError, RejectedError
from consumer.record import Headers, Message

_REASON = 1000
Coordinates = tuple[str, int, int]  # topic, partition, offset


class State(StrEnum):
    """Where a dead letter stands."""

    PENDING = "pending"  # kept; its topic does not have it yet
    KEPT = "kept"  # kept, and not meant for a topic
    PUBLISHED = "published"  # its topic has it
    REPLAYED = "replayed"  # it was written after all
    DISCARDED = "discarded"  # somebody decided that it is not needed


OPEN = (State.PENDING, State.KEPT, State.PUBLISHED)  # the record is not in the tables, and nobody gave it up


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a record cannot be written; never its values. `error` is a class, `stage` decode, map or write.

    `reason` is one sentence of at most 1,000 characters without NUL. `sqlstate` is a SQLSTATE, or SQLite's name of a
    result code. `attempts`: how often it was tried, replays included. `batch`: which batch it was in, for the logs.
    `headers_lost`: the record had headers that the client cannot give, because a name is not UTF-8.
    """

    stage: str
    error: str
    reason: str
    sqlstate: str | None = None
    table: str | None = None
    column: str | None = None
    constraint: str | None = None
    attempts: int = 1
    batch: str = ""
    headers_lost: bool = False


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record as Kafka had it, byte by byte, and why it is here.

    `headers` None: it has none, or (then the evidence says so) they are lost. `timestamp` as
    `Message.timestamp`. `first_failed_at` is aware UTC.
    """

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None
    timestamp: tuple[int, int]
    evidence: Evidence
    first_failed_at: datetime.datetime
    state: State = State.PENDING
    replay_count: int = 0

    @property
    def coordinates(self) -> Coordinates:
        """What it is known by, for ever: the repeats of a dead letter have the same."""
        return self.topic, self.partition, self.offset


def evidence_of(error: RecordError, batch: str, attempts: int = 1) -> Evidence:
    """What this error tells."""
    named: tuple[str | None, ...] = (None,) * 4
    if isinstance(error, RejectedError):
        named = error.sqlstate, error.table, error.column, error.constraint
    sqlstate, table, column, constraint = (text and _clean(text) for text in named)
    reason = _clean(error.reason[:_REASON])
    return Evidence(error.stage, type(error).__name__, reason, sqlstate, table, column, constraint, attempts, batch)


def letter_of(message: Message, evidence: Evidence, state: State, now: datetime.datetime) -> DeadLetter:
    """The dead letter of a record as read."""
    try:
        headers = message.headers()
    except SystemError:  # a header's name is not UTF-8: the client cannot give any of them
        headers, evidence = None, replace(evidence, headers_lost=True)
    return DeadLetter(
        message.topic(),
        message.partition(),
        message.offset(),
        message.key(),
        message.value(),
        headers,
        message.timestamp(),
        evidence,
        now,
        state,
    )


def _clean(text: str) -> str:
    """What every database takes as text."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()

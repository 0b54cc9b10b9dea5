"""Which dead letters are meant: from what is typed to a Selection, and whether one fits."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.errors import ConfigError
from consumer.letter import OPEN, Coordinates, DeadLetter, State
from consumer.sinks import Selection
from consumer.terminal import moment


def selection(
    *,
    coordinates: Sequence[str] = (),
    states: Sequence[State] = (),
    topic: str | None = None,
    partition: int | None = None,
    stage: str | None = None,
    reason: str | None = None,
    sqlstate: str | None = None,
    table: str | None = None,
    constraint: str | None = None,
    since: str | None = None,
    until: str | None = None,
) -> Selection:
    """What the options of a command mean. Raises ConfigError, naming the option."""
    exactly = tuple(map(coordinates_of, coordinates)) or None
    return Selection(
        tuple(states) or OPEN,
        topic,
        partition,
        stage,
        reason,
        sqlstate,
        table,
        constraint,
        None if since is None else moment("--since", since),
        None if until is None else moment("--until", until),
        exactly,
    )


def coordinates_of(text: str) -> Coordinates:
    """`topic/partition/offset` as it is printed. Raises ConfigError."""
    topic, *numbers = text.split("/")
    if len(numbers) != 2 or not topic or not all(number.isascii() and number.isdecimal() for number in numbers):
        raise ConfigError("coordinates", text, "must be topic/partition/offset: orders/0/1234")
    return topic, int(numbers[0]), int(numbers[1])


def fits(which: Selection, letter: DeadLetter) -> bool:
    """Whether it is one of them: for letters that no database has sorted out."""
    told = letter.evidence
    pairs = [
        (which.topic, letter.topic),
        (which.partition, letter.partition),
        (which.stage, told.stage),
        (which.sqlstate, told.sqlstate),
        (which.table, told.table),
        (which.constraint, told.constraint),
    ]
    return (
        letter.state in which.states
        and all(wanted is None or wanted == found for wanted, found in pairs)
        and (which.reason is None or which.reason.lower() in told.reason.lower())
        and (which.since is None or letter.first_failed_at >= which.since)
        and (which.until is None or letter.first_failed_at < which.until)
        and (which.coordinates is None or letter.coordinates in which.coordinates)
    )


def unlimited(which: Selection) -> bool:
    """Whether it leaves out none that are open."""
    return which == Selection()

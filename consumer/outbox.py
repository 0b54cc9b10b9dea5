"""What the writer needs of the topic of dead letters: hand them over, and be told which of them it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from consumer.letter import Coordinates, DeadLetter

PLACE = "{topic}"  # stands in a template for the topic that a record comes from


def dead_letter_topic(template: str, topic: str) -> str:
    """Where the dead letters of a topic go."""
    return template.replace(PLACE, topic)


def origin_topic(template: str, name: str) -> str | None:
    """The topic whose dead letters go into the topic of this name; None if that is no such topic."""
    start, _, end = template.partition(PLACE)
    fits = name.startswith(start) and name.endswith(end) and len(name) > len(start) + len(end)
    return name[len(start) : len(name) - len(end)] if fits else None


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of a dead letter that was handed over: the topic has it, or `error` says why not.

    `whole` False: it was too large, and the topic has the evidence without the whole value.
    """

    coordinates: Coordinates
    error: str | None = None
    whole: bool = True


class Outbox(Protocol):
    """Dead letters on their way into their topics; for one thread."""

    def send(self, letters: Sequence[DeadLetter]) -> None:
        """Hand over those that are not on their way already, as far as there is room; never waits."""

    def receipts(self) -> list[Receipt]:
        """What was decided since this was asked last."""

    @property
    def in_flight(self) -> int:
        """How many wait for their receipt."""

    def wait(self, seconds: float) -> None:
        """Return when nothing is in flight any longer, or after this time."""

    def close(self) -> None:
        """Give up what is in flight; bounded in time."""

"""Partitions that flow, but are not fetched for a while, each for one reason or more."""

from __future__ import annotations

from collections.abc import Collection

from consumer.errors import TopicPartition
from consumer.source import Source

BACKPRESSURE = "backpressure"  # the database takes no more
TURN = "turn"  # others, which are late, are read alone


class Pauses:
    """Tells the source what it is to fetch no more, and what again, because no reason is left."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._paused: dict[str, frozenset[TopicPartition]] = {}

    def set(self, reason: str, partitions: Collection[TopicPartition]) -> None:
        """For this reason these are not fetched from now on, and no others."""
        before = self.reasons().keys()
        self._paused[reason] = frozenset(partitions)
        after = self.reasons().keys()
        if begun := after - before:
            self._source.pause(begun)
        if ended := before - after:
            self._source.resume(ended)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """These no longer flow; should they do so again, they are fetched."""
        self._paused = {reason: paused - set(partitions) for reason, paused in self._paused.items()}

    def reasons(self) -> dict[TopicPartition, str]:
        """One for each partition that is not fetched."""
        return {key: reason for reason, paused in self._paused.items() for key in paused}

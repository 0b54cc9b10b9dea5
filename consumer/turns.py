"""Partitions that others keep from being read are read alone for a moment.

Whenever its queue has room again, librdkafka asks for what stands first in its list. With a backlog, and batches of
producers as large as what is asked for of a partition, the last ones get nothing until the first are through (measured:
16 partitions with batches of 1 MB: the first 16,333 records, the last 989), while Kafka may delete what they wait for.
"""

from __future__ import annotations

from collections.abc import Mapping

from consumer.errors import TopicPartition

_LATE_SECONDS, _LATE_RECORDS = 5.0, 1000
_TURN_SECONDS = 2.0
_LONGEST_SECONDS = 300.0
_AT_ONCE = 8


class Turns:
    """Asked about once a second. A partition is late when a thousand records wait, and others are read, but it is not,
    for 5 s; time in which none is read does not count.

    Between turns all are read for as long, and for twice as long each time that a turn was of no use, up to 5 minutes:
    what is late may wait for a transaction to end, or for its leader.
    """

    def __init__(self) -> None:
        self._seen: dict[TopicPartition, int] = {}
        self._moved: dict[TopicPartition, float] = {}  # when, by _time
        self._looked, self._time = 0.0, 0.0
        self._turn: set[TopicPartition] = set()
        self._useful = False
        self._due, self._wait = 0.0, _LATE_SECONDS

    def look(
        self, positions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int | None], now: float
    ) -> set[TopicPartition]:
        """Which of these partitions, with their next offsets and ends, are to be read alone; none: read all."""
        moved = {key for key, position in positions.items() if self._seen.get(key) != position}
        self._time += now - self._looked if moved else 0.0
        self._looked = now
        self._moved = {key: self._time if key in moved else self._moved[key] for key in positions}
        self._seen = dict(positions)
        self._useful = self._useful or bool(moved & self._turn)
        if now >= self._due:
            self._change(ends, now)
        return self._turn & positions.keys()

    def _change(self, ends: Mapping[TopicPartition, int | None], now: float) -> None:
        if self._turn:
            self._wait = _LATE_SECONDS if self._useful else min(2 * self._wait, _LONGEST_SECONDS)
            self._turn, self._due = set(), now + self._wait
        elif late := self._late(ends):
            self._turn, self._useful, self._due = late, False, now + _TURN_SECONDS

    def _late(self, ends: Mapping[TopicPartition, int | None]) -> set[TopicPartition]:
        unread = [key for key, at in self._moved.items() if self._time - at >= _LATE_SECONDS]
        late = [key for key in unread if (ends.get(key) or 0) - self._seen[key] >= _LATE_RECORDS]
        return set(sorted(late, key=self._moved.__getitem__)[:_AT_ONCE])

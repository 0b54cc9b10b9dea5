"""Partitions that others keep from being read are read alone for a moment.

Whenever its queue has room again, librdkafka asks for what stands first in its list. With a backlog, and batches of
producers as large as what is asked for of a partition, the last ones get little until the first are through (measured:
16 partitions with batches of 1 MB: the first 16,333 records, the last 989), while Kafka may delete what they wait for.
"""

from __future__ import annotations

from collections.abc import Mapping

from consumer.errors import TopicPartition

_BETWEEN_SECONDS, _LONGEST_SECONDS = 5.0, 300.0
_USEFUL_SECONDS, _TURN_SECONDS = 2.0, 5.0
_LATE_RECORDS, _SHARE = 1000, 0.25
_AT_ONCE = 8

Ends = Mapping[TopicPartition, int | None]


class Turns:
    """Asked about once a second. A partition is late when a thousand records wait, and while all were read it got less
    than a quarter of what it could have had: as many as the one that got most, if so many were there.

    All are read for 5 s between turns; time in which nothing comes does not count. A turn is over when less than a
    thousand records wait, or after 5 s; or after 2 s, if it does not even double the rate. Then it is of no use, for
    what is late waits for a transaction to end, or for its leader: all are read for twice as long as before, up to 5
    minutes.
    """

    def __init__(self) -> None:
        self._positions: dict[TopicPartition, int] = {}
        self._from: dict[TopicPartition, int] = {}  # where they were when the turn began, or the time between turns
        self._looked, self._seconds = 0.0, 0.0
        self._turn: set[TopicPartition] = set()
        self._rate = 0.0  # at which those of the turn were read before
        self._between = _BETWEEN_SECONDS

    def look(self, positions: Mapping[TopicPartition, int], ends: Ends, now: float) -> set[TopicPartition]:
        """Which of these partitions, with their next offsets and ends, are to be read alone; none: read all."""
        if positions.keys() != self._positions.keys():
            self._positions = dict(positions)
            self._begin(set())
        moved = positions != self._positions
        self._seconds += now - self._looked if moved or self._turn else 0.0
        self._looked, self._positions = now, dict(positions)
        self._from = {key: min(start, positions[key]) for key, start in self._from.items()}
        if self._turn:
            if self._over(ends):
                self._begin(set())
        elif self._seconds >= self._between:
            late = self._late(ends)
            self._rate = sum(map(self._gained, late)) / self._seconds
            self._between = self._between if late else _BETWEEN_SECONDS
            self._begin(late)
        return set(self._turn)

    def _begin(self, turn: set[TopicPartition]) -> None:
        self._turn, self._from, self._seconds = turn, dict(self._positions), 0.0

    def _over(self, ends: Ends) -> bool:
        if not any((ends.get(key) or 0) - self._positions[key] >= _LATE_RECORDS for key in self._turn):
            self._between = _BETWEEN_SECONDS
            return True
        if self._seconds < _USEFUL_SECONDS:
            return False
        useful = sum(map(self._gained, self._turn)) > 2 * self._rate * self._seconds
        self._between = _BETWEEN_SECONDS if useful else min(2 * self._between, _LONGEST_SECONDS)
        return not useful or self._seconds >= _TURN_SECONDS

    def _late(self, ends: Ends) -> set[TopicPartition]:
        """Those for which most waits come first: Kafka deletes of them first, and each has its turn."""
        most = max(map(self._gained, self._positions), default=0)
        waiting = {key: (ends.get(key) or 0) - at for key, at in self._positions.items()}
        late = [key for key, count in waiting.items() if count >= _LATE_RECORDS and self._starved(key, count, most)]
        return set(sorted(late, key=waiting.__getitem__)[-_AT_ONCE:])

    def _starved(self, key: TopicPartition, waiting: int, most: int) -> bool:
        gained = self._gained(key)
        return gained < _SHARE * min(most, gained + waiting)

    def _gained(self, key: TopicPartition) -> int:
        return self._positions[key] - self._from[key]

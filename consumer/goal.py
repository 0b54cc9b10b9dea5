"""Where a job ends: for each partition the next offset at which it is done. Told and asked by the owner's thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from consumer.errors import TopicPartition, UnavailableError
from consumer.record import Message

_ASK_SECONDS = 2.0
Stored = Callable[[], Callable[[], Mapping[TopicPartition, int] | None]]
M = TypeVar("M", bound=Message)


class Goal:
    """The targets of a job, and how far it is; `targets` None: a daemon, which is never done.

    A partition is done when its next offset, as it is committed, has reached its target. Of partitions that flow here
    that is known; of the others (another member's, nobody's, paused ones) it is asked: `stored` asks without waiting,
    and the function that it returns gives the answer, or None while it is out, or raises UnavailableError.
    Records at and beyond a target are left alone; a partition that came after the start is left alone as a whole.
    `starts` are where the partitions stood at the start, as far as that is known.
    """

    def __init__(
        self,
        targets: Mapping[TopicPartition, int] | None = None,
        starts: Mapping[TopicPartition, int] | None = None,
        stored: Stored = lambda: dict,
    ) -> None:
        self.endless = targets is None
        self.targets, self.starts = dict(targets or {}), dict(starts or {})
        self.positions: dict[TopicPartition, int] = {}
        self._least = min(self.targets.values(), default=0)
        self._read: set[TopicPartition] = set()  # all before the target was handed over
        self._stored, self._asked_at = stored, float("-inf")
        self._answer: Callable[[], Mapping[TopicPartition, int] | None] | None = None

    @property
    def complete(self) -> bool:
        """Whether every partition has reached its target, as far as is known here."""
        return not self.endless and not self.left

    @property
    def left(self) -> list[TopicPartition]:
        """The partitions that have not."""
        return [key for key, target in self.targets.items() if self.positions.get(key, -1) < target]

    @property
    def progress(self) -> tuple[int, int]:
        """How many offsets are behind, and how many there are from the starts to the targets."""
        total = done = 0
        for key, target in self.targets.items():
            start = self.starts.get(key, target)
            total += max(0, target - start)
            done += max(0, min(target, self.positions.get(key, start)) - start)
        return done, total

    def claimed(self, positions: Mapping[TopicPartition, int]) -> None:
        """These are read from here on."""
        self._read -= positions.keys()
        for key, offset in positions.items():
            self.starts.setdefault(key, offset)
            if not self.endless and key not in self.targets:
                self.targets[key] = offset
                self._least = min(self._least, offset)
        self.moved(positions)

    def moved(self, positions: Mapping[TopicPartition, int]) -> None:
        """These next offsets are committed."""
        self.positions |= positions

    def ended(self, partition: TopicPartition, offset: int) -> None:
        """Everything of this partition before `offset` was handed over."""
        if offset >= self.targets.get(partition, 0):
            self._read.add(partition)

    def within(self, messages: list[M]) -> list[M]:
        """Those of what was read, in the order in which it was, that are before their targets."""
        # Mostly all are: found out without a line of Python for each record, by the unbound method of their class.
        if self.endless or not messages or max(map(type(messages[0]).offset, messages)) < self._least:
            return messages
        kept = [m for m in messages if m.offset() < self.targets.get((m.topic(), m.partition()), 0)]
        if len(kept) < len(messages):
            for message in messages:
                self.ended((message.topic(), message.partition()), message.offset())
        return kept

    def finished(self, messages: Sequence[Message]) -> set[TopicPartition]:
        """The partitions of these records of which nothing more is wanted."""
        return {(message.topic(), message.partition()) for message in messages} & self._read

    def rest(self, read_to: Callable[[TopicPartition], int | None]) -> dict[TopicPartition, int]:
        """Partitions whose last offsets hold no record (markers of transactions, compacted ones), with their targets.

        `read_to` gives the next offset to read; what is read and not written yet has to be waited for.
        """
        found = {}
        for key in self._read:
            position, target = self.positions.get(key, -1), self.targets.get(key, 0)
            if position < target and read_to(key) == position:
                found[key] = target
        return found

    def reached(self, flowing: Collection[TopicPartition], now: float) -> bool:
        """Whether all is done. Asks where the others stand, every 2 s at most; `now` in monotonic seconds."""
        if self.endless:
            return False
        self._take(flowing)
        left = self.left
        if self._answer is None and now - self._asked_at >= _ASK_SECONDS and any(key not in flowing for key in left):
            self._asked_at, self._answer = now, self._stored()
        return not left

    def _take(self, flowing: Collection[TopicPartition]) -> None:
        try:
            if self._answer and (found := self._answer()) is not None:
                self.moved({key: offset for key, offset in found.items() if key not in flowing})
                self._answer = None
        except UnavailableError:
            self._answer = None  # asked again in a while; that something is away is told by others

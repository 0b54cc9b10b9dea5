"""The batch: the unit of decoding, writing and committing, bounded by records, bytes and time.

Offsets are next offsets throughout: the offset of the last handled record + 1. They have holes (compaction, transaction
markers), so a count of records never follows from them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Protocol

from consumer.course import Course, course_of
from consumer.errors import TopicPartition
from consumer.record import Message

_UNSEEN = 16  # records to ask for while nobody knows how large they are: at most 1 MB each, as Kafka has it by default


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """When a batch is closed: by whichever bound is reached first. A record above `max_bytes` is a batch of its own.

    `ready_records` are enough for a writer that has nothing to do; while it is busy, the batch grows on.
    """

    max_records: int = 20_000
    max_bytes: int = 5 * 1024 * 1024
    max_wait_ms: int = 500
    ready_records: int = 5000


class Prepared(Protocol):
    """What is made of the records of a batch before they are written; `mapping.Mapped` is one."""

    def only(self, kept: Sequence[int]) -> Any:
        """The same of these records alone, by ascending index."""


@dataclass(slots=True)
class Batch:
    """Records in the order in which they were read.

    Of each partition, `starts` is the next offset before its first record, `lasts` its last record, `next_offsets` the
    one after that.
    `name` is given by the writer, for logs and evidence; a part of a batch is given another one.
    `size` is bytes of values, `opened_at` monotonic seconds, `trigger` the bound that closed it. The writer keeps in
    `prepared` what it made of the records, in `map_seconds`; `attempted` says that a transaction with them may have
    been committed, and `outcome` what that would have done; `written` is what was done. `skipped` counts records, by
    topic, that were found to be committed already, `timeouts` the tries that took too long.
    """

    messages: list[Message] = field(default_factory=list)
    starts: dict[TopicPartition, int] = field(default_factory=dict)
    next_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    lasts: dict[TopicPartition, Message] = field(default_factory=dict)
    size: int = 0
    opened_at: float = 0.0
    trigger: str = ""
    attempted: bool = False
    prepared: Prepared | None = None
    map_seconds: float = 0.0
    outcome: Any = None
    written: Any = None
    skipped: Counter[str] = field(default_factory=Counter)
    timeouts: int = 0
    name: str = ""

    def counts(self) -> Counter[str]:
        """Records by topic."""
        return _topics(self.messages, self.next_offsets)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do: no record, and no offset to move over places that have none."""
        moves = any(offset > self.starts.get(key, offset) for key, offset in self.next_offsets.items())
        return not self.messages and not moves

    def skip(self, positions: Mapping[TopicPartition, int]) -> None:
        """Take out the records before these next offsets, which are committed."""
        if positions == self.starts:
            return
        before = self.counts()
        kept = [i for i, m in enumerate(self.messages) if m.offset() >= positions[m.topic(), m.partition()]]
        self.messages, self.prepared = [self.messages[i] for i in kept], self.prepared and self.prepared.only(kept)
        self.starts, self.size = dict(positions), sum(map(len, self.messages))
        self.skipped += before - Counter(message.topic() for message in self.messages)

    def without(self, partitions: Collection[TopicPartition]) -> Batch:
        """The same batch without the records of `partitions`."""
        kept = [i for i, m in enumerate(self.messages) if (m.topic(), m.partition()) not in partitions]
        batch = self._only(kept)
        batch.starts = {key: offset for key, offset in self.starts.items() if key not in partitions}
        batch.next_offsets = {key: offset for key, offset in self.next_offsets.items() if key not in partitions}
        batch.attempted, batch.skipped = self.attempted, self.skipped
        return batch

    def split(self, count: int) -> tuple[Batch, Batch]:
        """The first `count` records and the rest, of a batch that is known not to be committed."""
        head, rest = self._only(range(count)), self._only(range(count, len(self.messages)))
        for part, before in ((head, self.starts), (rest, self.starts | head.next_offsets)):
            part.starts = {key: before[key] for key in part.lasts}
        head.skipped = self.skipped
        return head, rest

    def _only(self, kept: Sequence[int]) -> Batch:
        """These records, without their starts; the trigger and the time stay those of the whole."""
        messages = [self.messages[index] for index in kept]
        course = course_of(messages)
        return Batch(
            messages,
            next_offsets={key: message.offset() + 1 for key, message in course.lasts.items()},
            lasts=course.lasts,
            size=course.size,
            opened_at=self.opened_at,
            trigger=self.trigger,
            prepared=self.prepared and self.prepared.only(kept),
        )


class Collector:
    """Cuts what polls return into batches, and knows the next offset to read of each partition that flows.

    Records of a partition that does not flow here (not claimed yet, or gone), and records before the next offset
    (fetched before a seek), are left out: they are read again by whoever owns them.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._policy = policy
        self._next: dict[TopicPartition, int] = {}
        self._open = Batch()
        self._closed: deque[Batch] = deque()
        self._average: float | None = None  # bytes of the values read lately
        self._again: set[TopicPartition] = set()

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        """These partitions flow from now on, from these next offsets."""
        self._next |= positions

    def bound(self, policy: BatchPolicy) -> None:
        """Cut batches by these bounds from now on; the open one is closed if it has reached them."""
        self._policy = policy
        if len(self._open.messages) >= policy.max_records:
            self.close("records")

    def drop(self, partitions: Collection[TopicPartition]) -> Counter[str]:
        """These partitions no longer flow; their unwritten records leave. Returns how many, by topic."""
        for key in partitions:
            self._next.pop(key, None)
        batches = [*self._closed, self._open]
        kept = [batch.without(partitions) if batch.starts.keys() & set(partitions) else batch for batch in batches]
        dropped = sum((batch.counts() for batch in batches), Counter[str]())
        dropped.subtract(sum((batch.counts() for batch in kept), Counter[str]()))
        self._open = kept.pop()
        self._closed = deque(batch for batch in kept if batch.messages)
        return +dropped

    def add(self, messages: Sequence[Message], now: float) -> Counter[str]:
        """Take what one poll returned, at `now` (monotonic seconds). Returns how many were taken, by topic."""
        course = course_of(messages)
        self._again.clear()
        if not self._flows(course):
            messages = list(self._forward(messages))
            course = course_of(messages)
        counts: Counter[str] = Counter()
        while messages:
            count, trigger = self._fitting(messages, course)
            rest = messages[count:]
            if rest:
                messages = messages[:count]
                course = course_of(messages)
            counts += self._append(messages, course, now)
            if trigger:
                self.close(trigger)
            messages, course = rest, course_of(rest)
        return counts

    def take(self, now: float) -> Batch | None:
        """The next batch for a writer that has nothing to do, if one is closed or may be."""
        if not self._closed and self.ready:
            self.close("ready")
        if not self._closed and self.wait(now) == 0:
            self.close("wait")
        return self._closed.popleft() if self._closed else None

    def next_offset(self, partition: TopicPartition) -> int | None:
        """The next offset to read of this partition; None if it does not flow."""
        return self._next.get(partition)

    @property
    def stepped_back(self) -> dict[TopicPartition, int]:
        """The next offsets of the partitions of which `add` was given records that were read before."""
        return {key: self._next[key] for key in self._again}

    def close(self, trigger: str) -> None:
        """Close the open batch, unless it is empty."""
        if self._open.messages:
            self._open.trigger = trigger
            self._closed.append(self._open)
            self._open = Batch()

    def wait(self, now: float) -> float | None:
        """Seconds until the open batch must be closed; None while it is empty."""
        if not self._open.messages:
            return None
        return max(0.0, self._open.opened_at + self._policy.max_wait_ms / 1000 - now)

    @property
    def waiting(self) -> bool:
        """Whether a closed batch waits to be taken."""
        return bool(self._closed)

    @property
    def ready(self) -> bool:
        """Whether the open batch is large enough to be written."""
        return len(self._open.messages) >= self._policy.ready_records

    @property
    def room(self) -> int:
        """How many records to ask for: those until the open batch is ready, then as many again until it is full.

        By its bytes only an estimate from those read lately.
        """
        there, ready = len(self._open.messages), self._policy.ready_records
        records = min(self._policy.max_records - there, ready - there if there < ready else ready)
        left = self._policy.max_bytes - self._open.size
        if self._average is None:
            return max(1, min(records, _UNSEEN))
        return max(1, min(records, int(left / max(1.0, self._average)) + 1))

    @property
    def records(self) -> Counter[str]:
        """Records held, by topic."""
        return sum((batch.counts() for batch in (*self._closed, self._open)), Counter[str]())

    @property
    def opened_at(self) -> float | None:
        """When the oldest record held was read (monotonic seconds)."""
        oldest = self._closed[0] if self._closed else self._open
        return oldest.opened_at if oldest.messages else None

    def _flows(self, course: Course) -> bool:
        """Whether all of it comes after what was read before."""
        there = all(key in self._next and offset >= self._next[key] for key, offset in course.firsts.items())
        return there and course.rising

    def _forward(self, messages: Sequence[Message]) -> Iterator[Message]:
        """Those that flow, without what was read of a partition before: never a step back, whatever the client does."""
        ends: dict[TopicPartition, int] = {}
        for message in messages:
            key, offset = (message.topic(), message.partition()), message.offset()
            if key not in self._next:
                continue
            if offset >= ends.get(key, self._next[key]):
                ends[key] = offset + 1
                yield message
            else:
                self._again.add(key)

    def _fitting(self, messages: Sequence[Message], course: Course) -> tuple[int, str]:
        """How many of these the open batch takes, and the bound that closes it then ('' if none)."""
        count = min(len(messages), self._policy.max_records - len(self._open.messages))
        trigger = "records" if len(self._open.messages) + count == self._policy.max_records else ""
        size = course.size if count == len(messages) else sum(map(len, messages[:count]))
        self._average = size / count
        left = self._policy.max_bytes - self._open.size
        if size < left:
            return count, trigger
        fitting = bisect_left(list(accumulate(map(len, messages[:count]))), left + 1)
        return (fitting or int(not self._open.messages)), "bytes"

    def _append(self, messages: Sequence[Message], course: Course, now: float) -> Counter[str]:
        if not messages:
            return Counter()
        batch = self._open
        if not batch.messages:
            batch.opened_at = now
        for key, message in course.lasts.items():
            batch.starts.setdefault(key, self._next[key])
            batch.next_offsets[key] = self._next[key] = message.offset() + 1
        batch.lasts |= course.lasts
        batch.messages += messages
        batch.size += course.size
        return _topics(messages, course.lasts)


def _topics(messages: Sequence[Message], partitions: Collection[TopicPartition]) -> Counter[str]:
    """Records by topic; `partitions` are those that they are of."""
    topics = {topic for topic, _ in partitions}
    if len(topics) == 1:
        return Counter({topics.pop(): len(messages)})
    return Counter(message.topic() for message in messages)

"""The batch after the one that is being written: mapped meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import Future

from consumer.backlog import given_up
from consumer.batch import Batch
from consumer.errors import TopicPartition


class Ahead:
    """At most one batch, and what `prepare` promises of it. False when there is none."""

    def __init__(self, prepare: Callable[[Batch], Future[None]]) -> None:
        self._prepare = prepare
        self._batch: Batch | None = None
        self._gone: set[TopicPartition] = set()
        self.future: Future[None] | None = None

    def __bool__(self) -> bool:
        return self._batch is not None

    @property
    def busy(self) -> bool:
        """Whether there is a batch that cannot be taken yet."""
        return self.future is not None and not self.future.done()

    @property
    def opened_at(self) -> float | None:
        """When its oldest record was read (monotonic seconds)."""
        return self._batch.opened_at if self._batch else None

    def begin(self, batch: Batch) -> None:
        """Have this batch mapped; there must be none."""
        self._batch, self._gone = batch, set()
        self.future = self._prepare(batch)

    def take(self) -> Batch | None:
        """The batch, without what was released meanwhile, unless there is none, or it is busy."""
        if self._batch is None or self.busy:
            return None
        batch = self._batch.without(self._gone) if self._gone else self._batch
        self._batch = self.future = None
        return None if batch.empty else batch

    def release(self, partitions: Collection[TopicPartition]) -> Counter[str]:
        """Drop the records of these partitions. Returns how many that were, by topic."""
        if self._batch is None or not self._batch.starts.keys() & partitions:
            return Counter()
        before = self._batch.without(self._gone)
        self._gone |= set(partitions)
        return given_up(before, self._batch.without(self._gone))

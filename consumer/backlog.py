"""Batches that come again: what was not written the first time, before anything that was read later."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Iterable

from consumer.batch import Batch
from consumer.errors import TopicPartition


class Backlog:
    """Batches and parts of them, in the order in which they are to be written. False when there are none."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()

    def __bool__(self) -> bool:
        return bool(self._batches)

    def put_back(self, parts: Iterable[Batch]) -> None:
        """These come first again, in this order; empty ones do not."""
        self._batches.extendleft(part for part in reversed(list(parts)) if not part.empty)

    def take(self) -> Batch | None:
        """The next one, if there is one."""
        return self._batches.popleft() if self._batches else None

    def release(self, partitions: Collection[TopicPartition]) -> Counter[str]:
        """Drop the records of these partitions. Returns how many that were, by topic."""
        released: Counter[str] = Counter()
        for batch in list(self._batches):
            self._batches.popleft()
            kept = batch.without(partitions)
            released += given_up(batch, kept)
            if not kept.empty:
                self._batches.append(kept)
        return released


def given_up(batch: Batch, kept: Batch) -> Counter[str]:
    """How many records leave when only `kept` of a batch is gone on with; those found committed leave with the last."""
    return batch.counts() - kept.counts() + (Counter() if kept.messages else kept.skipped)

"""What an operator asks of the running loop: partitions to leave alone, and other bounds for its batches."""

from __future__ import annotations

import threading
from collections.abc import Collection

from consumer.batch import BatchPolicy
from consumer.errors import TopicPartition

EVERYTHING = "*"
MAX_PAUSES = 1000


class Steering:
    """Asked for in any thread, taken by the loop at its next turn; forgotten with the process, never with a rebalance.

    What is paused is named as people write it: a topic (`orders`), a partition (`orders/3`), or EVERYTHING.
    """

    def __init__(self, policy: BatchPolicy) -> None:
        self._lock = threading.Lock()
        self._policy, self._paused, self._asked, self._taken = policy, frozenset[str](), 0, 0

    @property
    def policy(self) -> BatchPolicy:
        """The bounds that batches have from the next one on."""
        return self._policy

    @property
    def paused(self) -> frozenset[str]:
        """What is to be left alone, by the names that were given."""
        return self._paused

    def stops(self, partition: TopicPartition) -> bool:
        """Whether this partition is to be left alone."""
        topic, number = partition
        paused = self._paused
        return bool(paused) and (EVERYTHING in paused or topic in paused or f"{topic}/{number}" in paused)

    def pause(self, names: Collection[str]) -> None:
        """Leave these alone as well."""
        with self._lock:
            self._paused |= frozenset(names)
            self._asked += 1

    def resume(self, names: Collection[str]) -> frozenset[str]:
        """Take up again what was paused by these names, and the partitions of a topic with it. Returns their names."""
        with self._lock:
            ended = frozenset(name for name in self._paused if name in names or name.partition("/")[0] in names)
            self._paused -= ended
            self._asked += 1
        return ended

    def bound(self, policy: BatchPolicy) -> None:
        """Cut batches by these bounds from now on."""
        with self._lock:
            self._policy = policy
            self._asked += 1

    def news(self) -> bool:
        """For the loop: whether something was asked for since it asked this last."""
        before, self._taken = self._taken, self._asked
        return before != self._taken

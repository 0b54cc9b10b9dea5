"""Where partitions end, read or not."""

from __future__ import annotations

from collections.abc import Callable, Collection

from consumer.ends import Ends
from consumer.errors import TopicPartition, UnavailableError
from tests.fake_kafka import MemoryBroker, MemoryCluster

A, B = ("t", 0), ("t", 1)


class Slow(MemoryCluster):
    """Answers when it is let; `away`: not at all."""

    ready, away, asked = False, False, 0

    def ask_ends(self, partitions: Collection[TopicPartition]) -> Callable[[], dict[TopicPartition, int] | None]:
        self.asked += 1
        answer = super().ask_ends(partitions)

        def look() -> dict[TopicPartition, int] | None:
            if self.away:
                raise UnavailableError("away")
            return answer() if self.ready else None

        return look


def world() -> tuple[MemoryBroker, Slow]:
    broker = MemoryBroker({"t": 2})
    for number in (0, 1, 1):
        broker.produce("t", number, b"")
    return broker, Slow(broker, "g")


def test_a_partition_that_is_not_read_is_asked_for_without_waiting() -> None:
    """Until then it is what was heard last; and never less than that."""
    _, cluster = world()
    ends = Ends({A: 1, B: 1}.get, cluster)
    assert ends.look([A], [B], 0) == {A: 1, B: 1}
    cluster.ready = True
    assert ends.look([A], [B], 1) == {A: 1, B: 2}
    assert ends.look([A, B], [], 2) == {A: 1, B: 1}  # heard again: fetching knows better


def test_it_is_asked_once_in_five_seconds_and_never_twice_at_a_time() -> None:
    """However long the answer takes, and also when there is none."""
    _, cluster = world()
    ends = Ends(lambda _: None, cluster)
    for now in range(20):
        ends.look([], [A], now)
    assert cluster.asked == 1
    cluster.away = True
    assert ends.look([], [A], 20) == {A: None}
    assert cluster.asked == 2


def test_nothing_is_asked_while_everything_is_read() -> None:
    """Kafka is told enough already."""
    _, cluster = world()
    Ends({A: 1, B: 2}.get, cluster).look([A, B], [], 0)
    assert cluster.asked == 0

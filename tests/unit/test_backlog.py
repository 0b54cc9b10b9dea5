"""What comes again comes first, and in its order."""

from __future__ import annotations

from collections.abc import Sequence

from consumer.backlog import Backlog, given_up
from consumer.batch import Batch, BatchPolicy, Collector
from tests.fake_kafka import MemoryMessage

A, B = ("t", 0), ("t", 1)


def batch_of(*offsets: int) -> Batch:
    """Records at these offsets, of two partitions in turn."""
    collector = Collector(BatchPolicy())
    collector.start({A: 0, B: 0})
    collector.add([MemoryMessage("t", index % 2, offset, b"") for index, offset in enumerate(offsets)], 0)
    collector.close("drain")
    batch = collector.take(0)
    assert batch is not None
    return batch


def taken(backlog: Backlog) -> list[list[int]]:
    """The offsets of all batches."""
    return [offsets_of(batch) for batch in iter(backlog.take, None)]


def offsets_of(batch: Batch | None) -> list[int]:
    messages: Sequence[MemoryMessage] = batch.messages if batch else []  # type: ignore[assignment]
    return [message.place for message in messages]


def test_parts_come_in_their_order_before_what_waits_already() -> None:
    """Otherwise a later record would be written, and offsets move on, before an earlier one."""
    backlog = Backlog()
    backlog.put_back([batch_of(5, 5)])
    backlog.put_back(batch_of(1, 1, 2, 2).split(2))
    assert taken(backlog) == [[1, 1], [2, 2], [5, 5]]
    assert not backlog


def test_records_of_partitions_that_leave_are_dropped_and_counted() -> None:
    """And batches that are empty then; the order of the others stays."""
    backlog = Backlog()
    backlog.put_back([batch_of(1, 1, 2), batch_of(3)])
    assert backlog.release([B]) == {"t": 1}
    assert backlog.release([B]) == {}
    assert taken(backlog) == [[1, 2], [3]]
    backlog.put_back([batch_of(1)])
    assert backlog.release([A]) == {"t": 1}
    assert not backlog


def test_what_is_given_up_of_a_batch_is_what_it_has_no_longer() -> None:
    """Records that were found committed leave with the last of it."""
    batch = batch_of(1, 1, 2)
    batch.skip({A: 2, B: 0})
    assert given_up(batch, batch.without([B])) == {"t": 1}
    assert given_up(batch, batch.without([A, B])) == {"t": 3}

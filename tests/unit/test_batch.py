"""What a batch is and when it closes."""

from __future__ import annotations

from consumer.batch import BatchPolicy, Collector
from consumer.mapping import Mapped
from consumer.table import TableRows
from tests.fake_kafka import MemoryMessage

A, B = ("t", 0), ("t", 1)


def record(partition: int, offset: int, value: bytes = b"x") -> MemoryMessage:
    return MemoryMessage("t", partition, offset, value)


def collector(policy: BatchPolicy | None = None, a: int = 0, b: int = 0) -> Collector:
    made = Collector(policy or BatchPolicy())
    made.start({A: a, B: b})
    return made


def test_a_batch_knows_where_it_starts_and_the_next_offset_of_each_partition() -> None:
    """Offsets may have holes: the start is where we stood, not the first record."""
    made = collector(a=4)
    made.add([record(0, 6), record(1, 9), record(0, 7)], now=0)
    made.close("drain")
    batch = made.take(0)
    assert batch is not None
    assert (batch.starts, batch.next_offsets) == ({A: 4, B: 0}, {A: 8, B: 10})


def test_the_trigger_is_the_bound_that_was_reached_first() -> None:
    """Records, bytes or time; an empty batch never closes."""
    made = collector(BatchPolicy(max_records=3, max_bytes=10, max_wait_ms=500))
    assert made.take(99) is None
    made.add([record(0, 0)], now=1)
    assert made.take(1.4) is None
    assert made.wait(1.4) is not None
    assert made.take(1.5).trigger == "wait"  # type: ignore[union-attr]
    made.add([record(0, n) for n in (1, 2, 3)], now=2)
    assert made.take(2).trigger == "records"  # type: ignore[union-attr]
    made.add([record(0, 4, b"x" * 6), record(0, 5, b"x" * 6)], now=3)
    first = made.take(3)
    assert first is not None
    assert (first.trigger, len(first.messages)) == ("bytes", 1)


def test_a_batch_is_taken_once_it_is_ready_and_grows_until_then() -> None:
    """A writer that is busy takes nothing: what comes meanwhile is one batch, up to its bounds."""
    made = collector(BatchPolicy(max_records=5, ready_records=2))
    assert made.room == 2
    made.add([record(0, 0)], now=0)
    assert (made.ready, made.room, made.take(0)) == (False, 1, None)
    made.add([record(0, 1)], now=0)
    assert (made.ready, made.room, made.waiting) == (True, 2, False)
    made.add([record(0, 2), record(0, 3)], now=0)
    assert (made.room, made.waiting) == (1, False)
    batch = made.take(0)
    assert batch is not None
    assert (batch.trigger, len(batch.messages)) == ("ready", 4)
    made.add([record(0, n) for n in range(4, 9)], now=0)
    assert made.waiting
    assert made.take(0).trigger == "records"  # type: ignore[union-attr]


def test_few_records_are_asked_for_until_their_size_is_known() -> None:
    """5,000 of 100 kB would be 500 MB at once; after the first ones no more are read than a batch takes."""
    made = collector(BatchPolicy(max_bytes=1_000_000))
    assert made.room * 1_000_000 <= 16_000_000
    made.add([record(0, 0, b"x" * 100_000)], now=0)
    assert made.room == 10


def test_a_record_above_the_bytes_is_a_batch_of_its_own() -> None:
    """It is neither lost nor does it drag others along."""
    made = collector(BatchPolicy(max_bytes=10))
    made.add([record(0, 0), record(0, 1, b"x" * 50), record(0, 2)], now=0)
    assert [len(b.messages) for b in iter(lambda: made.take(0), None)] == [1, 1]
    assert made.records == {"t": 1}


def test_records_of_partitions_that_do_not_flow_and_repeats_are_left_out() -> None:
    """Whoever owns them reads them again."""
    made = collector(a=5)
    counts = made.add([record(0, 4), record(0, 5), record(7, 0), record(1, 0)], now=0)
    assert counts == {"t": 2}


def test_records_of_a_partition_that_went_away_leave_every_batch() -> None:
    """Nothing of it is written; the others stay in order."""
    made = collector(BatchPolicy(max_records=2))
    made.add([record(0, 0), record(1, 0), record(0, 1), record(1, 1), record(1, 2)], now=0)
    assert made.drop([A]) == {"t": 2}
    made.close("drain")
    batches = list(iter(lambda: made.take(0), None))
    assert [m.offset() for b in batches for m in b.messages] == [0, 1, 2]
    assert all(b.next_offsets.keys() == {B} for b in batches)


def test_records_that_were_committed_already_leave_a_batch_that_is_tried_again() -> None:
    """The stored next offset says which."""
    made = collector()
    made.add([record(0, 0), record(0, 1), record(1, 0)], now=0)
    made.close("drain")
    batch = made.take(0)
    assert batch is not None
    batch.skip({A: 1, B: 0})
    assert batch.skipped == {"t": 1}
    assert [(m.partition(), m.offset()) for m in batch.messages] == [(0, 1), (1, 0)]
    assert batch.starts == {A: 1, B: 0}


def test_a_batch_can_be_split_and_its_parts_join() -> None:
    """The rest starts where the head ends, partition by partition; what was made of the records goes with them."""
    made = collector(BatchPolicy(max_records=5))
    made.add([record(0, 0), record(0, 1), record(0, 5), record(1, 0), record(1, 1)], now=0)
    batch = made.take(0)
    assert batch is not None
    batch.prepared = Mapped([TableRows("n", ("id",), [(o,) for o in range(5)], list(range(5)))])
    head, rest = batch.split(2)
    assert (head.starts, head.next_offsets) == ({A: 0}, {A: 2})
    assert (rest.starts, rest.next_offsets) == ({A: 2, B: 0}, {A: 6, B: 2})
    assert rest.prepared == Mapped([TableRows("n", ("id",), [(2,), (3,), (4,)], [0, 1, 2])])


def test_records_without_a_value_are_asked_for_by_the_thousand() -> None:
    """Their size is known, and is nothing: only while no record was seen are few asked for."""
    made = collector(BatchPolicy(max_records=5000))
    assert made.room == 16
    made.add([record(0, 0, b"")], now=0)
    assert made.room == 4999

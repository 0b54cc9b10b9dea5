"""What a batch is and when it closes."""

from __future__ import annotations

from dataclasses import dataclass

from consumer.batch import Batch, BatchPolicy


@dataclass
class FakeMessage:
    p: int
    o: int
    v: bytes = b"x"

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return self.p

    def offset(self) -> int:
        return self.o

    def value(self) -> bytes:
        return self.v


def test_next_offsets_are_one_past_the_last_record_of_each_partition() -> None:
    """A committed offset is the next one to read."""
    batch = Batch()
    batch.add([FakeMessage(0, 4), FakeMessage(1, 9), FakeMessage(0, 7)], now=0)
    assert batch.next_offsets == {("t", 0): 8, ("t", 1): 10}


def test_the_reason_for_closing_is_the_bound_that_was_reached() -> None:
    """Records before bytes before time; an empty batch never closes."""
    policy = BatchPolicy(max_records=2, max_bytes=10, max_wait_ms=500)
    batch = Batch()
    assert batch.trigger(policy, now=99) is None
    batch.add([FakeMessage(0, 0)], now=1)
    assert batch.trigger(policy, now=1.4) is None
    assert batch.trigger(policy, now=1.5) == "wait"
    batch.add([FakeMessage(0, 1, b"x" * 20)], now=1)
    assert batch.trigger(policy, now=1) == "records"
    assert batch.trigger(BatchPolicy(3, 10, 500), now=1) == "bytes"


def test_records_of_a_partition_that_went_away_leave_the_batch() -> None:
    """Nothing of a revoked partition is written or committed."""
    batch = Batch()
    batch.add([FakeMessage(0, 4), FakeMessage(1, 9)], now=0)
    kept = batch.without(frozenset({("t", 0)}))
    assert kept.next_offsets == {("t", 1): 10}
    assert len(kept.messages) == 1

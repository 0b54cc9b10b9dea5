"""Batches are what was read, each record once and in order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from consumer.batch import Batch, BatchPolicy, Collector
from tests.fake_kafka import MemoryMessage
from tests.unit.test_batch import A, B, record

polls = st.lists(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 30)), max_size=12), max_size=12)


@given(polls, st.integers(1, 7), st.integers(1, 60), st.integers(1, 9))
def test_batches_are_a_bounded_partition_of_what_was_read(
    sizes: list[list[tuple[int, int]]], max_records: int, max_bytes: int, ready: int
) -> None:
    """Every record once, in order, each batch within both bounds and joined to the one before."""
    made = Collector(BatchPolicy(max_records, max_bytes, 0, ready))
    made.start({A: 0, B: 0})
    offsets = [0, 0]
    read: list[MemoryMessage] = []
    batches: list[Batch] = []
    for poll in sizes:
        messages = []
        for partition, size in poll:
            messages.append(record(partition, offsets[partition], b"x" * size))
            offsets[partition] += 1
        read += messages
        assert sum(made.add(messages, 0).values()) == len(messages)
        batches += iter(lambda: made.take(0), None)
    assert [m for batch in batches for m in batch.messages] == read
    position = {A: 0, B: 0}
    for batch in batches:
        assert len(batch.messages) <= max_records
        assert batch.size <= max_bytes or len(batch.messages) == 1
        assert batch.starts == {key: position[key] for key in batch.starts}
        position |= batch.next_offsets
        assert batch.counts() == {"t": len(batch.messages)}


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 12), st.integers(1, 6)), max_size=8))
def test_a_step_back_is_never_taken(runs: list[tuple[int, int, int]]) -> None:
    """Records of a former position, wherever they come among others, are left out: offsets only rise."""
    made = Collector(BatchPolicy(1000))
    made.start({A: 3, B: 0})
    read = [record(p, first + n) for p, first, count in runs for n in range(count)]
    made.add(read, 0)
    made.close("drain")
    batch = made.take(0)
    for key in (A, B):
        taken = [m.offset() for m in (batch.messages if batch else []) if m.partition() == key[1]]
        assert taken == sorted(set(taken))
        assert all(offset >= 3 for offset in taken if key == A)
        if batch and taken:
            assert batch.next_offsets[key] == taken[-1] + 1

"""Bulk first, then halves: what the writer does with a batch."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer.batch import Batch, BatchPolicy, Collector
from consumer.errors import DecodeError, FatalError, FencedError, TopicPartition, UnavailableError
from consumer.mapping import Failure, Mapped
from consumer.record import Message
from consumer.sinks import Position
from consumer.table import Column, Kind, Table, TableRows, Target
from consumer.writer import Writer
from tests.fake_kafka import MemoryMessage
from tests.fakes import MemoryDatabase, MemorySink, MemoryTable

A, B = ("t", 0), ("t", 1)
ID = Column("id", Kind.INTEGER, "bigint", nullable=False, minimum=0, maximum=999)


class NumberMapper:
    """A record holds a number: a row. `-` makes no row; anything else cannot be decoded."""

    def map(self, messages: Sequence[Message]) -> Mapped:
        rows, ordinals, failures = [], [], []
        for ordinal, message in enumerate(messages):
            value = message.value() or b""
            if value.isdigit():
                rows.append((int(value),))
                ordinals.append(ordinal)
            elif value != b"-":
                failures.append(Failure(ordinal, DecodeError("not a number")))
        return Mapped([TableRows("numbers", ("id",), rows, ordinals)] if rows else [], failures)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        pass


class LossySink(MemorySink):
    """Loses the answer of the next COMMIT, which succeeds or not as `lose` says."""

    lose: bool | None = None

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        lost, self.lose = self.lose, None
        if lost is not True:
            super().commit(next_offsets)
        if lost is not None:
            self.rollback()
            raise UnavailableError("the connection is gone")


@pytest.fixture
def database() -> MemoryDatabase:
    return fresh()


def fresh() -> MemoryDatabase:
    return MemoryDatabase(MemoryTable(Table("numbers", {"id": ID}, (("id",),))))


def joined(database: MemoryDatabase, owner: str = "me") -> tuple[Writer, LossySink]:
    sink = LossySink(database, [Target("numbers")], "g", owner)
    writer = Writer(sink, NumberMapper())
    writer.claim({key: Position(0, "c", "i") for key in (A, B)})
    return writer, sink


def batch_of(*values: bytes, first: int = 0, partitions: int = 1) -> Batch:
    collector = Collector(BatchPolicy(max_records=100_000))
    collector.start({A: first, B: first})
    counts = [first, first]
    messages = []
    for index, value in enumerate(values):
        partition = index % partitions
        messages.append(MemoryMessage("t", partition, counts[partition], value))
        counts[partition] += 1
    collector.add(messages, 0)
    collector.close("drain")
    batch = collector.take(0)
    assert batch is not None
    return batch


def stored(database: MemoryDatabase) -> list[int]:
    return [row["id"] for row in database.rows("numbers")]


def next_offset(database: MemoryDatabase, key: TopicPartition = A) -> int:
    return database.offsets["g", *key].position.next_offset


def test_a_batch_and_its_offsets_are_one(database: MemoryDatabase) -> None:
    """All rows are in, and the next offset is one past the last record."""
    writer, _ = joined(database)
    written = writer.write(batch_of(b"1", b"2", b"3", partitions=2))
    assert stored(database) == [1, 2, 3]
    assert (next_offset(database, A), next_offset(database, B)) == (2, 1)
    assert (written.records, written.failure) == ({"t": 3}, None)


def test_records_that_make_no_row_move_the_offset_on(database: MemoryDatabase) -> None:
    """They are counted as filtered, and never read again."""
    writer, _ = joined(database)
    written = writer.write(batch_of(b"-", b"1", b"-"))
    assert (written.records, written.filtered) == ({"t": 1}, {"t": 2})
    assert next_offset(database) == 3


@pytest.mark.parametrize("bad", [b"x", b"1", b"5000"], ids=["decode", "unique", "range"])
def test_everything_before_the_first_bad_record_is_written_and_nothing_after(
    database: MemoryDatabase, bad: bytes
) -> None:
    """The offset stands on the bad record, which is named."""
    writer, _ = joined(database)
    written = writer.write(batch_of(b"1", b"2", b"3", bad, b"4", b"x", b"5"))
    assert stored(database) == [1, 2, 3]
    assert next_offset(database) == 3
    assert written.failure is not None
    assert written.failure.ordinal == 3
    assert written.records == {"t": 3}


def test_a_bad_first_record_commits_nothing(database: MemoryDatabase) -> None:
    """The offset stays where it was."""
    writer, _ = joined(database)
    written = writer.write(batch_of(b"x", b"1"))
    assert (stored(database), next_offset(database), written.next_offsets) == ([], 0, {})


@pytest.mark.parametrize("lost", [True, False], ids=["before", "after"])
def test_a_commit_without_an_answer_is_found_out(database: MemoryDatabase, lost: bool) -> None:
    """Whether it had succeeded or not, every row is in once."""
    writer, sink = joined(database)
    batch = batch_of(b"1", b"2")
    sink.lose = lost
    with pytest.raises(UnavailableError):
        writer.write(batch)
    written = writer.write(batch)
    assert stored(database) == [1, 2]
    assert written.records == {"t": 2}
    assert writer.write(batch_of(b"3", first=2)).records == {"t": 1}


def test_a_commit_without_an_answer_of_part_of_a_batch_is_found_out(database: MemoryDatabase) -> None:
    """The bad record that ended the batch is still named, and nothing is written twice."""
    writer, sink = joined(database)
    batch = batch_of(b"1", b"2", b"5000", b"3")
    sink.lose = False
    with pytest.raises(UnavailableError):
        writer.write(batch)
    written = writer.write(batch)
    assert stored(database) == [1, 2]
    assert written.failure is not None
    assert batch.messages[written.failure.ordinal].value() == b"5000"


def test_partitions_that_somebody_else_claimed_are_named_and_the_rest_can_be_written(
    database: MemoryDatabase,
) -> None:
    """A zombie writes nothing of what it lost."""
    writer, _ = joined(database)
    successor = MemorySink(database, [], "g", "other")
    successor.claim({B: Position(0, "c", "i")})
    batch = batch_of(b"1", b"2", b"3", partitions=2)
    with pytest.raises(FencedError) as caught:
        writer.write(batch)
    assert caught.value.partitions == {B}
    writer.write(batch.without(caught.value.partitions))
    assert stored(database) == [1, 3]


def test_after_an_outage_a_lost_partition_is_noticed_too(database: MemoryDatabase) -> None:
    """The conditional claim answers only for what is still ours."""
    writer, sink = joined(database)
    batch = batch_of(b"1", b"2", partitions=2)
    sink.lose = True
    with pytest.raises(UnavailableError):
        writer.write(batch)
    MemorySink(database, [], "g", "other").claim({A: Position(0, "c", "i")})
    with pytest.raises(FencedError):
        writer.write(batch)
    writer.write(batch.without({A}))
    assert stored(database) == [2]


def test_a_batch_that_does_not_join_the_last_one_is_our_own_defect(database: MemoryDatabase) -> None:
    """It stops at once instead of leaving a hole."""
    writer, _ = joined(database)
    with pytest.raises(FatalError, match="the batch starts at"):
        writer.write(batch_of(b"1", first=5))


@given(st.lists(st.sampled_from([b"ok", b"-", b"x", b"range", b"twice"]), min_size=1, max_size=40))
def test_the_first_bad_record_is_found_wherever_it_is(kinds: list[bytes]) -> None:
    """The same answer as trying one record after the other."""
    database = fresh()
    writer, _ = joined(database)
    values = {b"-": b"-", b"x": b"x", b"range": b"5000", b"twice": b"7"}
    payloads = [values.get(kind, b"%d" % (100 + index)) for index, kind in enumerate(kinds)]
    expected, ids = len(payloads), []
    for index, payload in enumerate(payloads):
        if payload in (b"x", b"5000") or (payload == b"7" and 7 in ids):
            expected = index
            break
        if payload != b"-":
            ids.append(int(payload))
    written = writer.write(batch_of(*payloads))
    assert (written.failure.ordinal if written.failure else len(payloads)) == expected
    assert stored(database) == ids
    assert next_offset(database) == expected

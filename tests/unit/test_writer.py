"""Bulk first, dead letters for what is refused: what the writer does with a batch."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping, Sequence

import pytest

from consumer.batch import Batch, BatchPolicy, Collector
from consumer.breaker import Breaker
from consumer.errors import DecodeError, Failure, FatalError, FencedError, HeldError, TopicPartition, UnavailableError
from consumer.letter import Coordinates
from consumer.mapping import Mapped
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

    away = False

    def map(self, messages: Sequence[Message]) -> Mapped:
        if self.away:
            raise UnavailableError("schema registry: HTTP 503")
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


def joined(database: MemoryDatabase, owner: str = "me", max_consecutive: int = 500) -> tuple[Writer, LossySink]:
    sink = LossySink(database, [Target("numbers")], "g", owner)
    writer = Writer(sink, NumberMapper(), Breaker(max_consecutive, 1.0))
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


def letters(database: MemoryDatabase) -> dict[Coordinates, bytes | None]:
    return {key: letter.value for key, letter in database.letters.get("g", {}).items()}


def next_offset(database: MemoryDatabase, key: TopicPartition = A) -> int:
    return database.offsets["g", *key].position.next_offset


def test_a_batch_and_its_offsets_are_one(database: MemoryDatabase) -> None:
    """All rows are in, and the next offset is one past the last record."""
    writer, _ = joined(database)
    written = writer.write(batch_of(b"1", b"2", b"3", partitions=2))
    assert stored(database) == [1, 2, 3]
    assert (next_offset(database, A), next_offset(database, B)) == (2, 1)
    assert (written.records, written.letters) == ({"t": 3}, [])


def test_what_mapping_waits_for_leaves_the_database_alone(database: MemoryDatabase) -> None:
    """Nothing is begun, nothing of the try is remembered, and the same batch is written when it works."""
    sink, mapper = LossySink(database, [Target("numbers")], "g", "me"), NumberMapper()
    writer = Writer(sink, mapper, Breaker(0, 0.0))
    writer.claim({key: Position(0, "c", "i") for key in (A, B)})
    before, batch = dict(database.offsets), batch_of(b"1", b"2")
    mapper.away = True
    for _ in range(3):
        assert isinstance(writer.prepare(batch).exception(), UnavailableError)
        with pytest.raises(UnavailableError, match="schema registry"):
            writer.write(batch)
    assert (database.offsets, batch.attempted, batch.prepared) == (before, False, None)
    mapper.away = False
    assert writer.write(batch).records == {"t": 2}
    assert stored(database) == [1, 2]


def test_what_is_mapped_ahead_is_not_mapped_again_and_always_in_one_thread(database: MemoryDatabase) -> None:
    """A user's transform sees each record once, in order, and may keep what belongs to its thread."""
    calls: list[tuple[int, list[int | None]]] = []

    class Noting(NumberMapper):
        def map(self, messages: Sequence[Message]) -> Mapped:
            calls.append((threading.get_ident(), [message.offset() for message in messages]))
            return super().map(messages)

    writer = Writer(LossySink(database, [Target("numbers")], "g", "me"), Noting(), Breaker(0, 0.0))
    writer.claim({key: Position(0, "c", "i") for key in (A, B)})
    first, second = batch_of(b"1", b"2"), batch_of(b"3", first=2)
    second.starts = {A: 2}
    writer.prepare(first)
    writer.prepare(second).result()
    for batch in (first, second):
        writer.write(batch)
    writer.write(batch_of(b"4", first=3))
    assert [offsets for _, offsets in calls] == [[0, 1], [2], [3]]
    assert len({thread for thread, _ in calls} - {threading.get_ident()}) == 1
    assert stored(database) == [1, 2, 3, 4]


def test_records_that_make_no_row_move_the_offset_on(database: MemoryDatabase) -> None:
    """They are counted as filtered, and never read again."""
    writer, _ = joined(database)
    written = writer.write(batch_of(b"-", b"1", b"-"))
    assert (written.records, written.filtered) == ({"t": 1}, {"t": 2})
    assert next_offset(database) == 3


@pytest.mark.parametrize("bad", [b"x", b"1", b"5000"], ids=["decode", "unique", "range"])
def test_a_bad_record_becomes_a_dead_letter_and_all_others_are_written(database: MemoryDatabase, bad: bytes) -> None:
    """One COMMIT has the rows, the dead letters and the offsets."""
    writer, _ = joined(database)
    written = writer.write(batch_of(b"1", b"2", bad, b"4", b"x", b"-"))
    assert stored(database) == [1, 2, 4]
    assert next_offset(database) == 6
    assert letters(database) == {("t", 0, 2): bad, ("t", 0, 4): b"x"}
    assert (written.records, written.filtered, written.rows) == ({"t": 3}, {"t": 1}, {"numbers": 3})


def test_a_dead_letter_says_why(database: MemoryDatabase) -> None:
    """Stage, state, table: what an operator asks first; and the batch, for the logs."""
    writer, _ = joined(database)
    first, second = writer.write(batch_of(b"1", b"1", b"x")).letters
    told = first.evidence
    assert (told.stage, told.error, told.sqlstate, told.table) == ("write", "RejectedError", "23505", "numbers")
    assert (second.evidence.stage, second.evidence.error) == ("decode", "DecodeError")
    assert told.batch == second.evidence.batch != ""


def test_too_many_bad_records_keep_nothing(database: MemoryDatabase) -> None:
    """The breaker opens within the batch: no row, no dead letter, no offset."""
    writer, _ = joined(database, max_consecutive=2)
    batch = batch_of(b"1", b"5000", b"x", b"5001", b"2")
    with pytest.raises(
        HeldError, match=r"more than 2 records in a row.*; the first is t partition 0 offset 1 \(write: "
    ):
        writer.write(batch)
    assert (stored(database), letters(database), next_offset(database)) == ([], {}, 0)
    writer.breaker.accept()
    writer.write(batch)
    assert (stored(database), len(letters(database)), next_offset(database)) == ([1, 2], 3, 5)


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


def test_a_commit_without_an_answer_has_its_dead_letters_once(database: MemoryDatabase) -> None:
    """What the lost answer would have said is known, and told when it is found out."""
    writer, sink = joined(database)
    batch = batch_of(b"1", b"2", b"5000", b"3")
    sink.lose = False
    with pytest.raises(UnavailableError):
        writer.write(batch)
    written = writer.write(batch)
    assert stored(database) == [1, 2, 3]
    assert letters(database) == {("t", 0, 2): b"5000"}
    assert (written.records, len(written.letters)) == ({"t": 3}, 1)


def test_after_the_end_of_a_partition_what_was_committed_counts_as_duplicate(database: MemoryDatabase) -> None:
    """A lost answer, and then a partition gone: of the rest it is only known that it is in."""
    writer, sink = joined(database)
    batch = batch_of(b"1", b"2", b"3", partitions=2)
    sink.lose = False
    with pytest.raises(UnavailableError):
        writer.write(batch)
    MemorySink(database, [], "g", "other").claim({B: Position(0, "c", "i")})
    with pytest.raises(FencedError):
        writer.write(batch)
    written = writer.write(batch.without({B}))
    assert (written.records, written.duplicates, stored(database)) == ({}, {"t": 2}, [1, 2, 3])


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

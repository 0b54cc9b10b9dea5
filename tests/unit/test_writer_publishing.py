"""What the writer does with the topic of dead letters: only what the topic confirmed counts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from consumer.batch import Batch, BatchPolicy, Collector
from consumer.breaker import Breaker
from consumer.errors import DecodeError, Failure, TopicPartition, UnavailableError
from consumer.letter import DeadLetter, State
from consumer.mapping import Mapped
from consumer.outbox import Receipt
from consumer.record import Message
from consumer.sinks import Position
from consumer.table import Column, Kind, Table, TableRows, Target
from consumer.writer import Writer
from tests.fake_kafka import MemoryMessage
from tests.fakes import MemoryDatabase, MemoryOutbox, MemorySink, MemoryTable, MemoryTopics

A = ("t", 0)
BODY = Column("body", Kind.BYTES, "bytea")


class BodyMapper:
    """A record is a row; one that starts with `x` cannot be decoded."""

    def map(self, messages: Sequence[Message]) -> Mapped:
        bodies = [message.value() or b"" for message in messages]
        good = [i for i, body in enumerate(bodies) if body[:1] != b"x"]
        failures = [Failure(i, DecodeError("no")) for i in range(len(bodies)) if i not in good]
        return Mapped([TableRows("bodies", ("body",), [(bodies[i],) for i in good], good)], failures)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        pass


class LateOutbox(MemoryOutbox):
    """A letter arrives at the second wait for it, or at the second look."""

    looks = 0

    def receipts(self) -> list[Receipt]:
        self.looks += 1
        return super().receipts() if self.looks % 2 == 0 else []


class World:
    """A table, a topic of dead letters, and a writer."""

    def __init__(self, *, exactly_once: bool = True, keep_payload: bool = True) -> None:
        self.database = MemoryDatabase(MemoryTable(Table("bodies", {"body": BODY})))
        self.topics = MemoryTopics()
        sink = MemorySink(self.database, [Target("bodies")], "g", "me", exactly_once=exactly_once)
        outbox = LateOutbox(self.topics)
        self.writer = Writer(sink, BodyMapper(), Breaker(100, 1.0), outbox, keep_payload=keep_payload)
        self.writer.claim({A: Position(0, "c", "i")})

    def letters(self) -> list[DeadLetter]:
        return [one for _, one in sorted(self.database.letters.get("g", {}).items())]

    def states(self) -> list[State]:
        return [one.state for one in self.letters()]

    def bodies(self) -> list[bytes]:
        return [row["body"] for row in self.database.rows("bodies")]


def batch_of(*values: bytes) -> Batch:
    collector = Collector(BatchPolicy())
    collector.start({A: 0})
    collector.add([MemoryMessage("t", 0, offset, value) for offset, value in enumerate(values)], 0)
    collector.close("drain")
    batch = collector.take(0)
    assert batch is not None
    return batch


def test_only_what_the_topic_confirmed_is_marked() -> None:
    """Handed over is not yet there; publishing goes on until it is."""
    world = World()
    world.writer.write(batch_of(b"1", b"x", b"x2"))
    first = world.writer.publish([A])
    assert (first.delivered, first.pending, first.in_flight) == (0, 2, 2)
    assert world.states() == [State.PENDING] * 2
    second = world.writer.publish([A])
    assert (second.delivered, second.pending) == (2, 0)
    assert world.states() == [State.PUBLISHED] * 2


def test_what_the_topic_refuses_stays_pending() -> None:
    """It is told why, and handed over again."""
    world = World()
    world.writer.write(batch_of(b"x"))
    world.topics.refuses = "it is not there"
    world.writer.publish([A])
    told = world.writer.publish([A])
    assert (told.delivered, told.errors, told.pending) == (0, ["it is not there"], 1)
    assert world.states() == [State.PENDING]
    world.topics.refuses = ""
    for _ in range(2):
        world.writer.publish([A])
    assert world.states() == [State.PUBLISHED]


def test_a_topic_that_does_not_answer_leaves_them_pending() -> None:
    """However often it is asked."""
    world = World()
    world.writer.write(batch_of(b"x"))
    world.topics.online = False
    assert [world.writer.publish([A]).delivered for _ in range(5)] == [0] * 5
    assert world.states() == [State.PENDING]


@pytest.mark.parametrize(("keep", "value"), [(True, b"x"), (False, None)])
def test_the_table_forgets_payloads_only_if_told_so(keep: bool, value: bytes | None) -> None:
    """And only once the topic has them."""
    world = World(keep_payload=keep)
    world.writer.write(batch_of(b"x"))
    assert world.letters()[0].value == b"x"
    for _ in range(2):
        world.writer.publish([A])
    assert world.letters()[0].value == value


def test_without_a_table_a_batch_is_done_when_every_letter_is_confirmed() -> None:
    """Before that, offsets would go on past a record that is nowhere."""
    world = World(exactly_once=False)
    world.writer.write(batch_of(b"1", b"x", b"x2", b"2"))
    assert [letter.value for letter in world.topics.letters] == [b"x", b"x2"]
    assert (world.bodies(), world.letters()) == ([b"1", b"2"], [])


def test_without_a_table_a_batch_is_not_done_while_the_topic_refuses() -> None:
    """It is an outage; the rows are not written again when it is over."""
    world = World(exactly_once=False)
    batch = batch_of(b"1", b"x")
    world.topics.refuses = "it is not there"
    for _ in range(2):
        with pytest.raises(UnavailableError, match="it is not there"):
            world.writer.write(batch)
    assert world.topics.letters == []
    world.topics.refuses = ""
    written = world.writer.write(batch)
    assert (world.bodies(), [letter.value for letter in world.topics.letters]) == ([b"1"], [b"x"])
    assert (written.records.total(), len(written.letters)) == (1, 1)

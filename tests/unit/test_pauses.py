"""A partition is not fetched as long as there is a reason for that."""

from __future__ import annotations

import pytest

from consumer.errors import TopicPartition
from consumer.pauses import BACKPRESSURE, TURN, Pauses
from tests.fake_kafka import MemoryBroker, MemorySource, Notes

KEYS = A, B, C = [("t", number) for number in range(3)]


class World:
    """Three partitions that flow."""

    def __init__(self) -> None:
        self.broker = MemoryBroker({"t": len(KEYS)})
        self.source = MemorySource(self.broker, "g", ["t"])
        self.source.open(Notes())
        self.source.poll(1, 0)
        self.source.start(dict.fromkeys(KEYS, 0))
        self.pauses = Pauses(self.source)

    def fetched(self) -> list[TopicPartition]:
        """The partitions of which a record comes that is there now."""
        for topic, number in KEYS:
            self.broker.produce(topic, number, b"1")
        return sorted({(message.topic(), message.partition()) for message in self.source.poll(1000, 0)})


@pytest.fixture
def world() -> World:
    return World()


def test_what_is_paused_is_not_fetched_until_it_is_no_longer(world: World) -> None:
    world.pauses.set(BACKPRESSURE, [A, B])
    assert world.fetched() == [C]
    world.pauses.set(BACKPRESSURE, [B, C])
    assert world.fetched() == [A]
    assert world.pauses.reasons() == {B: BACKPRESSURE, C: BACKPRESSURE}
    world.pauses.set(BACKPRESSURE, [])
    assert world.fetched() == KEYS


@pytest.mark.parametrize(("first", "second"), [(BACKPRESSURE, TURN), (TURN, BACKPRESSURE)])
def test_the_last_reason_counts(world: World, first: str, second: str) -> None:
    """A database that takes records again does not end a turn, nor the other way round."""
    world.pauses.set(first, KEYS)
    world.pauses.set(second, [A, B])
    world.pauses.set(first, [])
    assert world.fetched() == [C]
    world.pauses.set(second, [])
    assert world.fetched() == KEYS


def test_what_has_flowed_anew_is_fetched(world: World) -> None:
    """It was claimed again, and nobody remembers why it was paused."""
    world.pauses.set(BACKPRESSURE, KEYS)
    world.pauses.forget([A])
    world.source.start({A: 0})
    assert world.fetched() == [A]
    world.pauses.set(BACKPRESSURE, KEYS)
    assert world.fetched() == []

"""What a member leaves behind: records that it gives back are told as released, and its dead letters are published."""

from __future__ import annotations

from consumer.letter import State
from tests.property.test_pipeline import World, until


def test_records_of_partitions_that_leave_are_released() -> None:
    """Of those that wait for a database that is away, none is forgotten in the sums."""
    world = World()
    world.produce(40)
    with world.member(max_records=1000) as member:
        until(lambda: len(world.numbers()) == 40)
        world.database.online = False
        world.produce(50)  # these are tried again and again
        until(lambda: [event["event"] for event in member.telemetry.status()["events"]][-1:] == ["retry"])
        world.produce(50)  # and these are in a batch that is open
        until(lambda: member.telemetry.status()["records"]["in_flight"] == 100)
        with world.member():
            until(lambda: member.telemetry.status()["records"]["released"] == 50)
            found = member.telemetry.status()["records"]
            assert found["consumed"] == sum(found.values()) - found["consumed"]
            world.database.online = True
            until(lambda: len(world.numbers()) == 140)
    found = member.telemetry.status()["records"]
    assert found["consumed"] == found["written"] + found["released"]
    assert world.numbers() == list(range(140))


def test_pending_letters_of_another_life_are_published() -> None:
    """Whoever owns a partition publishes what is pending of it, also if nothing new is at fault."""
    world = World()
    world.topics.refuses = "unknown topic"
    world.produce(12, [3, 4, 5])
    with world.member():
        until(lambda: len(world.letters()) == 3)
    assert {one.state for one in world.letters().values()} == {State.PENDING}
    world.topics.refuses = ""
    with world.member():
        until(lambda: {one.state for one in world.letters().values()} == {State.PUBLISHED})
    assert sorted(int((one.value or b"")[1:]) for one in world.topics.letters) == [3, 4, 5]

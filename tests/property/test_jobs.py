"""A job ends at what was there at its start: nothing less, nothing more, whatever fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.errors import TopicPartition
from consumer.goal import Goal
from tests.contract.test_source import Notes
from tests.fake_kafka import MemorySource
from tests.property.test_pipeline import PARTITIONS, Member, World, faults, until

KEYS = [("t", number) for number in range(PARTITIONS)]


def goal_of(world: World) -> Goal:
    """To the ends as they are now."""

    def stored() -> Callable[[], Mapping[TopicPartition, int]]:
        with world.database.changed:
            rows = dict(world.database.offsets)
        return lambda: {(topic, number): row.position.next_offset for (_, topic, number), row in rows.items()}

    return Goal({key: world.broker.logs[key].end for key in KEYS}, stored=stored)


def job(world: World) -> Member:
    return world.member(goal=goal_of(world))


def stored(world: World) -> dict[TopicPartition, int]:
    return {key[1:]: row.position.next_offset for key, row in world.database.offsets.items()}


@settings(max_examples=25, deadline=None)
@given(faults, st.integers(0, 60), st.sets(st.integers(0, 59), max_size=20), st.sets(st.sampled_from(KEYS)))
def test_a_job_moves_exactly_what_was_there(
    plan: list[str], records: int, bad: set[int], marked: set[TopicPartition]
) -> None:
    """Bad records, outages, ends without a record, and more records than there were at the start; it ends by itself."""
    world = World()
    world.produce(records, bad)
    for key in marked:
        world.broker.mark(*key)
    ends = goal_of(world).targets
    with world.member(plan, goal=Goal(ends)) as member:
        world.produce(40)
        outcome = member.running.result(20)
    assert member.goal.complete is (outcome == "stopped")
    if outcome == "killed":
        with world.member(goal=Goal(ends)) as member:
            assert member.running.result(20) == "stopped"
    assert sorted([*world.numbers(), *world.letters()]) == list(range(records))
    assert stored(world) == ends


def test_two_members_end_together() -> None:
    """Neither before all is done, the other's partitions included; a third that comes late ends as well."""
    world = World()
    world.produce(400)
    for key in KEYS:
        world.broker.mark(*key)
    with job(world) as first, job(world) as second:
        assert {first.running.result(20), second.running.result(20)} == {"stopped"}
    assert first.goal.complete
    assert second.goal.complete
    assert world.numbers() == list(range(400))
    with job(world) as third:
        assert third.running.result(20) == "stopped"


def test_what_a_vanished_member_still_has_is_waited_for() -> None:
    """By Kafka it owns partitions that nobody reads: they are not done, and come when its session is over."""
    world = World()
    world.produce(100)
    ghost = MemorySource(world.broker, "g", ["t"])
    ghost.open(Notes())
    with job(world) as member:
        ghost.poll(1, 0)
        until(lambda: len(world.numbers()) == 50)
        until(lambda: bool(stored(world)) and member.goal.left == [key for key in KEYS if key in ghost.owned])
        assert not member.running.done()
        ghost.vanish()
        assert member.running.result(20) == "stopped"
    assert world.numbers() == list(range(100))


def test_a_hold_is_waited_for() -> None:
    """A gap is never passed in silence; when it is told to stop, the job is not complete."""
    world = World()
    world.produce(40)
    world.quiesce()
    world.produce(40)
    world.broker.delete_before("t", 0, 15)
    with job(world) as member:
        until(lambda: len(world.numbers()) == 70)
        assert not member.running.done()
    assert not member.goal.complete
    assert member.goal.left == [("t", 0)]


def test_a_partition_that_an_operator_paused_is_waited_for() -> None:
    """It goes on when it is resumed."""
    world = World()
    world.produce(40)
    member = job(world)
    member.steering.pause(["t/1"])
    with member:
        until(lambda: len(world.numbers()) == 30)
        assert not member.running.done()
        member.steering.resume(["t/1"])
        assert member.running.result(20) == "stopped"
    assert world.numbers() == list(range(40))

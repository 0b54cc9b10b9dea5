"""What an operator asks of the running loop: nothing is lost or written twice by it, whenever it comes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batch import BatchPolicy
from consumer.steering import EVERYTHING
from tests.property.test_pipeline import PARTITIONS, Member, World
from tests.property.test_pipeline import until as waited

PAUSED = "t/1"


def until(condition: Callable[[], bool]) -> None:
    waited(condition)
    assert condition()


def written(world: World, partition: int) -> list[int]:
    return sorted(row["number"] for row in world.database.rows("seen") if row["partition"] == partition)


def told(member: Member, partition: str) -> dict[str, object]:
    return member.telemetry.status()["partitions"].get(partition, {})


def test_a_paused_partition_stops_and_the_others_flow() -> None:
    """Until it is resumed: then it goes on at the very next record."""
    world = World()
    world.produce(40)
    with world.member() as member:
        until(lambda: len(world.numbers()) == 40)
        member.steering.pause({PAUSED})
        until(lambda: member.metrics.value("partitions_paused", reason="operator") == 1)
        world.produce(40)
        until(lambda: len(world.numbers()) == 70)
        until(lambda: told(member, PAUSED)["lag"] == 10)
        assert (told(member, PAUSED)["phase"], told(member, PAUSED)["paused"]) == ("paused", "operator")
        assert len(written(world, 1)) == 10
        assert member.telemetry.health().ready
        member.steering.resume({PAUSED})
        until(lambda: len(world.numbers()) == 80)
    assert world.numbers() == list(range(80))


def test_a_pause_outlives_a_rebalance() -> None:
    """A partition that comes back to the same process is still left alone, and not claimed."""
    world = World()
    world.produce(40)
    with world.member() as member:
        until(lambda: len(world.numbers()) == 40)
        member.steering.pause({"t"})
        with world.member():  # takes half of them, and writes
            world.produce(40)
            until(lambda: len(world.numbers()) == 60)
        until(lambda: len(member.telemetry.status()["partitions"]) == PARTITIONS)
        world.produce(4)
        until(lambda: member.telemetry.status()["state"] == "paused")
        assert len(world.numbers()) == 60
        assert {one["phase"] for one in member.telemetry.status()["partitions"].values()} == {"paused"}
        member.steering.resume({"t"})
        until(lambda: len(world.numbers()) == 84)
    assert world.numbers() == list(range(84))


def test_pausing_a_partition_whose_records_are_at_fault_lets_the_others_go_on() -> None:
    """What was read of it is given back: it does not hold up what comes after."""
    world = World()
    world.produce(PARTITIONS)
    world.produce(80, range(1, 80, PARTITIONS))  # of partition 1, every one
    with world.member(max_records=100, most=3) as member:
        until(lambda: member.telemetry.status()["state"] == "held")
        member.steering.pause({PAUSED})
        until(lambda: told(member, PAUSED).get("phase") == "paused")
        member.pipeline.resume()
        until(lambda: len(world.numbers()) == PARTITIONS - 1 + 60)  # one good one is of partition 1
        assert world.letters() == {}
        member.steering.resume({PAUSED})
        until(lambda: [event["event"] for event in member.telemetry.status()["events"]].count("held") == 2)
        member.pipeline.resume(accept=True)
        until(lambda: len(world.letters()) == 20)
    found = member.telemetry.status()["records"]
    assert found["consumed"] == sum(found.values()) - found["consumed"]


def test_other_bounds_hold_from_the_next_batch_on() -> None:
    """Also smaller ones than the open batch has reached already."""
    world = World()
    member = world.member()
    member.steering.bound(BatchPolicy(1000, max_wait_ms=60_000))
    with member:
        world.produce(12)
        until(lambda: member.telemetry.status()["records"]["in_flight"] == 12)
        member.steering.bound(BatchPolicy(5, max_wait_ms=60_000))
        until(lambda: len(world.numbers()) == 12)
        world.produce(10)
        until(lambda: len(world.numbers()) == 22)
    assert world.numbers() == list(range(22))
    assert member.metrics.total("batches_closed") == 3


asks = st.sampled_from(["pause", "resume"])
names = st.sampled_from(["t", "t/0", "t/1", "t/2", EVERYTHING])


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.tuples(asks, names), max_size=12), st.lists(st.sampled_from(["begin", "before", "after"]), max_size=4)
)
def test_whatever_is_paused_and_resumed_every_record_is_there_once(
    plan: list[tuple[str, str]], faults: list[str]
) -> None:
    """In any order, while the database fails, with members coming and going."""
    world = World()
    pause = threading.Event()
    with world.member(faults) as member:
        for number, (ask, name) in enumerate(plan):
            world.produce(20, [3])
            getattr(member.steering, ask)({name})
            if number % 4 == 3:
                with world.member():
                    pause.wait(0.02)
            pause.wait(0.01)
        member.steering.resume({EVERYTHING, "t"})
        until(lambda: len(world.numbers()) + len(world.letters()) == world.produced)
    assert sorted([*world.numbers(), *world.letters()]) == list(range(world.produced))

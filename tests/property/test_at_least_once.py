"""Without an offset table in the database: Kafka has the offsets, and nothing is lost, whatever fails."""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batch import BatchPolicy
from consumer.breaker import Breaker
from consumer.metrics import Metrics
from consumer.pipeline import Pipeline
from consumer.steering import Steering
from consumer.table import Target
from consumer.telemetry import Telemetry
from consumer.writer import Writer
from tests.fake_kafka import MemoryCluster, MemorySource
from tests.fakes import MemoryOutbox
from tests.property.test_pipeline import LIMITS, CoordinatesMapper, Faults, FaultySink, Killed, World, until

FAULTS = ("begin", "begin-killed", "before", "before-killed", "after", "after-killed")
plans = st.lists(st.lists(st.sampled_from(FAULTS), max_size=3), min_size=1, max_size=3)


class Member:
    """One daemon in a thread, until the block is left or it is killed."""

    def __init__(self, world: World, pool: ThreadPoolExecutor, faults: list[str]) -> None:
        sink = FaultySink(world.database, [Target("seen")], "g", "me", exactly_once=False)
        sink.faults = Faults(deque(faults))
        self._pool, self._stop = pool, threading.Event()
        self._pipeline = Pipeline(
            MemorySource(world.broker, "g", ["t"]),
            MemoryCluster(world.broker, "g"),
            Writer(sink, CoordinatesMapper(), Breaker(500, 1.0), MemoryOutbox(world.topics)),
            sink.interrupt,
            Telemetry(Metrics()),
            steering=Steering(BatchPolicy(7, max_wait_ms=5)),
            exactly_once=False,
            limits=LIMITS,
        )

    def __enter__(self) -> Future[None]:
        self._running = self._pool.submit(self._run)
        return self._running

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._running.result(20)

    def _run(self) -> None:
        try:
            self._pipeline.run(self._stop)
        except Killed:
            return


@settings(max_examples=10, deadline=None)
@given(plans, st.integers(1, 40), st.sets(st.integers(0, 39), max_size=10), st.sampled_from([b"x", b"-"]))
def test_no_record_is_lost_whatever_fails(plans: list[list[str]], records: int, bad: set[int], mark: bytes) -> None:
    """Each is in the table, or its dead letter in the topic, at least once; Kafka's offsets never go past others."""
    world = World()
    with ThreadPoolExecutor(4) as pool:
        for plan in [*plans, []]:
            world.produce(records, bad, mark)
            with Member(world, pool, plan) as running:
                until(lambda: running.done() or done(world))
            for (topic, partition), log in world.broker.logs.items():
                committed = world.broker.committed.get(("g", (topic, partition)), 0)
                known = seen(world)
                missing = [m for m in log.messages[:committed] if int((m.body or b"").lstrip(b"x-")) not in known]
                assert not missing
    assert seen(world) == set(range(world.produced))
    assert {int((one.value or b"")[1:]) for one in world.topics.letters} == set(world.bad)


def seen(world: World) -> set[int]:
    """What is in the table or the topic."""
    return {*world.numbers(), *(int((one.value or b"")[1:]) for one in world.topics.letters)}


def done(world: World) -> bool:
    """Whether everything produced is somewhere, and Kafka knows."""
    ends = {key: log.end for key, log in world.broker.logs.items()}
    return len(seen(world)) == world.produced and all(
        world.broker.committed.get(("g", key), 0) == end for key, end in ends.items()
    )

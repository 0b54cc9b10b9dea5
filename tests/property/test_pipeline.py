"""The great property: whatever fails, and whoever joins or leaves, every record is in the table once.

Real threads, the real pipeline and writer, on a broker and a database in memory.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from consumer.batch import BatchPolicy
from consumer.cluster import Start
from consumer.errors import FatalError, TopicPartition, UnavailableError
from consumer.mapping import Mapped
from consumer.metrics import Metrics
from consumer.pipeline import Limits, Pipeline
from consumer.record import Message
from consumer.sinks import Claim, Fence, Position
from consumer.table import Column, Kind, Table, TableRows, Target
from consumer.telemetry import Telemetry
from consumer.writer import Writer
from tests.fake_kafka import MemoryBroker, MemoryCluster, MemorySource
from tests.fakes import MemoryDatabase, MemorySink, MemoryTable

PARTITIONS = 4
LIMITS = Limits(write_deadline=5, shutdown_grace=5, revoke_wait=1, poll=0.01)
NUMBER = Column("", Kind.INTEGER, "bigint", nullable=False)


class Killed(BaseException):
    """The process ends here."""


class CoordinatesMapper:
    """Each record becomes a row of its partition and number."""

    def map(self, messages: Sequence[Message]) -> Mapped:
        rows = [(m.partition(), int(m.value() or b"")) for m in messages]
        return Mapped([TableRows("seen", ("partition", "number"), rows, list(range(len(rows))))])

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        pass


@dataclass
class Faults:
    """What happens at the next calls of a sink, one entry a call; then nothing more."""

    entries: deque[str]

    def strike(self, point: str) -> None:
        if self.entries and self.entries[0].startswith(point):
            kind = self.entries.popleft().removeprefix(point)
            if kind == "-killed":
                raise Killed
            raise UnavailableError(f"{point} failed")


class FaultySink(MemorySink):
    """A MemorySink to which things happen."""

    faults = Faults(deque())

    def claim(self, starts: Mapping[TopicPartition, Position]) -> dict[TopicPartition, Claim]:
        self.faults.strike("claim")
        return super().claim(starts)

    def begin(self, fences: Mapping[TopicPartition, Fence]) -> None:
        self.faults.strike("begin")
        super().begin(fences)

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self.faults.strike("before")
        super().commit(next_offsets)
        self.faults.strike("after")


@dataclass
class World:
    """One topic, one table, and the members that move records between them."""

    broker: MemoryBroker = field(default_factory=lambda: MemoryBroker({"t": PARTITIONS}))
    database: MemoryDatabase = field(
        default_factory=lambda: MemoryDatabase(
            MemoryTable(Table("seen", {n: Column(n, Kind.INTEGER, "bigint", False) for n in ("partition", "number")}))
        )
    )
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))
    produced: int = 0
    owners: int = 0

    def produce(self, count: int) -> None:
        for _ in range(count):
            self.broker.produce("t", self.produced % PARTITIONS, b"%d" % self.produced)
            self.produced += 1

    def member(self, faults: Iterable[str] = (), max_records: int = 7, start: Start = "earliest") -> Member:
        self.owners += 1
        return Member(self, f"owner-{self.owners}", Faults(deque(faults)), max_records, start)

    def numbers(self) -> list[int]:
        return sorted(row["number"] for row in self.database.rows("seen"))

    def quiesce(self) -> None:
        """Run one healthy member until everything produced is in, or for 20 s."""
        with self.member():
            until(lambda: len(self.numbers()) >= self.produced)


class Member:
    """One daemon in a thread; leaving the block stops it as SIGTERM does."""

    def __init__(self, world: World, owner: str, faults: Faults, max_records: int, start: Start) -> None:
        sink = FaultySink(world.database, [Target("seen")], "g", owner)
        sink.faults = faults
        self.metrics = Metrics()
        self.telemetry = Telemetry(self.metrics)
        self._pool, self._stop = world.pool, threading.Event()
        self.pipeline = Pipeline(
            MemorySource(world.broker, "g", ["t", "t2"]),
            MemoryCluster(world.broker, "g"),
            Writer(sink, CoordinatesMapper()),
            sink.interrupt,
            self.telemetry,
            policy=BatchPolicy(max_records, max_wait_ms=5),
            start=start,
            limits=LIMITS,
        )

    def __enter__(self) -> Member:
        self.running = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.running.result(20)

    def _run(self) -> str:
        try:
            self.pipeline.run(self._stop)
        except Killed:
            return "killed"
        except FatalError as error:
            return str(error)
        return "stopped"


def until(condition: Callable[[], bool], deadline: float = 20) -> None:
    """Wait for a condition; its failure is the caller's to see."""
    end = time.monotonic() + deadline
    pause = threading.Event()
    while not condition() and time.monotonic() < end:
        pause.wait(0.005)


faults = st.lists(
    st.sampled_from(
        ["claim", "claim-killed", "begin", "begin-killed", "before", "before-killed", "after", "after-killed"]
    ),
    max_size=5,
)


@settings(max_examples=40, deadline=None)
@given(st.lists(faults, min_size=1, max_size=4), st.integers(1, 60))
def test_every_record_is_in_the_table_once_whatever_fails(plans: list[list[str]], records: int) -> None:
    """Lost answers, kills and outages, with members joining and leaving in between."""
    world = World()
    for plan in plans:
        world.produce(records)
        with world.member(plan) as struck, world.member():
            world.produce(records)
            until(lambda: struck.running.done() or len(world.numbers()) >= world.produced // 2)
    world.quiesce()
    assert world.numbers() == list(range(world.produced))


def test_an_outage_is_waited_for_and_nothing_is_read_beyond_memory() -> None:
    """The member keeps its place; what it holds is bounded by two batches and what a second of polling brings."""
    world = World()
    world.produce(500)
    with world.member(max_records=50) as member:
        until(lambda: len(world.numbers()) == 500)
        world.database.online = False
        world.produce(1000)
        until(lambda: member.metrics.value("partitions_paused", reason="backpressure") == PARTITIONS)
        assert len(world.numbers()) == 500
        assert member.metrics.value("records_in_flight", topic="t") <= 2 * 50 + 1 / LIMITS.poll + 50
        world.database.online = True
        until(lambda: len(world.numbers()) == 1500)
    assert world.numbers() == list(range(1500))


def test_a_gap_holds_its_partition_and_no_other() -> None:
    """The daemon never skips what Kafka lost; the other partitions flow."""
    world = World()
    world.produce(40)
    with world.member():
        until(lambda: len(world.numbers()) == 40)
    world.produce(40)
    world.broker.delete_before("t", 0, 15)
    with world.member() as member:
        until(lambda: len(world.numbers()) == 70)
        until(lambda: member.metrics.value("partitions_paused", reason="held") == 1)
    assert len(world.numbers()) == 70
    assert world.database.offsets["g", "t", 0].position.next_offset == 10


@settings(max_examples=15, deadline=None)
@given(faults, st.integers(1, 80))
def test_every_record_is_accounted_for(plan: list[str], records: int) -> None:
    """consumed = written + filtered + released + in flight, of each process life."""
    world = World()
    world.produce(records)
    with world.member([entry for entry in plan if "killed" not in entry]) as member:
        until(lambda: len(world.numbers()) == records)
    value = member.metrics.value
    consumed, written = value("records_consumed", topic="t"), value("records_written", topic="t")
    released, in_flight = value("records_released", topic="t"), value("records_in_flight", topic="t")
    assert written == records
    assert in_flight == 0
    assert consumed == written + released


def test_a_partition_that_comes_later_is_read_from_its_beginning() -> None:
    """With `start: latest` what was there before is skipped, and nothing of what comes after."""
    world = World()
    world.produce(8)
    with world.member(start="latest") as member:
        until(lambda: member.metrics.value("claims", outcome="claimed") == PARTITIONS)
        world.broker.create("t2", 1)
        world.broker.produce("t2", 0, b"100")
        until(lambda: 100 in world.numbers())
        world.broker.produce("t", 0, b"8")
        until(lambda: 8 in world.numbers())
    assert world.numbers() == [8, 100]


def test_offsets_of_another_cluster_hold() -> None:
    """The same topic in another Kafka: nothing is read, and the reason names both."""
    world = World()
    world.produce(40)
    with world.member():
        until(lambda: len(world.numbers()) == 40)
    world.broker.cluster_id = "another"
    world.produce(40)
    with world.member() as member:
        until(lambda: member.metrics.value("partitions_paused", reason="held") == PARTITIONS)
        until(lambda: "held" in member.telemetry.health().reason)
        assert "the stored offset is of cluster memory, this is cluster another" in member.telemetry.health().reason
    assert len(world.numbers()) == 40

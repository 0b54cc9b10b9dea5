"""The great property: whatever fails, and whoever joins or leaves, every record is in the table or a dead letter, once.

Real threads, the real pipeline and writer, on a broker and a database in memory.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consumer import assignment, pipeline, presence
from consumer.batch import BatchPolicy
from consumer.breaker import Breaker
from consumer.cluster import Start
from consumer.errors import DecodeError, Failure, FatalError, TopicPartition, UnavailableError
from consumer.goal import Goal
from consumer.letter import DeadLetter, State
from consumer.limits import Limits, Tolerance
from consumer.mapping import Mapped
from consumer.metrics import Metrics
from consumer.pipeline import Pipeline
from consumer.record import Message
from consumer.sinks import Claim, Fence, Position
from consumer.steering import Steering
from consumer.table import Column, Kind, Table, TableRows, Target
from consumer.telemetry import Telemetry
from consumer.writer import Writer
from tests.fake_kafka import MemoryBroker, MemoryCluster, MemoryMessage, MemorySource
from tests.fakes import MemoryDatabase, MemoryOutbox, MemorySink, MemoryTable, MemoryTopics

PARTITIONS = 4
LIMITS = Limits(write_deadline=5, shutdown_grace=5, revoke_wait=1, poll=0.01)
NUMBER = Column("", Kind.INTEGER, "bigint", nullable=False)


class Killed(BaseException):
    """The process ends here."""


class CoordinatesMapper:
    """Records into rows of partition and number; `x7` cannot be decoded, and `-7` is refused by the table."""

    def map(self, messages: Sequence[Message]) -> Mapped:
        good = {i: m for i, m in enumerate(messages) if not (m.value() or b"").startswith(b"x")}
        failures = [Failure(i, DecodeError("not a number")) for i in range(len(messages)) if i not in good]
        rows = [(m.partition(), int(m.value() or b"")) for m in good.values()]
        return Mapped([TableRows("seen", ("partition", "number"), rows, list(good))], failures)

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


class ForgetfulSource(MemorySource):
    """Goes back to the beginning once, as librdkafka does when an offset that it asked for comes after a seek."""

    forgot_at: int | None = None

    def poll(self, records: int, timeout: float) -> list[MemoryMessage]:
        messages = super().poll(records, timeout)
        if self.forgot_at is None and self._next.get(("t", 0), 0) >= 500:
            self.forgot_at, self._next["t", 0] = self._next["t", 0], 0
        return messages

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        assert self.forgot_at is None or positions == {("t", 0): self.forgot_at}
        super().seek(positions)


class StrandedSource(MemorySource):
    """Knows no broker from its 50th record on, as librdkafka does that was told of none, until it is renewed."""

    stranded: bool | None = None

    def poll(self, records: int, timeout: float) -> list[MemoryMessage]:
        if self.stranded is None and self._next.get(("t", 0), 0) >= 50:
            self.stranded = True
        if self.stranded:
            time.sleep(timeout)
            return []
        return super().poll(records, timeout)

    def connected(self) -> bool:
        return not self.stranded

    def renew(self) -> None:
        self.stranded = False
        super().renew()


class LostSource(StrandedSource):
    """Has lost what it had by then, and reaches brokers, but not the one that could give it back."""

    def connected(self) -> bool:
        return True

    def poll(self, records: int, timeout: float) -> list[MemoryMessage]:
        messages = super().poll(records, timeout)
        if self.stranded and self.owned:
            self.lose()
        return messages


@dataclass
class World:
    """One topic, one table, and the members that move records between them."""

    broker: MemoryBroker = field(default_factory=lambda: MemoryBroker({"t": PARTITIONS}))
    database: MemoryDatabase = field(
        default_factory=lambda: MemoryDatabase(
            MemoryTable(
                Table("seen", {n: Column(n, Kind.INTEGER, "bigint", False) for n in ("partition", "number")}),
                check=lambda row: row["number"] >= 0,
            )
        )
    )
    topics: MemoryTopics = field(default_factory=MemoryTopics)
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(8))
    produced: int = 0
    owners: int = 0
    bad: list[int] = field(default_factory=list)

    def produce(self, count: int, bad: Collection[int] = (), mark: bytes = b"x") -> None:
        """`bad`: which of these are to be at fault, and how."""
        for index in range(count):
            value = b"%d" % self.produced
            if index in bad and self.produced:
                value = mark + value
                self.bad.append(self.produced)
            self.broker.produce("t", self.produced % PARTITIONS, value)
            self.produced += 1

    def letters(self) -> dict[int, DeadLetter]:
        """The dead letters by number."""
        return {int((one.value or b"")[1:]): one for one in self.database.letters.get("g", {}).values()}

    def member(
        self,
        faults: Iterable[str] = (),
        max_records: int = 7,
        start: Start = "earliest",
        most: int = 500,
        stop: bool = False,
        goal: Goal | None = None,
        source: Callable[..., MemorySource] = MemorySource,
    ) -> Member:
        self.owners += 1
        owner = f"owner-{self.owners}"
        return Member(self, owner, Faults(deque(faults)), max_records, start, most, stop, goal, source)

    def numbers(self) -> list[int]:
        return sorted(row["number"] for row in self.database.rows("seen"))

    def quiesce(self) -> None:
        """Run one healthy member until everything produced is in, or for 20 s."""
        with self.member():
            until(lambda: len(self.numbers()) + len(self.letters()) >= self.produced)
            until(lambda: all(one.state is State.PUBLISHED for one in self.letters().values()))


class Member:
    """One daemon in a thread; leaving the block stops it as SIGTERM does."""

    def __init__(
        self,
        world: World,
        owner: str,
        faults: Faults,
        max_records: int,
        start: Start,
        most: int,
        stop: bool,
        goal: Goal | None,
        source: Callable[..., MemorySource] = MemorySource,
    ) -> None:
        sink = FaultySink(world.database, [Target("seen")], "g", owner)
        sink.faults = faults
        self.metrics = Metrics()
        self.telemetry = Telemetry(self.metrics)
        self.steering = Steering(BatchPolicy(max_records, max_wait_ms=5))
        self.goal, self.faults = goal or Goal(), faults
        self._pool, self._stop = world.pool, threading.Event()
        self.pipeline = Pipeline(
            source(world.broker, "g", ["t", "t2"]),
            MemoryCluster(world.broker, "g"),
            Writer(sink, CoordinatesMapper(), Breaker(most, 1.0), MemoryOutbox(world.topics)),
            sink.interrupt,
            self.telemetry,
            steering=self.steering,
            start=start,
            limits=LIMITS,
            tolerance=Tolerance(stop, probe_after=60, max_pending=20),
        )

    def __enter__(self) -> Member:
        self.running = self._pool.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.running.result(20)

    def _run(self) -> str:
        try:
            self.pipeline.run(self._stop, self.goal)
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


@settings(max_examples=25, deadline=None)
@given(
    st.lists(faults, min_size=1, max_size=4),
    st.integers(1, 60),
    st.sets(st.integers(0, 59), max_size=20),
    st.sampled_from([b"x", b"-"]),
)
def test_every_record_is_in_the_table_or_a_dead_letter_once_whatever_fails(
    plans: list[list[str]], records: int, bad: set[int], mark: bytes
) -> None:
    """Lost answers, kills and outages, with members joining and leaving in between."""
    world = World()
    for plan in plans:
        world.produce(records, bad, mark)
        with world.member(plan) as struck, world.member():
            world.produce(records)
            until(lambda: struck.running.done() or len(world.numbers()) >= world.produced // 2)
    world.quiesce()
    assert sorted([*world.numbers(), *world.letters()]) == list(range(world.produced))
    assert sorted(world.letters()) == world.bad
    # The topic has each at least once, byte by byte.
    assert {one.coordinates: one.value for one in world.topics.letters} == {
        one.coordinates: one.value for one in world.letters().values()
    }


@pytest.mark.parametrize("source", [StrandedSource, LostSource])
def test_a_client_that_knows_no_broker_any_more_is_replaced(
    source: type[MemorySource], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or finds who gives out partitions no more: another one goes on from what is written, and nothing is doubled."""
    monkeypatch.setattr(pipeline, "_LOOK_SECONDS", 0.02)
    monkeypatch.setattr(presence, "_SECONDS", 0.02)
    monkeypatch.setattr(presence, "_UNREACHED_SECONDS", 0.1)
    monkeypatch.setattr(assignment, "DESERTED_SECONDS", 0.1)
    world = World()
    world.produce(PARTITIONS * 100)
    with world.member(source=source) as member:
        until(lambda: len(world.numbers()) == world.produced)
        assert any("joining by another" in str(event) for event in member.telemetry.status()["events"])
    assert world.numbers() == list(range(world.produced))


def test_too_many_bad_records_hold_until_somebody_says_go_on() -> None:
    """Nothing of the batch is kept; membership and memory stay; `accept` lets the batch pass."""
    world = World()
    world.produce(20)
    with world.member(max_records=10, most=3) as member:
        until(lambda: len(world.numbers()) == 20)
        world.produce(10, range(10))
        until(lambda: member.telemetry.status()["state"] == "held")
        assert "more than 3 records in a row" in member.telemetry.health().reason
        assert not member.telemetry.health().ready
        assert (len(world.numbers()), world.letters()) == (20, {})
        member.pipeline.resume()  # a probe: they are as bad as before
        until(lambda: [event["event"] for event in member.telemetry.status()["events"]].count("held") == 2)
        assert world.letters() == {}
        member.pipeline.resume(accept=True)
        until(lambda: len(world.letters()) == 10)
        until(lambda: member.telemetry.health().ready)
    assert len(world.letters()) == 10


def test_too_many_bad_records_stop_where_it_is_configured() -> None:
    """The reason names the limit; everything before the batch is written, and nothing of it."""
    world = World()
    world.produce(8)
    world.produce(20, range(20))
    with world.member(max_records=8, most=3, stop=True) as member:
        assert "more than 3 records in a row (dead_letter.max_consecutive)" in member.running.result(20)
    assert world.letters() == {}


def test_while_the_dead_letter_topic_is_away_writing_goes_on_until_so_many_are_pending() -> None:
    """Then it holds, and goes on by itself when the topic is back."""
    world = World()
    world.topics.online = False
    world.produce(400, range(0, 400, 4))
    with world.member() as member:
        until(lambda: member.telemetry.status()["state"] == "held")
        assert "dead_letter.max_pending" in member.telemetry.health().reason
        assert 20 < len(world.letters()) < 40
        assert member.metrics.value("records_dead_lettered", topic="t", stage="decode", reason="DecodeError") > 20
        world.topics.online = True
        until(lambda: len(world.numbers()) + len(world.letters()) == 400)
        until(lambda: member.metrics.value("dead_letters_pending") == 0)
    assert {one.coordinates for one in world.topics.letters} == {one.coordinates for one in world.letters().values()}


def test_what_the_topic_refuses_stays_pending_and_is_tried_again() -> None:
    """A missing topic loses nothing and stops nothing."""
    world = World()
    world.topics.refuses = "unknown topic"
    world.produce(10, [3])
    with world.member() as member:
        until(lambda: member.metrics.value("dead_letter_publish_failures") > 0)
        assert world.letters()[3].state is State.PENDING
        world.topics.refuses = ""
        until(lambda: world.letters()[3].state is State.PUBLISHED)
    assert len(world.numbers()) == 9


def test_an_outage_is_waited_for_and_nothing_is_read_beyond_memory() -> None:
    """The member keeps its place; what it holds is bounded by three batches and what a second of polling brings."""
    world = World()
    world.produce(500)
    with world.member(max_records=50) as member:
        until(lambda: len(world.numbers()) == 500)
        world.database.online = False
        world.produce(1000)
        until(lambda: member.metrics.value("partitions_paused", reason="backpressure") == PARTITIONS)
        assert len(world.numbers()) == 500
        assert member.metrics.value("records_in_flight", topic="t") <= 3 * 50 + 1 / LIMITS.poll + 50
        world.database.online = True
        until(lambda: len(world.numbers()) == 1500)
    assert world.numbers() == list(range(1500))


@settings(max_examples=15, deadline=None)
@given(faults, st.integers(1, 80))
def test_every_record_is_accounted_for(plan: list[str], records: int) -> None:
    """consumed = written + filtered + dead-lettered + duplicate + released + in flight, of each process life."""
    world = World()
    world.produce(records, range(0, records, 5))
    with world.member([entry for entry in plan if "killed" not in entry]) as member:
        until(lambda: len(world.numbers()) + len(world.letters()) == records)
        seen = member.telemetry.status()["records"]
        assert seen["consumed"] == sum(seen.values()) - seen["consumed"]
    found = member.telemetry.status()["records"]
    assert found["written"] + found["dead_lettered"] + found["duplicate"] == records
    assert found["in_flight"] == 0
    assert found["consumed"] == records + found["released"]


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


def test_a_client_that_goes_back_is_sent_on_at_once() -> None:
    """Not when all that it has read again is behind it: that may be the topic."""
    world = World()
    world.produce(600 * PARTITIONS)
    with world.member(max_records=100, source=ForgetfulSource) as member:
        until(lambda: len(world.numbers()) >= world.produced)
        told = [event["reason"] for event in member.telemetry.status()["events"] if event["event"] == "trouble"]
    assert world.numbers() == list(range(world.produced))
    (only,) = told
    assert only.startswith("Kafka: the client went back; reading on from t/0 offset 5")


def test_a_partition_behind_one_that_never_ends_is_read() -> None:
    """The client asks for what stands first in its list: others get a turn."""
    world = World()
    ended = threading.Event()
    for number in range(2000):
        world.broker.produce("t", 1, b"%d" % number)

    def flood() -> None:
        end = world.broker.logs["t", 0].end
        while not ended.is_set():
            world.broker.produce("t", 0, b"%d" % (10_000 + end))
            end += 1

    for _ in range(2):
        world.pool.submit(flood)
    with world.member(max_records=100) as member:
        until(lambda: any(row["number"] < 2000 for row in world.database.rows("seen")))
        ended.set()
        told = [event["reason"] for event in member.telemetry.status()["events"] if event["event"] == "trouble"]
    assert any(row["number"] < 2000 for row in world.database.rows("seen"))
    assert told[0] == "Kafka: hardly read while others were, and now read alone: t/1"


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

"""What a Source and a Cluster promise, held against the fake and against a real Kafka in both group protocols."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from consumer.cluster import Cluster, KafkaCluster
from consumer.errors import UnavailableError
from consumer.source import KafkaSource, Source
from tests.fake_kafka import MemoryBroker, MemoryCluster, MemorySource, Notes
from tests.services.nameless import Nameless

Key = tuple[str, int]


@dataclass
class World:
    """One topic of two partitions, and how to join a group on it."""

    topic: str
    join: Callable[[], Source]
    cluster: Cluster
    produce: Callable[[int, int], None]
    delete_before: Callable[[int, int], None]
    mark: Callable[[int], None]
    opened: list[Source] = field(default_factory=list)

    def open(self) -> tuple[Source, Notes]:
        source, notes = self.join(), Notes()
        source.open(notes)
        self.opened.append(source)
        return source, notes

    def keys(self) -> set[Key]:
        return {(self.topic, 0), (self.topic, 1)}


def memory_world() -> World:
    broker = MemoryBroker({"t": 2})

    def produce(partition: int, count: int) -> None:
        for number in range(count):
            broker.produce("t", partition, b"%d" % number)

    return World(
        "t",
        lambda: MemorySource(broker, "g", ["t"]),
        MemoryCluster(broker, "g"),
        produce,
        lambda partition, offset: broker.delete_before("t", partition, offset),
        lambda partition: broker.mark("t", partition),
    )


def kafka_world(bootstrap: str, protocol: str, **more: Any) -> World:
    topic = f"source-{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([NewTopic(topic, 2, 1)])[topic].result()
    properties: dict[str, Any] = {"bootstrap.servers": bootstrap, "group.id": topic, "group.protocol": protocol} | more
    if protocol == "classic":
        properties |= {"session.timeout.ms": 6000, "heartbeat.interval.ms": 300}

    def produce(partition: int, count: int) -> None:
        producer = Producer({"bootstrap.servers": bootstrap})
        for number in range(count):
            producer.produce(topic, b"%d" % number, partition=partition)
        assert producer.flush(30) == 0

    def delete_before(partition: int, offset: int) -> None:
        (future,) = admin.delete_records([TopicPartition(topic, partition, offset)]).values()
        future.result()

    def mark(partition: int) -> None:
        """One record that was never committed, and the marker of its end."""
        producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": topic})
        producer.init_transactions(30)
        producer.begin_transaction()
        producer.produce(topic, b"", partition=partition)
        producer.flush(30)
        producer.abort_transaction(30)

    source, cluster = lambda: KafkaSource(properties, [topic], ends=True), KafkaCluster(properties, topic)
    return World(topic, source, cluster, produce, delete_before, mark)


@pytest.fixture(params=["memory", "classic", "consumer"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = memory_world() if request.param == "memory" else kafka_world(request.getfixturevalue("kafka"), request.param)
    yield made
    for source in made.opened:
        source.close()


def until(condition: Callable[[], bool], *sources: Source, deadline: float = 30) -> list[Any]:
    """Poll the sources until the condition holds; returns what they read."""
    end = time.monotonic() + deadline
    read: list[Any] = []
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        for source in sources:
            read += source.poll(100, 0.05)
    return read


def read_until(source: Source, count: int, deadline: float = 30) -> list[Any]:
    """Poll until so many records were read."""
    read: list[Any] = []
    end = time.monotonic() + deadline
    while len(read) < count:
        assert time.monotonic() < end, f"only {len(read)} of {count} came"
        read += source.poll(100, 0.05)
    return read


def settled(ask: Callable[[], Any], deadline: float = 30) -> Any:
    """The answer, once there is one."""
    end = time.monotonic() + deadline
    while (found := ask()) is None:
        assert time.monotonic() < end, "there was no answer in time"
        time.sleep(0.01)
    return found


def started(source: Source, positions: dict[Key, int]) -> bool:
    """False: not yet."""
    try:
        source.start(positions)
    except UnavailableError:
        return False
    return True


def test_assigned_partitions_do_not_flow_until_started(world: World) -> None:
    """What is read before the claim could be somebody else's."""
    world.produce(0, 5)
    source, notes = world.open()
    read = until(lambda: notes.owned == world.keys(), source)
    read += [m for _ in range(10) for m in source.poll(100, 0.05)]
    assert read == []


def test_a_started_partition_flows_from_the_given_offset_in_order(world: World) -> None:
    """The sink's offset decides, whatever Kafka would have chosen."""
    world.produce(0, 10)
    source, notes = world.open()
    until(lambda: notes.owned == world.keys(), source)
    source.start({(world.topic, 0): 4, (world.topic, 1): 0})
    assert [m.offset() for m in read_until(source, 6)] == [4, 5, 6, 7, 8, 9]


def test_pause_keeps_the_place(world: World) -> None:
    """After resume not one record is missing or repeated."""
    world.produce(0, 3)
    source, notes = world.open()
    until(lambda: notes.owned == world.keys(), source)
    source.start({(world.topic, 0): 0, (world.topic, 1): 0})
    first = read_until(source, 3)
    source.pause([(world.topic, 0)])
    world.produce(0, 3)
    assert [m for _ in range(6) for m in source.poll(100, 0.05)] == []
    source.seek({(world.topic, 0): 3})  # where it is, unless the client went back meanwhile
    assert [m for _ in range(6) for m in source.poll(100, 0.05)] == []
    source.resume([(world.topic, 0)])
    assert [m.offset() for m in [*first, *read_until(source, 3)]] == [0, 1, 2, 3, 4, 5]


def test_a_seek_goes_on_from_there(world: World) -> None:
    """Back, forth, and over what was fetched already."""
    world.produce(0, 50)
    source, notes = world.open()
    until(lambda: notes.owned == world.keys(), source)
    source.start({(world.topic, 0): 40, (world.topic, 1): 0})
    until(lambda: source.poll(1, 0.05))  # nobody else polls: ten records are all there is
    for position in (10, 45, 3):
        source.seek({(world.topic, 0): position})
        assert [m.offset() for m in read_until(source, 50 - position)] == list(range(position, 50))


def test_a_second_member_takes_its_share_and_gives_it_back(world: World) -> None:
    """Each partition has one owner; the first is told before it loses any."""
    first, kept = world.open()
    until(lambda: kept.owned == world.keys(), first)
    second, got = world.open()
    until(lambda: len(kept.owned) == 1 and len(got.owned) == 1, first, second)
    assert kept.owned | got.owned == world.keys()
    assert got.owned <= kept.revoked_once
    second.close()
    world.opened.remove(second)
    until(lambda: kept.owned == world.keys(), first)


def test_another_client_takes_up_the_place(world: World) -> None:
    """What there was is lost, comes again, and flows from where it is started; the former client has no more to say."""
    world.produce(0, 5)
    source, notes = world.open()
    until(lambda: notes.owned == world.keys(), source)
    source.renew()
    assert notes.owned == set()
    until(lambda: notes.owned == world.keys(), source)
    source.start({(world.topic, 0): 2, (world.topic, 1): 0})
    assert [message.offset() for message in read_until(source, 3)] == [2, 3, 4]


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_client_that_was_told_of_no_broker_goes_on_as_another_one(kafka: str, protocol: str) -> None:
    """librdkafka then knows none for good (its issue 5301), whether it holds partitions or not; and says so."""
    nameless = Nameless(kafka)
    # By default it finds its way back now and then, as another thread is faster or not; without recovery it never does.
    lasting = {"metadata.recovery.strategy": "none", "topic.metadata.refresh.interval.ms": 500}
    world, notes = kafka_world(kafka, protocol, **lasting, **{"bootstrap.servers": nameless.bootstrap}), Notes()
    world.produce(0, 5)
    source = world.join()
    source.open(notes)
    until(lambda: notes.owned == world.keys(), source)
    until(source.connected, source)
    nameless.hides = True
    until(lambda: nameless.hidden > 0 and not source.connected(), source)
    nameless.hides = False
    assert not source.connected()
    source.renew()
    until(lambda: notes.owned == world.keys(), source)
    source.start({(world.topic, 0): 2, (world.topic, 1): 0})
    assert [message.offset() for message in read_until(source, 3)] == [2, 3, 4]
    assert source.connected()
    source.close()
    nameless.close()


def test_a_cluster_whose_client_was_told_of_no_broker_is_asked_by_another_one(
    kafka: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without a topic to ask for; not each time at once, and what is being asked of the former one has its end."""
    nameless = Nameless(kafka)
    cluster = KafkaCluster({"bootstrap.servers": nameless.bootstrap, "metadata.recovery.strategy": "none"}, "g")
    with monkeypatch.context() as patched:
        patched.setattr("consumer.cluster._ANY_TOPIC", "nowhere")
        assert settled(cluster.ask_ids([])) == {}
    nameless.hides = True
    assert settled(cluster.ask_ids([])) == {}
    nameless.hides = False
    for ask in (lambda: cluster.topics(0.5), lambda: settled(cluster.ask_ids([]))):
        with pytest.raises(UnavailableError):
            ask()
    pending = cluster.ask_ids([])
    monkeypatch.setattr("consumer.cluster._REPLACED_SECONDS", 0)
    with pytest.raises(UnavailableError):
        cluster.topics(0.5)
    assert cluster.cluster_id()
    assert settled(cluster.ask_ids([])) == {}
    with pytest.raises(UnavailableError):
        settled(pending)
    nameless.close()


def test_committed_offsets_are_what_the_cluster_tells(world: World) -> None:
    """So lag tools see how far the daemon is."""
    world.produce(1, 3)
    source, notes = world.open()
    until(lambda: notes.owned == world.keys(), source)
    source.commit({(world.topic, 1): 2}, wait=True)
    state = world.cluster.states([(world.topic, 1)])[world.topic, 1]
    assert (state.low, state.high, state.committed) == (0, 3, 2)
    assert state.cluster_id
    ask = world.cluster.ask_ids([world.topic])
    until(lambda: ask() is not None, source)
    assert ask() == {world.topic: state.topic_id}
    assert settled(world.cluster.ask_ids([])) == {}
    ends = world.cluster.ask_ends([(world.topic, 0), (world.topic, 1)])
    until(lambda: ends() is not None, source)
    assert ends() == {(world.topic, 0): 0, (world.topic, 1): 3}


def test_a_position_that_kafka_does_not_hold_is_told_and_never_skipped(world: World) -> None:
    """Retention must not lose records silently."""
    world.produce(0, 10)
    world.delete_before(0, 6)
    source, notes = world.open()
    until(lambda: notes.owned == world.keys(), source)
    source.start({(world.topic, 0): 2, (world.topic, 1): 0})
    read = until(lambda: notes.gone_out_of_range == [(world.topic, 0)], source)
    assert read == []
    assert world.cluster.states([(world.topic, 0)])[world.topic, 0].low == 6
    until(lambda: started(source, {(world.topic, 0): 6}), source)  # somebody has said that it goes on there
    assert [m.offset() for m in read_until(source, 4)] == [6, 7, 8, 9]


def test_the_end_is_told_also_where_the_last_offsets_hold_no_record(world: World) -> None:
    """After the last record, and again when there was more."""
    world.produce(0, 3)
    source, notes = world.open()
    until(lambda: notes.owned == world.keys(), source)
    source.start({(world.topic, 0): 0, (world.topic, 1): 0})
    read = until(lambda: notes.ends == {(world.topic, 0): 3, (world.topic, 1): 0}, source)
    world.mark(0)
    read += until(lambda: notes.ends[world.topic, 0] > 3, source)
    assert notes.ends[world.topic, 0] == world.cluster.states([(world.topic, 0)])[world.topic, 0].high
    assert [m.offset() for m in read] == [0, 1, 2]


def test_records_carry_their_coordinates(world: World) -> None:
    """Topic, partition and offset are what everything else rests on."""
    world.produce(1, 2)
    source, notes = world.open()
    until(lambda: notes.owned == world.keys(), source)
    source.start({(world.topic, 0): 0, (world.topic, 1): 0})
    read = read_until(source, 2)
    assert [(m.topic(), m.partition(), m.offset(), m.value()) for m in read] == [
        (world.topic, 1, 0, b"0"),
        (world.topic, 1, 1, b"1"),
    ]
    assert len(read[0]) == 1


def test_of_records_that_are_larger_than_thought_one_poll_returns_few(kafka: str) -> None:
    """Memory is bounded also where a topic's records grow at once: how many to ask for follows those before."""
    world, value = kafka_world(kafka, "classic"), bytes(20_000)
    producer = Producer({"bootstrap.servers": kafka, "compression.type": "lz4"})
    for _ in range(1500):
        producer.produce(world.topic, value, partition=0)
    assert producer.flush(30) == 0
    source, notes = world.open()
    until(lambda: notes.owned == world.keys(), source)
    source.start({(world.topic, 0): 0, (world.topic, 1): 0})
    polls: list[int] = []
    end = time.monotonic() + 30
    while sum(polls) < 1500:
        assert time.monotonic() < end, f"only {sum(polls)} came"
        polls.append(len(source.poll(5000, 1.0)))
    source.close()
    assert max(polls) <= 500

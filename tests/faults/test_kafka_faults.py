"""Brokers that die, topics that are recreated, records that are gone: never a gap that nobody is told of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.faults.campaign import PARTITIONS, RATE, create_topic, history
from tests.faults.group import CLASSIC, KIP_848, Group, Member, Services
from tests.faults.load import Load
from tests.faults.waiting import until
from tests.services.kafka import Kafka
from tests.services.nameless import Nameless


def held(member: Member) -> list[str]:
    """The reasons for which it has held partitions, from its log."""
    return [event["reason"] for event in member.logged("held")]


@contextmanager
def alone(services: Services, topic: str, partitions: int, **kafka) -> Iterator[Group]:
    """A group for one member, which can be asked."""
    group = Group(services, topic, topic, partitions, kafka=kafka, settings={"admin": {"port": 0}})
    with history(group):
        yield group


@pytest.mark.timeout(300)
@pytest.mark.parametrize("protocol", [CLASSIC, KIP_848])
def test_a_killed_broker(services: Services, broker: Kafka, protocol: str) -> None:
    """The broker killed and started again under load, twice: the members go on by themselves, each record once."""
    topic = create_topic(services)
    group = Group(services, topic, topic, PARTITIONS, protocol)
    with history(group), Load(services.bootstrap, topic, PARTITIONS, RATE) as load:
        for _ in range(3):
            group.start()
        until(group.settled, "the first assignment")
        for _ in range(2):
            group.go_on(2000)
            broker.kill()
            broker.start()
            group.go_on(2000)
        load.stop()
        group.finish(load.ledger)


@pytest.mark.timeout(300)
def test_metadata_that_name_no_broker(services: Services) -> None:
    """librdkafka then knows none for good (its issue 5301): members of both protocols go on by themselves, and tell."""
    topic, nameless = create_topic(services), Nameless(services.bootstrap)
    behind = replace(services, bootstrap=nameless.bootstrap)
    lasting = {"metadata.recovery.strategy": "none", "topic.metadata.refresh.interval.ms": 500}
    groups = [
        Group(behind, f"{topic}_{protocol}", topic, PARTITIONS, protocol, kafka=lasting)
        for protocol in (CLASSIC, KIP_848)
    ]
    with closing(nameless), history(*groups), Load(services.bootstrap, topic, PARTITIONS, RATE) as load:
        members = [group.start() for group in groups]
        for group in groups:
            group.go_on(1000)
        nameless.hides = True
        until(lambda: nameless.hidden >= 2 * len(members), "every client of theirs is told of no broker")
        nameless.hides = False
        for group in groups:
            group.go_on(5000, 120)
        for member in members:
            until(lambda member=member: "joining by another one" in member.log(None), "it tells why")
        load.stop()
        for group in groups:
            group.finish(load.ledger)


@pytest.mark.parametrize("records", [10, 400])
def test_a_recreated_topic(services: Services, records: int) -> None:
    """A topic deleted and created anew at once, with fewer or more records: held, said in /readyz and in the log."""
    topic = create_topic(services, 1)
    with alone(services, topic, 1) as group:
        load = Load(services.bootstrap, topic, 1, RATE)
        load.produce(50)
        load.flush()
        member = group.start()
        until(lambda: group.position() == 50, "the topic is read")
        admin = AdminClient({"bootstrap.servers": services.bootstrap})
        admin.delete_topics([topic])[topic].result()
        admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
        again = Load(services.bootstrap, topic, 1, RATE)
        again.produce(records)
        again.flush()
        _, text = until(
            lambda: (found := member.get("/readyz"))[0] == 503 and "recreated" in found[1] and found, "it holds"
        )
        assert "the topic was recreated: the stored offset is of id" in text
        assert any("the topic was recreated" in reason for reason in held(member))
        assert 50 <= group.position() <= max(50, records)


def test_records_that_are_gone(services: Services) -> None:
    """Records from the stored offset on are deleted: that partition holds with the exact gap, the others go on."""
    topic = create_topic(services, 2)
    with alone(services, topic, 2) as group:
        load = Load(services.bootstrap, topic, 2, RATE)
        load.produce(200)
        load.flush()
        first = group.start()
        until(lambda: group.position() == 200, "the topic is read")
        group.leave(first)
        load.produce(200)
        load.flush()
        admin = AdminClient({"bootstrap.servers": services.bootstrap})
        for future in admin.delete_records([TopicPartition(topic, 0, 150)]).values():
            future.result()
        member = group.start()
        gap = "offsets 100 to 149 are gone, 50 in all"
        until(lambda: gap in member.get("/readyz")[1], "it holds")
        assert member.get("/readyz")[0] == 503
        assert any(gap in reason for reason in held(member))
        until(lambda: group.stored()[1][0] == 200, "the other partition goes on")
        assert group.stored()[0][0] == 100

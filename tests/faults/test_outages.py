"""Something is away for longer than a poll may take: the daemon says so, waits in its place, and goes on by itself."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from tests.faults.campaign import PARTITIONS, create_topic, history
from tests.faults.group import CLASSIC, KIP_848, Group, Member, Services
from tests.faults.load import Load
from tests.faults.site import Site
from tests.faults.waiting import until
from tests.services.kafka import Kafka
from tests.services.postgres import Postgres

INTERVAL_MS = 4400  # max.poll.interval.ms; the shortest with sessions as they are here
RATE = 500
PAD = "x" * 8000
BACKLOG = 20_000  # records that come meanwhile: 160 MB
MOST_BYTES = 100 << 20  # that a member may grow by
MAX_PENDING = 20
ADMIN: dict[str, Any] = {"admin": {"port": 0}}


@dataclass
class World:
    """One member at work, and what the database knew when something went away."""

    group: Group
    load: Load

    @property
    def member(self) -> Member:
        return self.group.members[0]

    def ready(self) -> bool:
        return self.member.get("/readyz")[0] == 200

    def says(self, reason: str) -> None:
        """It is not ready, for this reason, and it is alive."""
        until(lambda: re.search(reason, self.unready()), f"/readyz says {reason}: it says {self.member.get('/readyz')}")
        assert self.member.get("/livez")[0] == 200

    def unready(self) -> str:
        status, text = self.member.get("/readyz")
        return text if status == 503 else ""

    def stands_still(self, backlog: int) -> None:
        """For one and a half times as long as a poll may take, nothing is written, kept or lost, though more comes."""
        before = self.state()
        self.load.produce(backlog)
        self.load.flush()
        time.sleep(1.5 * INTERVAL_MS / 1000)
        assert self.state() == before
        assert self.unready()

    def state(self) -> tuple[Any, ...]:
        return self.group.stored(), self.group.letters(), self.member.rebalances()


def resident(member: Member) -> int:
    """Bytes of memory."""
    status = Path(f"/proc/{member.process.pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) * 1024


@contextmanager
def at_work(group: Group, services: Services) -> Iterator[World]:
    """A member at work; after the block all that was produced must be in, by itself."""
    with history(group), Load(services.bootstrap, group.topic, PARTITIONS, RATE, pad=PAD) as load:
        world = World(group, load)
        group.start()
        until(group.settled, "the first assignment")
        group.go_on(RATE)
        until(world.ready, "it is ready")
        load.stop()
        size = resident(world.member)
        yield world
        load.flush()
        until(world.ready, "it is ready again")
        until(lambda: group.position() == len(load.ledger), "everything is committed")
        assert resident(world.member) - size < MOST_BYTES
        group.finish(load.ledger)


@pytest.fixture
def site(server: Postgres) -> Iterator[Site]:
    """The way to the database."""
    with closing(Site(server)) as site:
        yield site


@pytest.mark.parametrize(("protocol", "how"), [(CLASSIC, "refused"), (KIP_848, "black hole")])
def test_the_database_is_away(services: Services, site: Site, protocol: str, how: str) -> None:
    """Connections refused, or silent."""
    topic = create_topic(services)
    group = site.group(services, topic, topic, protocol, kafka={"max.poll.interval.ms": INTERVAL_MS}, **ADMIN)
    with at_work(group, services) as world:
        leave: dict[str, Callable[[], None]] = {"refused": site.proxy.refuse, "black hole": site.proxy.hang}
        leave[how]()
        site.proxy.cut()
        world.load.produce(100)
        world.says("PostgreSQL")
        world.stands_still(BACKLOG)
        site.proxy.accept()
        site.proxy.release()
        until(world.ready, "it is ready again")
        assert world.member.rebalances() == ["assigned"]


def test_the_broker_is_away(services: Services, site: Site, broker: Kafka) -> None:
    """Killed, and started again."""
    topic = create_topic(services)
    group = site.group(services, topic, topic, kafka={"reconnect.backoff.max.ms": 500}, **ADMIN)
    with at_work(group, services) as world:
        until(lambda: group.position() == len(world.load.ledger), "what was read is written")
        before = world.state()
        broker.kill()
        try:
            world.says("Kafka")
            assert world.state() == before
        finally:
            broker.start()
        world.load.produce(1000)


def test_the_dead_letter_topic_is_away(services: Services, site: Site) -> None:
    """It is missing: rows are written until too many dead letters wait for it; then nothing is, until it is there."""
    topic = create_topic(services)
    admin = AdminClient({"bootstrap.servers": services.bootstrap})
    admin.delete_topics([f"{topic}.dlq"])[f"{topic}.dlq"].result()
    kafka = {"max.poll.interval.ms": INTERVAL_MS, "topic.metadata.propagation.max.ms": 500}
    group = site.group(services, topic, topic, kafka=kafka, dead_letter={"max_pending": MAX_PENDING}, **ADMIN)
    with history(group), Load(services.bootstrap, topic, PARTITIONS, 3 * RATE) as load:
        world = World(group, load)
        group.start()
        world.says("dead letters wait for their topics")
        load.stop()
        assert group.pending() > MAX_PENDING
        world.stands_still(1000)
        admin.create_topics([NewTopic(f"{topic}.dlq", 1, 1)])[f"{topic}.dlq"].result()
        load.flush()
        until(world.ready, "it is ready again")
        group.finish(load.ledger)

"""How a member leaves, and what it sits out."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from tests.faults.campaign import PARTITIONS, RATE, create_topic, history
from tests.faults.group import CLASSIC, KIP_848, Group, Services
from tests.faults.load import Load
from tests.faults.waiting import until
from tests.services.postgres import Postgres

NEVER_MS = 60_000  # longer than any of these tests waits: what happens before it has not waited for it


@contextmanager
def loaded(
    services: Services, members: int, protocol: str = CLASSIC, **options
) -> Iterator[tuple[Group, Callable[[], None]]]:
    """A group of so many members under load, settled; the function ends the load and compares table and ledger."""
    topic = create_topic(services)
    group = Group(services, topic, topic, PARTITIONS, protocol, **options)
    with history(group), Load(services.bootstrap, topic, PARTITIONS, RATE) as load:
        for _ in range(members):
            group.start()
        until(group.settled, f"{topic} has its first assignment")

        def finish() -> None:
            load.stop()
            group.finish(load.ledger)

        yield group, finish


@pytest.mark.parametrize("protocol", [CLASSIC, KIP_848])
def test_sigterm_drains(services: Services, protocol: str) -> None:
    """Under load, SIGTERM ends a member with exit code 0 within a batch and 5 s, and the other goes on at once."""
    # Sessions last for a minute: the other can have its partitions only because the member said that it leaves.
    with loaded(services, 2, protocol, session_ms=NEVER_MS) as (group, finish):
        leaver = group.members[0]
        leaver.leave(seconds=6)
        group.members.remove(leaver)
        until(group.settled, "the other has all partitions", NEVER_MS / 2000)
        group.go_on(1000)
        finish()


def test_a_second_sigterm_leaves_at_once(services: Services) -> None:
    """While a write is blocked a member drains for its grace of a minute, but a second signal ends it, exit code 1."""
    with loaded(services, 2, settings={"shutdown_grace_ms": NEVER_MS}) as (group, finish):
        with psycopg.connect(services.dsn) as connection:
            connection.execute(f"lock table {group.name} in access exclusive mode")
            impatient = group.members[0]
            until(lambda: group.blocked(impatient), "a write of it is blocked")
            impatient.send(signal.SIGTERM)
            until(lambda: "draining" in impatient.log(None), "it drains")
            assert not impatient.dead()
            impatient.send(signal.SIGTERM)
            impatient.ended(1, NEVER_MS / 2000)
            group.members.remove(impatient)
        until(group.settled, "the other has all partitions")
        finish()


def test_an_outage_of_the_database_does_not_cost_the_membership(services: Services, server: Postgres) -> None:
    """The database away for longer than max.poll.interval.ms: no rebalance, no record lost or doubled."""
    interval_ms = 4400
    options = {"kafka": {"max.poll.interval.ms": interval_ms}, "sink": {"write_deadline_ms": 1000}}
    with loaded(services, 2, **options) as (group, finish):
        before = [member.rebalances() for member in group.members]
        server.process.send_signal(signal.SIGINT)
        server.process.wait(30)
        time.sleep(1.5 * interval_ms / 1000)
        server.start()
        group.reconnect()
        group.go_on(1000)
        assert [member.rebalances() for member in group.members] == before
        finish()


def test_a_former_owner_that_blocks_loses_its_session(services: Services) -> None:
    """A member stopped in COPY holds the offsets; the next owner ends its session, while it is still stopped."""
    with loaded(services, 2) as (group, finish):
        frozen = group.members[0]
        group.freeze(frozen, "in_copy")
        since = group.owned(frozen)
        until(lambda: group.taken_over(since, frozen), "the other goes on", 20)
        assert group.sessions(frozen) == 0
        frozen.send(signal.SIGCONT)
        until(group.settled, "both have partitions again")
        finish()


@pytest.mark.parametrize("protocol", [CLASSIC, KIP_848])
def test_two_of_one_static_name(services: Services, protocol: str) -> None:
    """When a stopped static member goes on and another has its name, one of the two ends with exit code 1."""
    with loaded(services, 2, protocol, static=True) as (group, finish):
        old = group.members[0]
        group.freeze(old, "before_begin")
        group.members.remove(old)
        new = group.back(old.number)
        group.go_on(1000)
        old.send(signal.SIGCONT)
        until(lambda: old.dead() or new.dead(), "one of them ends")
        # The classic protocol keeps whoever joined last: that may be the old one, if it noticed first that it was late.
        ended, stays = (old, new) if old.dead() else (new, old)
        ended.ended(1)
        group.members = [member for member in group.members if member is not new] + [stays]
        until(group.settled, "the other has its partitions")
        finish()

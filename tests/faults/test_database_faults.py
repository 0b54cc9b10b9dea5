"""What can befall databases, done to two of them under load: each record is in once, and no outage is poison."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest

from tests.faults.campaign import PARTITIONS, create_topic, history, suffer
from tests.faults.group import CLASSIC, KIP_848, Group, Services
from tests.faults.load import Load
from tests.faults.rounds import LONG, Round, Rounds
from tests.faults.site import Site
from tests.services.postgres import Postgres, SmallDiskPostgres

RATE = 600
PAIR = 2
pytestmark = pytest.mark.timeout(0 if LONG else 300)


Strike = Callable[[Site, Group, random.Random], None]
MOMENTS = ("before", "while", "after")
FIRST: dict[str, Strike] = {
    "terminate": Site.terminate,
    "restart": Site.restart,
    "SIGSTOP": Site.freeze,
    "read-only": Site.read_only,
    **{f"cut {moment} COMMIT": lambda site, *more, m=moment: site.cut(m, *more) for moment in MOMENTS},
}
SECOND: dict[str, Strike] = {
    "deadlock": Site.deadlock,
    "lock": Site.lock,
    "lock timeout": Site.lock_timeout,
}
DISK: dict[str, Strike] = {"disk full": Site.fill_disk}


@pytest.fixture
def second() -> Iterator[Postgres]:
    """A server whose disk can be filled, if this machine lets us have one."""
    settings = {"deadlock_timeout": "3s"}  # see services.postgres.deadlock: the machine may be slow
    server = SmallDiskPostgres(64 << 20, settings) if SmallDiskPostgres.possible() else Postgres(settings)
    server.start()
    yield server
    server.stop()


def strike(site: Site, kinds: dict[str, Strike], plan: list[str], round_: Round, group: Group) -> None:
    """Do of the plan what is for this site, one after the other; and nobody leaves the group for it."""
    random_ = random.Random(f"{round_.seed} {group.protocol}")
    before = [member.rebalances() for member in group.members]
    for kind in plan:
        if kind in kinds:
            group.note(kind)
            kinds[kind](site, group, random_)
            group.counts[kind] += 1
            group.go_on(random_.randrange(1, 300))
    assert [member.rebalances() for member in group.members] == before


def test_database_faults(services: Services, server: Postgres, second: Postgres) -> None:
    """Sessions ended, the server restarted, stopped, read-only, without room, locked; connections cut around COMMIT."""
    small = isinstance(second, SmallDiskPostgres)
    if not small:
        sys.stdout.write("no disk is filled: this machine has no namespaces of users\n")
    kinds = FIRST, SECOND | (DISK if small else {})
    with closing(Site(server)) as first, closing(Site(second)) as other:
        sites = first, other
        for round_ in Rounds("database", 26, 500):
            topic, plan = create_topic(services), round_.kinds([*kinds[0], *kinds[1]])
            groups = [
                site.group(services, topic, f"{topic}_{number}", protocol)
                for number, (site, protocol) in enumerate(zip(sites, (CLASSIC, KIP_848), strict=True))
            ]
            work = [
                (group, partial(strike, site, known, plan, round_, group))
                for group, site, known in zip(groups, sites, kinds, strict=True)
            ]
            with round_.told(), history(*groups), Load(services.bootstrap, topic, PARTITIONS, RATE) as load:
                suffer(load, work, PAIR)
                for group in groups:
                    round_.counts += group.counts
                    group.drop()

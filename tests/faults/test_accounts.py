"""Every record is accounted for, whenever somebody looks."""

from __future__ import annotations

import random
import threading
from collections import Counter, defaultdict
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.campaign import PARTITIONS, TRIO, create_topic, history
from tests.faults.group import Group, Member, Services
from tests.faults.load import Load
from tests.faults.rounds import SEED
from tests.faults.site import Site
from tests.faults.waiting import until
from tests.services.postgres import Postgres

RATE = 800
SHARE = 0.02
ENDS = {"written", "duplicate", "filtered", "dead_lettered", "released", "in_flight"}


def accounts(member: Member) -> dict[str, Counter[str]]:
    """What its /metrics say became of records, by topic; nothing while nobody listens."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for family in text_string_to_metric_families(member.get("/metrics")[1]):
        for sample in family.samples:
            name = sample.name.removeprefix("microbatch_records_").removesuffix("_total")
            if name in ENDS | {"consumed"} and sample.name != name:
                found[sample.labels["topic"]][name] += int(sample.value)
    return found


class Auditor(threading.Thread):
    """Looks at all members of a group in turn, without a pause, until `end`."""

    def __init__(self, group: Group) -> None:
        super().__init__(name="auditor")
        self._group, self._ending = group, threading.Event()
        self.looks, self.seen, self.wrong = 0, Counter[str](), list[str]()

    def run(self) -> None:
        while not self._ending.is_set():
            for member in list(self._group.members):
                for topic, account in accounts(member).items():
                    self.looks += 1
                    self.seen += account
                    if account["consumed"] != sum(account[name] for name in ENDS) or min(account.values()) < 0:
                        self.wrong.append(f"{member}, {topic}: {dict(account)}")

    def end(self) -> None:
        self._ending.set()
        self.join()


@pytest.mark.timeout(300)
def test_every_record_is_accounted_for_at_every_scrape(services: Services, server: Postgres) -> None:
    """Through rebalances, outages, lost answers and bad records; and when all is done, nothing is in flight."""
    topic, random_ = create_topic(services), random.Random(SEED)
    with closing(Site(server)) as site:
        group = site.group(services, topic, topic, admin={"port": 0})
        auditor = Auditor(group)
        with history(group), Load(services.bootstrap, topic, PARTITIONS, RATE, SHARE) as load:
            for _ in range(TRIO):
                group.start()
            until(group.settled, "the first assignment")
            auditor.start()
            try:
                suffer(site, group, random_)
                load.stop()
                until(lambda: group.position() == len(load.ledger), "everything is committed")
                until(lambda: all(idle(member) for member in group.members), "nothing is in flight")
            finally:
                auditor.end()
            group.finish(load.ledger)
    assert auditor.wrong == []
    assert auditor.looks > 100
    assert {name for name, count in auditor.seen.items() if count} >= {"written", "dead_lettered", "in_flight"}


def idle(member: Member) -> bool:
    """Whether it answers, and has nothing in hand; one that came last may never have read a record."""
    return member.get("/metrics")[0] == 200 and all(one["in_flight"] == 0 for one in accounts(member).values())


def suffer(site: Site, group: Group, random_: random.Random) -> None:
    """What befalls it, each followed by a while of work."""
    strikes = [site.terminate, site.restart, site.read_only, site.lock]
    strikes += [lambda *more, moment=moment: site.cut(moment, *more) for moment in ("before", "after", "after")]
    random_.shuffle(strikes)
    for number, strike in enumerate(strikes):
        strike(group, random_)
        group.go_on(300)
        member = random_.choice(group.members)
        if number % 2:
            group.leave(member)
        else:
            group.kill(member, "random")
        group.start()
        group.go_on(300)

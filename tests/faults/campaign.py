"""Faults done to several groups at once, under load; at the end every table must equal the ledger.

MICROBATCH_FAULTS (1) multiplies the number of faults, MICROBATCH_FAULTS_SEED repeats the choices of a run (their timing
is the machine's).
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

from confluent_kafka.admin import AdminClient, NewTopic

from tests.faults.group import Group, Member, Services, shuffled
from tests.faults.load import BAD_SHARE, SCHEMA, Ledger, Load, as_avro
from tests.faults.member import BATCH_POINTS, CLAIM_POINTS
from tests.faults.rounds import SEED
from tests.faults.waiting import until

PARTITIONS = 6
RATE = 1500
TRIO = 3
SCALE = int(os.environ.get("MICROBATCH_FAULTS", "1"))
ZOMBIE_POINTS = ("in_copy", "before_begin", "before_commit", "after_begin", "around_commit", "around_transaction")
_MOST = 4

Faults = Callable[[Group, random.Random], None]
Work = Sequence[tuple[Group, Callable[[], None]]]


def create_topic(services: Services, partitions: int = PARTITIONS) -> str:
    """A new topic, and the one of its dead letters."""
    topic = f"faults_{uuid.uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": services.bootstrap})  # held: its futures die with it
    for created in admin.create_topics([NewTopic(topic, partitions, 1), NewTopic(f"{topic}.dlq", 1, 1)]).values():
        created.result()
    return topic


def run(
    services: Services,
    faults: Faults,
    protocols: tuple[str, ...],
    *,
    defect: str = "none",
    static: bool = False,
    patience: float = 60,
) -> Counter[str]:
    """Do `faults` to one group for each of `protocols`, all reading one topic. Returns how many of which kind.

    Records are Avro, which is read and written as vectors, but for the batches with a bad one.
    `patience`: seconds for writing what is left when nothing more is produced. Raises AssertionError when a table
    differs from the ledger.
    """
    topic = create_topic(services)
    share = BAD_SHARE if defect == "none" else 0.0  # a defect is found by its rows
    settings = {"format": {"type": "avro", "schema": str(SCHEMA)}}
    groups = [
        Group(
            services, f"{topic}_{number}", topic, PARTITIONS, protocol, defect=defect, static=static, settings=settings
        )
        for number, protocol in enumerate(protocols)
    ]
    with history(*groups), Load(services.bootstrap, topic, PARTITIONS, RATE, share, encode=as_avro) as load:
        suffer(load, [(group, partial(_faults, faults, group)) for group in groups], patience=patience)
        sys.stdout.write(_report(groups, load.ledger))
    return sum((group.counts for group in groups), Counter())


def suffer(load: Load, work: Work, members: int = TRIO, patience: float = 60) -> None:
    """Start so many members of each group, do to each what is to be done, all at once; then every table must be right.

    Raises AssertionError when one differs from the ledger.
    """
    with ThreadPoolExecutor(len(work)) as pool:
        for job in [pool.submit(_suffer, group, faults, members) for group, faults in work]:
            job.result()
        load.stop()
        for job in [pool.submit(group.finish, load.ledger, patience) for group, _ in work]:
            job.result()


def _suffer(group: Group, faults: Callable[[], None], members: int) -> None:
    for _ in range(members):
        group.start()
    until(group.settled, f"{group.name} has its first assignment")
    faults()


def _faults(faults: Faults, group: Group) -> None:
    faults(group, random.Random(f"{SEED} {group.name[-1]}"))


@contextmanager
def history(*groups: Group) -> Iterator[None]:
    """A failure in here says the seed, and what was done to whom; no process is left behind."""
    try:
        yield
    except AssertionError as error:
        told = "\n".join(group.story() for group in groups)
        raise AssertionError(f"MICROBATCH_FAULTS_SEED={SEED}: {error}\nWhat happened:\n{told}") from error
    finally:
        for group in groups:
            group.end()


def _report(groups: list[Group], ledger: Ledger) -> str:
    counted = f"{len(ledger)} records in the ledger, {len(ledger.bad)} of them bad"
    lines = [f"seed {SEED}; {counted}, each once in {len(groups)} groups"]
    lines += [
        f"{group.protocol}: {sum(group.counts.values())} faults, {dict(sorted(group.counts.items()))}"
        for group in groups
    ]
    return "\n".join(lines) + "\n"


def kills(count: int, points: tuple[str, ...] = (*BATCH_POINTS, *CLAIM_POINTS, "random")) -> Faults:
    """SIGKILL one of three, and start another in its place, `count` times."""

    def faults(group: Group, random_: random.Random) -> None:
        for point in shuffled(random_, points, count):
            if point in CLAIM_POINTS:
                # Who claims is who has just come.
                newcomer = group.start(orders=(point, signal.SIGKILL))
                until(newcomer.dead, f"{newcomer} of {group.name} reaches {point}")
                group.died(newcomer, point)
                continue
            group.go_on(random_.randrange(1, 400))
            group.kill(random_.choice(until(group.owners, f"{group.name} has owners")), point)
            group.start()

    return faults


def zombies(count: int, points: tuple[str, ...] = ZOMBIE_POINTS) -> Faults:
    """SIGSTOP one of three beyond its session; when others have written what it had in hand, SIGCONT; `count` times."""

    def faults(group: Group, random_: random.Random) -> None:
        for point in shuffled(random_, points, count):
            while not _zombie(group, random_.choice(until(group.owners, f"{group.name} has owners")), point):
                pass

    return faults


def _zombie(group: Group, member: Member, point: str) -> bool:
    """Returns whether the member owned anything: only then others could write it."""
    group.freeze(member, point)
    stopped_at, session = time.monotonic(), group.session_ms / 1000
    if since := group.owned(member):
        until(
            lambda: time.monotonic() - stopped_at > 1.5 * session and group.taken_over(since, member),
            f"{group.name}: others take {sorted(since)} over from {member}, stopped {point}",
        )
        group.counts[f"SIGSTOP {point}"] += 1
    member.send(signal.SIGCONT)
    group.note(f"{member} goes on, after {time.monotonic() - stopped_at:.1f} s; it had {since}")
    return bool(since)


def changes(count: int) -> Faults:
    """A member joins, or leaves by SIGTERM, `count` times."""

    def faults(group: Group, random_: random.Random) -> None:
        for _ in range(count):
            few, many = len(group.members) < TRIO, len(group.members) >= _MOST
            if few or (not many and random_.random() < 0.5):
                group.start()
                group.counts["join"] += 1
            else:
                group.leave(random_.choice(group.members))
                group.counts["leave"] += 1
            if random_.random() < 0.5:
                until(group.settled, f"{group.name} settles")
            else:
                group.go_on(random_.randrange(1, 2000))

    return faults


def returns(count: int) -> Faults:
    """A static member ends, by SIGKILL and SIGTERM in turn, and comes back under its name; `count` times."""

    def faults(group: Group, random_: random.Random) -> None:
        for turn in range(count):
            member = random_.choice(until(group.owners, f"{group.name} has owners"))
            if turn % 2:
                group.kill(member, "random")
            else:
                group.leave(member)
                group.counts["SIGTERM"] += 1
            group.back(member.number)

    return faults

"""What can befall brokers, a real one and a mock, under load: members go on by themselves, each record is in once."""

from __future__ import annotations

import random
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial

import pytest
from confluent_kafka import KafkaError

from tests.faults.campaign import PARTITIONS, create_topic, history, suffer
from tests.faults.group import CLASSIC, KIP_848, SESSION_MS, Group, Services
from tests.faults.load import Load
from tests.faults.rounds import LONG, Round, Rounds
from tests.services.kafka import Kafka
from tests.services.mock_kafka import MockKafka

RATE = 600
PAIR = 2
MOCK_PARTITIONS = 4  # as it makes topics
MOCK_RATE = 200  # it forgets the oldest records of a partition past 5 MiB
FETCH, LIST_OFFSETS, OFFSET_COMMIT, FIND_COORDINATOR, JOIN, HEARTBEAT, SYNC = 1, 2, 8, 10, 11, 12, 14  # Kafka's numbers
_AGAIN_SECONDS = 120  # a client that knows no broker any more is replaced first, and one for claims before it
SETTINGS = {"retry": {"max_delay_ms": 500}}
QUICK = {"reconnect.backoff.max.ms": 500}
_LEADER = ("NOT_LEADER_FOR_PARTITION", "LEADER_NOT_AVAILABLE", "FENCED_LEADER_EPOCH", "UNKNOWN_LEADER_EPOCH")
_COORDINATOR = ("NOT_COORDINATOR", "COORDINATOR_NOT_AVAILABLE", "COORDINATOR_LOAD_IN_PROGRESS")
_MEMBERSHIP = ("UNKNOWN_MEMBER_ID", "ILLEGAL_GENERATION", "REBALANCE_IN_PROGRESS")
ERRORS: dict[str, tuple[int, tuple[str, ...]]] = {
    "leader (fetch)": (FETCH, _LEADER),
    "storage (fetch)": (FETCH, ("KAFKA_STORAGE_ERROR", "UNKNOWN")),
    "leader (list offsets)": (LIST_OFFSETS, _LEADER),
    "coordinator (heartbeat)": (HEARTBEAT, _COORDINATOR),
    "membership (heartbeat)": (HEARTBEAT, _MEMBERSHIP),
    "coordinator (find)": (FIND_COORDINATOR, _COORDINATOR[1:]),
    "coordinator (join)": (JOIN, _COORDINATOR),
    "coordinator (sync)": (SYNC, _COORDINATOR),
    "coordinator (commit)": (OFFSET_COMMIT, (*_COORDINATOR, *_MEMBERSHIP)),
}
# What a member asks seldom, and with which answer to a heartbeat it is brought to it.
PROMPTS = {
    LIST_OFFSETS: KafkaError.REBALANCE_IN_PROGRESS,
    FIND_COORDINATOR: KafkaError.NOT_COORDINATOR,
    JOIN: KafkaError.REBALANCE_IN_PROGRESS,
    SYNC: KafkaError.REBALANCE_IN_PROGRESS,
}
REAL, DOWN = ("kill -9", "SIGSTOP", "restart"), "connections cut"
pytestmark = pytest.mark.timeout(0 if LONG else 300)


class Meeting:
    """Groups of one real broker: what is done to it is done once, when all of them are ready, and all must go on."""

    def __init__(self, broker: Kafka, plan: list[str], groups: int, random_: random.Random) -> None:
        self._broker, self._plan, self._random = broker, plan, random_
        self._barrier = threading.Barrier(groups, timeout=2 * _AGAIN_SECONDS)

    def attend(self, group: Group) -> None:
        """Until the plan is done."""
        for kind in self._plan:
            if self._barrier.wait() == 0:
                self._do(kind)
                group.counts[kind] += 1
            self._barrier.wait()
            group.note(kind)
            group.go_on(300, _AGAIN_SECONDS)

    def _do(self, kind: str) -> None:
        if kind == "kill -9":
            self._broker.kill()
            time.sleep(self._random.uniform(0, 1))
            self._broker.start()
        elif kind == "restart":
            self._broker.restart()
        else:
            self._broker.freeze()
            time.sleep(self._random.uniform(0.2, 1.5) * SESSION_MS[CLASSIC] / 1000)
            self._broker.thaw()


def answer(mock: MockKafka, load: Load, plan: list[str], random_: random.Random, group: Group) -> None:
    """The mock answers with errors, or cuts all connections; after each of that the group goes on."""
    for kind in plan:
        group.note(kind)
        if kind == DOWN:
            with load.at_rest():
                mock.down()
            time.sleep(random_.uniform(0.1, 1))
            mock.up()
        else:
            request, names = ERRORS[kind]
            codes = [getattr(KafkaError, name) for name in random_.choices(names, k=random_.randrange(1, 4))]
            mock.fail(*codes, request=request)
            if request in PROMPTS:
                mock.fail(PROMPTS[request], request=HEARTBEAT)
        group.counts[kind] += 1
        group.go_on(random_.randrange(MOCK_RATE // 2, MOCK_RATE * 2))  # after a heartbeat or two
    for request, _ in ERRORS.values():
        mock.mend(request)  # what nobody asked for is not to meet the ledger


def real(services: Services, broker: Kafka, plan: list[str], round_: Round) -> None:
    """Two groups on a real broker."""
    topic = create_topic(services)
    groups = [
        Group(services, f"{topic}_{number}", topic, PARTITIONS, protocol, settings=SETTINGS, kafka=QUICK)
        for number, protocol in enumerate((CLASSIC, KIP_848))
    ]
    meeting = Meeting(broker, plan, len(groups), random.Random(f"{round_.seed} real"))
    with history(*groups), Load(services.bootstrap, topic, PARTITIONS, RATE) as load:
        suffer(load, [(group, partial(meeting.attend, group)) for group in groups], PAIR)
        round_.counts += sum((group.counts for group in groups), type(round_.counts)())


def mocked(services: Services, plan: list[str], round_: Round) -> None:
    """A group on a mock."""
    mock, topic = MockKafka(), f"mocked_{uuid.uuid4().hex[:8]}"
    for name in (topic, f"{topic}.dlq"):
        mock.create(name)
    services = replace(services, bootstrap=mock.bootstrap)
    # Its groups wait 3 s for their first members, which must not be taken for dead meanwhile.
    group = Group(services, topic, topic, MOCK_PARTITIONS, session_ms=6000, settings=SETTINGS, kafka=QUICK)
    with history(group), Load(mock.bootstrap, topic, MOCK_PARTITIONS, MOCK_RATE) as load:
        faults = partial(answer, mock, load, plan, random.Random(f"{round_.seed} mock"), group)
        suffer(load, [(group, faults)], 1)  # its groups do not share their partitions out anew as Kafka's do
        round_.counts += group.counts


def test_broker_faults(services: Services, broker: Kafka) -> None:
    """A real one killed, stopped, restarted; a mock that answers with errors of leader or coordinator, or is away."""
    for round_ in Rounds("broker", 26, 500):
        plan = round_.kinds([*REAL, *ERRORS, DOWN])
        with round_.told(), ThreadPoolExecutor(2) as pool:
            jobs = [
                pool.submit(real, services, broker, [kind for kind in plan if kind in REAL], round_),
                pool.submit(mocked, services, [kind for kind in plan if kind not in REAL], round_),
            ]
            for job in jobs:
                job.result()

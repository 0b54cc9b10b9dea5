"""Dead letters that their topic does not take: rows go on, and once it takes them it gets each of them, unchanged."""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import KafkaError
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from consumer.batch import BatchPolicy
from consumer.breaker import Breaker
from consumer.config import load
from consumer.deadletter import DeadLetterTopic
from consumer.limits import Limits
from consumer.mapping.opening import open_mapper
from consumer.metrics import Metrics
from consumer.pipeline import Pipeline
from consumer.sinks.postgres import PostgresSink
from consumer.steering import Steering
from consumer.table import Target
from consumer.telemetry import Telemetry
from consumer.writer import Writer
from tests.fake_kafka import MemoryBroker, MemoryCluster, MemorySource
from tests.faults.load import COLUMNS, FAULTS, Ledger, kept, published, record
from tests.faults.rounds import LONG, Round, Rounds
from tests.faults.waiting import until
from tests.services.kafka import Kafka
from tests.services.mock_kafka import MockKafka

RECORDS = 60
LARGE = "x" * 5000
LIMITS = Limits(longest_delay=0.2)
QUICK = {  # what makes the client notice sooner that all is well again
    "reconnect.backoff.max.ms": 200,
    "topic.metadata.propagation.max.ms": 200,
    "topic.metadata.refresh.interval.ms": 200,
}
ANSWERS = {
    "authorization": KafkaError.TOPIC_AUTHORIZATION_FAILED,
    "invalid record (mock)": KafkaError.INVALID_RECORD,
    "not enough replicas": KafkaError.NOT_ENOUGH_REPLICAS,
}
# After these it is sent again, by the client itself or each record alone, and that may do: nobody need be told.
SENT_AGAIN = {"not enough replicas", "invalid record (mock)"}
_SHARE = 0.1
pytestmark = pytest.mark.timeout(0 if LONG else 300)


class Line:
    """Records of one topic of a Kafka in memory into a real table; their dead letters into a topic of another Kafka."""

    def __init__(self, bootstrap: str, dsn: str, folder: Path, ends: ExitStack, round_: Round, pad: str = "") -> None:
        self.name, self.dlq = (name := f"letters_{uuid.uuid4().hex[:8]}"), f"{name}.dlq"
        self.bootstrap, self._dsn, self.ledger, self.metrics = bootstrap, dsn, Ledger(), Metrics()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(f"create table {name} (place bigserial, {COLUMNS})")
        broker, config = MemoryBroker({name: 1}), folder / f"{name}.yaml"
        for seq in range(RECORDS):
            fault = round_.random.choice(FAULTS) if seq > 1 and (seq == 2 or round_.random.random() < _SHARE) else None
            value = record(0, seq, seq, fault, pad)
            broker.produce(name, 0, value)
            if fault:
                self.ledger.bad.append((0, seq, value))
            else:
                self.ledger.entries.append((0, seq, seq))
        kafka = {"bootstrap.servers": bootstrap, "group.id": name, **QUICK}
        settings = {"kafka": kafka, "topics": [name], "format": "json", "sink": {"dsn": dsn}}
        config.write_text(json.dumps(settings))
        sink = PostgresSink(dsn, [Target(name)], name, name)
        ends.callback(sink.close)
        outbox = DeadLetterTopic(kafka | {"log_level": 0}, group=name)
        self._pipeline = Pipeline(
            MemorySource(broker, name, [name]),
            MemoryCluster(broker, name),
            Writer(sink, open_mapper(load(config), sink.describe), Breaker(RECORDS, 1.0), outbox),
            sink.interrupt,
            Telemetry(self.metrics),
            steering=Steering(BatchPolicy(20, max_wait_ms=5)),
            limits=LIMITS,
        )
        self._sink = sink

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the dead letters are published."""
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            end = pool.submit(self._pipeline.run, stop)
            try:
                yield
                until(lambda: not self.pending() or end.done(), f"{self.dlq} gets its dead letters")
            finally:
                stop.set()
            end.result(30)
        self._sink.close()

    def goes_on(self) -> None:
        """All rows are written, though no dead letter is published."""
        until(lambda: self._done() == RECORDS, f"{self.name} is written")
        assert self.pending() == len(self.ledger.bad)

    def refused(self) -> None:
        """A dead letter has come back."""
        until(lambda: self.metrics.total("dead_letter_publish_failures"), f"{self.dlq} refuses")

    def pending(self) -> int:
        """As the table says, because the metric is a moment late."""
        if self._done() < RECORDS:
            return RECORDS
        with psycopg.connect(self._dsn) as connection:
            query = "select count(*) from microbatch_dead_letters where group_id = %s and state <> 'published'"
            return int(connection.execute(query, [self.name]).fetchall()[0][0])

    def account(self, *, in_part: bool = False) -> None:
        """The end: rows, dead letters in the table and those in the topic are as they must be.

        `in_part`: the topic may have some of them without their value.
        """
        letters = published(self.bootstrap, self.dlq, self.name)
        if in_part:
            whole = {(partition, offset): value for partition, offset, value in self.ledger.bad}
            letters = [(partition, offset, value or whole[partition, offset]) for partition, offset, value in letters]
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            found = self.ledger.misjudged(kept(connection, self.name, self.name), letters)
            found += self.ledger.differences(self._dsn, self.name)
            connection.execute(f"drop table {self.name}")
        assert found == []

    def _done(self) -> float:
        return self.metrics.total("records_written") + self.metrics.total("records_dead_lettered")


class Real:
    """A topic of a real Kafka that is missing, or does not take records, or whose broker dies."""

    def __init__(self, broker: Kafka, dsn: str, folder: Path, ends: ExitStack) -> None:
        self._broker, self._line = broker, partial(Line, broker.bootstrap, dsn, folder, ends)
        self._admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})

    def missing(self, round_: Round) -> None:
        """The topic is created when dead letters wait for it."""
        self._mended(self._line(round_), self._create)

    def too_large(self, round_: Round) -> None:
        """What is too large is published without its value, or if there is no room for that either, once there is."""
        line, none = self._line(round_, LARGE), round_.random.random() < 0.5
        self._create(line, max_message_bytes=100 if none else 3000)
        if none:
            self._mended(line, partial(self._set, max_message_bytes=1_000_000), in_part=True)
        else:
            with line.running():
                line.goes_on()
            line.account(in_part=True)

    def invalid(self, round_: Round) -> None:
        """A compacted topic takes no record without a key."""
        line = self._line(round_)
        self._create(line, cleanup_policy="compact")
        self._mended(line, partial(self._set, cleanup_policy="delete"))

    def broker_down(self, round_: Round) -> None:
        """The broker dies, and comes back."""
        line = self._line(round_)
        self._create(line)
        self._broker.kill()
        self._mended(line, lambda _: self._broker.start(), refused=False)

    def _mended(self, line: Line, mend: Callable[[Line], None], *, refused: bool = True, in_part: bool = False) -> None:
        """The rows are written; then, and not before, dead letters are published. `refused`: the client tells."""
        with line.running():
            try:
                line.goes_on()
                if refused:
                    line.refused()
            finally:
                mend(line)
        line.account(in_part=in_part)

    def _create(self, line: Line, **config: object) -> None:
        # The records in memory are old: they must not be forgotten at once.
        settings = {name.replace("_", "."): str(value) for name, value in config.items()} | {"retention.ms": "-1"}
        self._admin.create_topics([NewTopic(line.dlq, 1, 1, config=settings)])[line.dlq].result()

    def _set(self, line: Line, **config: object) -> None:
        entries = [
            ConfigEntry(name.replace("_", "."), str(value), incremental_operation=AlterConfigOpType.SET)
            for name, value in config.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, line.dlq, incremental_configs=entries)
        self._admin.incremental_alter_configs([resource])[resource].result()


class Mock:
    """A mock broker that answers with errors, or goes away."""

    def __init__(self, dsn: str, folder: Path, ends: ExitStack) -> None:
        self._mock = MockKafka()
        self._line = partial(Line, self._mock.bootstrap, dsn, folder, ends)

    def answers(self, kind: str, round_: Round) -> None:
        """The next few of its answers are errors."""
        line = self._topic(round_)
        self._mock.fail(*[ANSWERS[kind]] * round_.random.randrange(1, 10))
        with line.running():
            if kind not in SENT_AGAIN:
                line.refused()
        self._mock.mend()
        line.account()

    def broker_down(self, round_: Round) -> None:
        """It goes away, and comes back."""
        line = self._topic(round_)
        self._mock.down()
        with line.running():
            line.goes_on()
            self._mock.up()
        line.account()

    def _topic(self, round_: Round) -> Line:
        line = self._line(round_)
        self._mock.create(line.dlq)
        return line


@pytest.fixture
def ends() -> Iterator[ExitStack]:
    """What is to be closed at the end, also when a test fails."""
    with ExitStack() as stack:
        yield stack


def test_dead_letter_faults(broker: Kafka, dsn: str, tmp_path: Path, ends: ExitStack) -> None:
    """Missing, too large, refused, not allowed, without replicas, without a broker: six kinds of failures."""
    real, mock = Real(broker, dsn, tmp_path, ends), Mock(dsn, tmp_path, ends)
    lanes: list[dict[str, Callable[[Round], None]]] = [
        {
            "missing": real.missing,
            "too large": real.too_large,
            "invalid record": real.invalid,
            "broker down": real.broker_down,
        },
        {kind: partial(mock.answers, kind) for kind in ANSWERS} | {"broker down (mock)": mock.broker_down},
    ]
    for round_ in Rounds("dead letters", 16, 300):
        plan = round_.kinds([kind for lane in lanes for kind in lane])
        with round_.told(), ThreadPoolExecutor(len(lanes)) as pool:
            for job in [pool.submit(follow, lane, plan, round_) for lane in lanes]:
                job.result()


def follow(lane: dict[str, Callable[[Round], None]], plan: list[str], round_: Round) -> None:
    for kind in plan:
        if kind in lane:
            try:
                lane[kind](round_)
            except AssertionError as error:
                raise AssertionError(f"{kind}: {error}") from error
            round_.counts[kind] += 1

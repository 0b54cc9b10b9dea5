"""Where it is measured: a real Kafka with the topics, a real PostgreSQL that keeps what it confirms, and the clock."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import MappingProxyType

import psycopg
from confluent_kafka import Consumer, Message
from confluent_kafka.admin import AdminClient, NewTopic

from tests.benchmarks import orders
from tests.benchmarks.results import ROOT
from tests.services.kafka import Kafka
from tests.services.postgres import Postgres

BATCH = 5000
PARTITIONS = 4
# Durable, which the servers of the tests are not, and without checkpoints that fall into one run and not the next.
# The server notes the time of each commit: so every candidate is timed by the same clock, and none by itself.
DURABLE = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "track_commit_timestamp": "on",
}
_COMMITS = """
select extract(epoch from pg_xact_commit_timestamp(xmin))::float8, count(*) from orders group by xmin order by 1
"""
_PATIENCE_SECONDS = 30


@dataclass(frozen=True)
class Topic:
    """What a topic holds: the first orders, so many that `share` of the lab's records there are, in some encoding.

    `period`: one of so many orders is spoilt; 0: none.
    """

    encode: Callable[[Iterable[int]], Iterable[bytes]]
    share: float = 1.0
    period: int = 0


TOPICS: dict[str, Topic] = {
    "json": Topic(orders.as_json),
    "avro": Topic(orders.as_avro),
    **{
        f"json-{name}": Topic(partial(orders.as_spoilt_json, period=period), period=period)
        for name, period in {"0.01%": 10_000, "1%": 100, "10%": 10}.items()
    },
    # For what takes too long over all of them.
    "json-part": Topic(orders.as_json, 0.2),
    "avro-part": Topic(orders.as_avro, 0.2),
    "json-schema": Topic(orders.as_json_with_schema),
}


@dataclass
class Lab:
    """`records` are in each of the topics `bench-json`, `bench-avro`, ...; `folder` is for files.

    `services`: the processes of Kafka and PostgreSQL by name, where they are ours. `warm_up`: the share of the records
    that has come before the clock runs; with 0 it runs from the first commit. `source`: the folder with the daemon's
    package.
    """

    bootstrap: str
    dsn: str
    folder: Path
    records: int
    services: Mapping[str, int] = field(default_factory=dict)
    warm_up: float = 0.0
    source: Path = ROOT
    _serial: Iterator[int] = field(default_factory=itertools.count)

    def prepare(self, names: Iterable[str] = TOPICS) -> None:
        """Make topics with their records, and the table."""
        for name in names:
            topic = topic_of(name)
            self.create(topic, PARTITIONS)
            self.create(f"{topic}.dlq", PARTITIONS)
            orders.produce(self.bootstrap, topic, PARTITIONS, TOPICS[name].encode(range(self.count(name))))
        self.empty()

    def create(self, topic: str, partitions: int, config: Mapping[str, str] | None = None) -> None:
        """An empty topic."""
        admin = self._admin()  # held: its futures die with it
        admin.create_topics([NewTopic(topic, partitions, 1, config=dict(config or {}))])[topic].result()

    def delete(self, topic: str) -> None:
        """The topic has gone, with what it takes on the disk."""
        admin = self._admin()
        admin.delete_topics([topic])[topic].result()

    def count(self, name: str) -> int:
        """How many records a topic has: whole batches, at least two, for a rate is from the first to the last."""
        return max(2, round(self.records * TOPICS[name].share) // BATCH) * BATCH

    def good(self, name: str) -> int:
        """How many of a topic's records are not spoilt."""
        period = TOPICS[name].period
        count = self.count(name)
        return count - (sum(orders.is_spoilt(number, period) for number in range(count)) if period else 0)

    def new_group(self) -> str:
        """A consumer group that nobody has used."""
        return f"bench-{next(self._serial)}"

    def empty(self, table: str = orders.TABLE, *, more: str = "", filled: int = 0) -> None:
        """A new table, and nothing that an earlier run left to be written.

        `more`: what else is done to the table. `filled`: so many orders are there already.
        """
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(f"drop table if exists orders; {table}; {more}".encode())
            connection.execute(orders.FILL, [filled])
            connection.execute("checkpoint")

    def rate(self, records: int) -> float:
        """Rows a second by the server's clock, once warm. Raises RuntimeError unless there are so many."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            commits = connection.execute(_COMMITS).fetchall()
        if (found := sum(rows for _, rows in commits)) != records:
            raise RuntimeError(f"{found} rows in the table, {records} were expected")
        return rate(commits, self.warm_up * records)

    def verify(self, records: int) -> None:
        """Raises RuntimeError unless the table has each of the first orders once, with its values."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            found = connection.execute(orders.SUMS).fetchone()
        if found != (wanted := orders.sums(records)):
            raise RuntimeError(f"the table's rows, ids and sums are {found}, {wanted} were expected")

    def _admin(self) -> AdminClient:
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 3})


def topic_of(name: str) -> str:
    """Where records of this kind are."""
    return f"bench-{name.replace('%', '')}"


def rate(commits: list[tuple[float, int]], before: float = 0.0) -> float:
    """Records a second, from (time in seconds, records) of each commit.

    The clock starts at the first commit, or at the first by which `before` records have come; what came by then came
    before its time.
    """
    if len(commits) < 2:
        raise RuntimeError("everything came with one commit: that has no rate; take more records")
    totals = list(itertools.accumulate(count for _, count in commits))
    start = next(place for place, total in enumerate(totals) if total >= before)
    return (totals[-1] - totals[start]) / (commits[-1][0] - commits[start][0])


@contextmanager
def laboratory(
    records: int = 0, topics: Iterable[str] = (), settings: Mapping[str, str] = MappingProxyType(DURABLE)
) -> Iterator[Lab]:
    """Kafka and PostgreSQL with everything in place; gone afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="microbatch-bench-")))
        broker, server = Kafka(folder), Postgres(settings)
        for service in (broker, server):
            service.start()
            stack.callback(service.stop)
        services = {"kafka": broker.process.pid, "postgresql": server.process.pid}
        lab = Lab(broker.bootstrap, server.dsn, folder, records, services)
        lab.prepare(topics)
        yield lab


@contextmanager
def consuming(lab: Lab, topic: str, auto_commit: bool = False) -> Iterator[Consumer]:
    """A consumer at the start of the topic, in a group of its own."""
    consumer = Consumer(
        {
            "bootstrap.servers": lab.bootstrap,
            "group.id": lab.new_group(),
            "auto.offset.reset": "earliest",
            "enable.auto.commit": auto_commit,
            # As the daemon has it: the default of 1000 would slow the limits and the loops, not the daemon.
            "fetch.queue.backoff.ms": 50,
        }
    )
    consumer.subscribe([topic])
    try:
        yield consumer
    finally:
        consumer.close()


def batches(consumer: Consumer, records: int) -> Iterator[list[Message]]:
    """So many records in batches, by consume()."""
    left = records
    while left:
        messages = consumer.consume(min(BATCH, left), _PATIENCE_SECONDS)
        if not messages:
            raise TimeoutError(f"no record for {_PATIENCE_SECONDS} s, {left} are missing")
        left -= len(messages)
        yield messages


def singles(consumer: Consumer, records: int) -> Iterator[Message]:
    """So many records one by one, by poll()."""
    for _ in range(records):
        message = consumer.poll(_PATIENCE_SECONDS)
        if message is None:
            raise TimeoutError(f"no record for {_PATIENCE_SECONDS} s")
        yield message

"""Where it is measured: a real Kafka with the topics, a real PostgreSQL that keeps what it confirms, and the clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg
from confluent_kafka import Consumer, Message
from confluent_kafka.admin import AdminClient, NewTopic

from tests.benchmarks import orders

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
PERIODS = {"json-0.01%": 10_000, "json-1%": 100, "json-10%": 10}  # of how many orders one is spoilt
_ENCODERS: dict[str, Callable[[Iterable[int]], Iterable[bytes]]] = {
    "json": orders.as_json,
    "avro": orders.as_avro,
    **{name: partial(orders.as_spoilt_json, period=period) for name, period in PERIODS.items()},
}


@dataclass
class Lab:
    """`records` are in each of the topics `bench-json`, `bench-avro`, ...; `folder` is for files."""

    bootstrap: str
    dsn: str
    folder: Path
    records: int
    _serial: Iterator[int] = field(default_factory=itertools.count)

    def prepare(self, names: Collection[str] = tuple(_ENCODERS)) -> None:
        """Make the topics of these kinds, their records, and the table."""
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        for name in names:
            encode = _ENCODERS[name]
            topic = topic_of(name)
            for created in admin.create_topics([NewTopic(t, PARTITIONS, 1) for t in (topic, f"{topic}.dlq")]).values():
                created.result()
            orders.produce(self.bootstrap, topic, PARTITIONS, encode(range(self.records)))
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(orders.TABLE)

    def good(self, name: str) -> int:
        """How many of a topic's records are not spoilt."""
        period = PERIODS.get(name)
        spoilt = sum(orders.is_spoilt(number, period) for number in range(self.records)) if period else 0
        return self.records - spoilt

    def new_group(self) -> str:
        """A consumer group that nobody has used."""
        return f"bench-{next(self._serial)}"

    def empty(self, *, checked: bool = False) -> None:
        """An empty table, and nothing that an earlier run left to be written. `checked`: it refuses spoilt orders."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute("truncate orders; alter table orders drop constraint if exists orders_quantity_check")
            if checked:
                connection.execute("alter table orders add constraint orders_quantity_check check (quantity > 0)")
            connection.execute("checkpoint")

    def rate(self, records: int) -> float:
        """Rows a second from the first commit to the last, by the server's clock. Checks that all have come."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            commits = connection.execute(_COMMITS).fetchall()
        if (found := sum(rows for _, rows in commits)) != records:
            raise RuntimeError(f"{found} rows in the table, {records} were expected")
        return rate(commits)


def topic_of(name: str) -> str:
    """Where records of this kind are."""
    return f"bench-{name.replace('%', '')}"


def rate(commits: list[tuple[float, int]]) -> float:
    """Records a second, from (time in seconds, records) of each commit: what the first brought came before its time."""
    return sum(count for _, count in commits[1:]) / (commits[-1][0] - commits[0][0])


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

"""Records produced all the while, some of them at fault, and the ledger of those that Kafka has acknowledged."""

from __future__ import annotations

import io
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import fastavro
import psycopg
from confluent_kafka import Consumer, KafkaError, Message, Producer, TopicPartition
from psycopg import sql

_TICK_SECONDS = 0.02
_PAD = "x" * 400  # a batch is then several times what the driver sends at once: there is a middle of COPY
_FIRST = 20
BAD_SHARE = 0.01
COLUMNS = "partition int, seq bigint, id bigint check (id >= 0), once text unique, pad text"
FAULTS = ("decode", "check", "unique")

SCHEMA = Path(__file__).parent / "load.avsc"
_parsed = fastavro.schema.load_schema(SCHEMA)

Letter = tuple[int, int, bytes]  # partition, offset, value
Encoder = Callable[[dict[str, Any]], bytes]


def as_json(value: dict[str, Any]) -> bytes:
    """The value as JSON."""
    return json.dumps(value).encode()


def as_avro(value: dict[str, Any]) -> bytes:
    """The value as Avro, without a frame."""
    out = io.BytesIO()
    fastavro.schemaless_writer(out, _parsed, value)
    return out.getvalue()


@dataclass
class Ledger:
    """What was acknowledged: (partition, sequence number in it, id), each once; and apart the `bad` ones, as sent."""

    entries: list[tuple[int, int, int]] = field(default_factory=list)
    bad: list[Letter] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.entries) + len(self.bad)

    def ends(self) -> dict[int, int]:
        """The next offset after the last record of each partition: sequence numbers are offsets."""
        ends: dict[int, int] = {}
        for partition, seq, _ in (*self.entries, *self.bad):
            ends[partition] = max(ends.get(partition, 0), seq + 1)
        return ends

    def differences(self, dsn: str, table: str) -> list[str]:
        """What of `table` is not as it must be, a sentence a kind: nothing if every record is there once, in order."""
        name = sql.Identifier(table)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("create temp table ledger (partition int, seq bigint, id bigint)")
            with connection.cursor() as cursor, cursor.copy("copy ledger from stdin") as copy:
                for entry in self.entries:
                    copy.write_row(entry)
            found = [f"{len(self.failed)} records were not acknowledged: {self.failed[:3]}"] if self.failed else []
            for kind, query in _DIFFERENCES.items():
                rows = connection.execute(sql.SQL(query).format(name)).fetchall()
                if rows:
                    found.append(f"{kind}: {len(rows)}, first (partition, seq, id) {rows[:_FIRST]}")
        return found

    def misjudged(self, kept: Collection[Letter], published: Collection[Letter]) -> list[str]:
        """What is wrong with the dead letters of the table, where each bad record is once, and with those of the topic,
        where it is at least once."""
        wanted, found = Counter(self.bad), []
        for place, letters in {"table": Counter(kept), "topic": Counter(set(published))}.items():
            for kind, odd in {"missing": wanted - letters, "strange": letters - wanted}.items():
                if odd:
                    first = sorted((partition, offset) for partition, offset, _ in odd)[:_FIRST]
                    found.append(f"dead letters {kind} in the {place}: {len(odd)}, first (partition, offset) {first}")
        return found


_DIFFERENCES = {
    "missing": "select partition, seq, id from ledger except select partition, seq, id from {} order by 1, 2",
    "strange": "select partition, seq, id from {} except select partition, seq, id from ledger order by 1, 2",
    "doubled": "select partition, seq, id from {} group by 1, 2, 3 having count(*) > 1 order by 1, 2",
    # `place` comes from a sequence while the partition's offset is locked: within a partition it rises as commits do.
    "out of order": """
        select partition, seq, id from
          (select *, lag(seq) over (partition by partition order by place) as before from {}) rows
        where seq < before order by 1, 2""",
}


def kept(connection: psycopg.Connection, group: str, topic: str) -> list[Letter]:
    """The dead letters that the table has of a topic."""
    query = 'select partition, "offset", value from microbatch_dead_letters where group_id = %s and topic = %s'
    return [(partition, offset, bytes(value)) for partition, offset, value in connection.execute(query, (group, topic))]


def published(bootstrap: str, topic: str, group: str) -> list[Letter]:
    """What a dead-letter topic has of a group's dead letters, repeats included."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "ledger", "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        places = [TopicPartition(topic, number, 0) for number in partitions]
        left = sum(consumer.get_watermark_offsets(place, timeout=10)[1] for place in places)
        consumer.assign(places)
        found: list[Message] = []
        while len(found) < left:
            messages = consumer.consume(min(1000, left - len(found)), 10)
            assert messages, f"{topic}: {len(found)} of {left} records are there"
            found += [message for message in messages if message.error() is None]
    finally:
        consumer.close()
    headers = [dict(message.headers() or []) for message in found]
    return [
        (int(told["__dlq.errors.partition"]), int(told["__dlq.errors.offset"]), message.value() or b"")
        for message, told in zip(found, headers, strict=True)
        if told["__dlq.errors.group"] == group.encode()
    ]


def record(
    partition: int, seq: int, number: int, fault: str | None = None, pad: str = _PAD, encode: Encoder = as_json
) -> bytes:
    """The value of a record: a good one, or one with a fault. The first of a partition must be good."""
    once = str(partition) if seq == 0 or fault == "unique" else None
    key = -number - 1 if fault == "check" else number
    value = encode({"id": key, "partition": partition, "seq": seq, "once": once, "pad": pad})
    return value[: -1 if fault == "decode" else None]


class Load:
    """Produces into every partition of a topic, at `rate` records per second, from entering it until `stop`.

    About the `share` of them is at fault; `pad` is what makes them large.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        partitions: int,
        rate: int,
        share: float = BAD_SHARE,
        pad: str = _PAD,
        encode: Encoder = as_json,
    ) -> None:
        self.ledger = Ledger()
        self._topic, self._rate, self._share, self._pad, self._encode = topic, rate, share, pad, encode
        # A record is not given up as long as its broker may come back.
        settings: dict[str, Any] = {"bootstrap.servers": bootstrap, "linger.ms": 5, "log_level": 0}
        # With several requests in flight the client doubles records when a broker starts again (librdkafka #4953).
        settings |= {"enable.idempotence": True, "max.in.flight": 1}
        self._producer = Producer(settings)
        self._random = random.Random(topic)
        self._next = [0] * partitions
        self._count = 0
        self._stopping = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Return when all that was produced is acknowledged; safe to call twice."""
        self._stopping.set()
        self._thread.join()

    def produce(self, count: int) -> None:
        """Send so many records, in turn to each partition."""
        for _ in range(count):
            partition = self._count % len(self._next)
            seq = self._next[partition]
            bad = seq > 0 and self._random.random() < self._share
            fault = self._random.choice(FAULTS) if bad else None
            value = record(partition, seq, self._count, fault, self._pad, self._encode)
            delivered = self._delivered((partition, seq, self._count), value if bad else None)
            while True:
                try:
                    self._producer.produce(self._topic, value, partition=partition, on_delivery=delivered)
                    break
                except BufferError:
                    self._producer.poll(0.1)
            self._count += 1
            self._next[partition] += 1

    @contextmanager
    def at_rest(self) -> Iterator[None]:
        """Nothing is on its way in here: a mock takes a record again whose answer was lost, which no broker does."""
        with self._turn:
            self.flush()
            yield

    def flush(self) -> None:
        """Return when all that was produced is acknowledged."""
        assert self._producer.flush(60) == 0, "Kafka does not acknowledge"

    def _run(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            with self._turn:
                self.produce(max(1, int(self._rate * _TICK_SECONDS)))
                self._producer.poll(0)
        self.flush()

    def _delivered(self, entry: tuple[int, int, int], bad: bytes | None):
        def note(error: KafkaError | None, message: Message) -> None:
            if error is not None or message.offset() != entry[1]:
                self.ledger.failed.append(f"{entry}: {error or message.offset()}")
            elif bad is None:
                self.ledger.entries.append(entry)
            else:
                self.ledger.bad.append((entry[0], entry[1], bad))

        return note

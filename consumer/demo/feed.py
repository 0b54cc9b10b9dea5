"""Orders into an embedded test broker, never further ahead of what is written than it can remember.

The broker is librdkafka's mock cluster, alive as long as its producer. It drops the oldest records of a partition past
5 MiB or 100,000 produced batches without a word (rdkafka_mock.c: max_size, max_cnt).
"""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Mapping
from itertools import islice
from typing import Any

import fastavro
from confluent_kafka import KafkaError, KafkaException, Producer

from consumer.demo.ledger import Ledger
from consumer.demo.orders import orders
from consumer.demo.spoiling import spoilt
from consumer.errors import FatalError, TopicPartition

TOPIC = "orders"
# Orders of a partition that may wait: with at most 100 bytes each, less than 2 MiB.
_AHEAD_RECORDS = 15_000
_CHUNK_RECORDS = 1000
_TIMEOUT = 10.0
_HINT = "Run the demo again; if it happens again, report it with what it printed."


class Broker:
    """The embedded test broker, with one empty topic. Raises FatalError when it does not come up."""

    def __init__(self) -> None:
        settings = {"test.mock.num.brokers": 1, "linger.ms": 20, "acks": "all"}
        self.producer = Producer(settings, logger=logging.getLogger("kafka"))
        try:
            # Asking for a topic makes it, with the mock's own number of partitions.
            found = self.producer.list_topics(TOPIC, timeout=_TIMEOUT)
        except KafkaException as error:
            raise FatalError(f"the embedded test broker does not answer: {error.args[0].str()}", _HINT) from None
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in found.brokers.values())
        self.partitions = sorted(found.topics[TOPIC].partitions)


class Feed(threading.Thread):
    """Produces `count` orders, waits until they are written, and then sets `done`; sooner when something fails.

    `ledger` is what was produced, complete when the thread has ended. `failure` is a FatalError then, if there was one:
    when an order could not be produced, or nothing was written for `patience` seconds.
    """

    def __init__(self, broker: Broker, schema: str, count: int, done: threading.Event, patience: float = 60.0) -> None:
        super().__init__(name="feed", daemon=True)
        self.ledger = Ledger()
        self.failure: FatalError | None = None
        self._broker, self._count, self._done, self._patience = broker, count, done, patience
        self._schema = fastavro.parse_schema(json.loads(schema))
        self._changed = threading.Condition()
        self._written = dict.fromkeys(broker.partitions, 0)
        self._closed = False
        self._refused: KafkaError | None = None

    @property
    def written(self) -> int:
        """Orders that the daemon has committed to the database, as rows or as dead letters."""
        return sum(self._written.values())

    def progressed(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """A batch was committed."""
        with self._changed:
            self._written.update({partition: offset for (_, partition), offset in next_offsets.items()})
            self._changed.notify_all()

    def close(self) -> None:
        """Produce no more, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.join()

    def run(self) -> None:
        """See threading.Thread."""
        try:
            made = orders(self._count)
            while (chunk := list(islice(made, _CHUNK_RECORDS))) and self._may_go_on(_AHEAD_RECORDS):
                self._produce(chunk)
            self._broker.producer.flush(_TIMEOUT)
            self._may_go_on(0)
        except FatalError as error:
            self.failure = error
        finally:
            self._done.set()

    def _may_go_on(self, ahead: int) -> bool:
        """Wait until no partition has more than `ahead` orders unwritten; False: it was closed meanwhile."""
        produced = self.ledger.partitions
        with self._changed:
            while not self._closed and any(produced[p] - done > ahead for p, done in self._written.items()):
                if self._refused is not None:
                    raise FatalError(f"the embedded test broker refused an order: {self._refused.str()}", _HINT)
                if not self._changed.wait(self._patience):
                    reason = f"nothing was written for {self._patience:g} s; {self.written:,} of {self._count:,} are"
                    raise FatalError(reason, _HINT)
            return not self._closed

    def _produce(self, chunk: list[dict[str, Any]]) -> None:
        for order in chunk:
            partition = order["order_id"] % len(self._broker.partitions)
            value = spoilt(order, self._encoded)
            if value is None:
                value = self._encoded(order)
                self.ledger.add(order, partition)
            else:
                self.ledger.add_spoilt(partition)
            self._broker.producer.produce(TOPIC, value, partition=partition, on_delivery=self._delivered)
        self._broker.producer.poll(0)

    def _encoded(self, order: dict[str, Any]) -> bytes:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self._schema, order)
        return out.getvalue()

    def _delivered(self, error: KafkaError | None, _: object) -> None:
        self._refused = error or self._refused

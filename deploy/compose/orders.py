"""Sample orders for docker-compose.yml: `orders.py topics` creates their topics, `orders.py produce` sends without end.

One order in SPOILT_EVERY asks for nothing, which the table's check refuses: a dead letter to look at. Kafka is where
KAFKA_BOOTSTRAP_SERVERS says.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

PARTITIONS = 6
SPOILT_EVERY = 2_000
_CUSTOMERS = ("Ada", "Boole", "Curie", "Dirac", "Euler", "Fermi", "Gauss")
_TICK_SECONDS = 0.1
_KAFKA_SECONDS = 60.0


def topics(servers: str, topic: str) -> None:
    """Create the topic and its dead letters' topic; one that exists is left alone. Raises KafkaException."""
    admin = AdminClient({"bootstrap.servers": servers})
    wanted = [
        NewTopic(topic, PARTITIONS, 1),
        # Dead letters keep the time of their record, by which any other retention would soon delete them.
        NewTopic(f"{topic}.dlq", 1, 1, config={"retention.ms": "-1"}),
    ]
    for created in admin.create_topics(wanted, request_timeout=_KAFKA_SECONDS).values():
        try:
            created.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def orders() -> Iterator[tuple[bytes, bytes]]:
    """Keys and values without end. The ids go on from the clock's microseconds, so that a restart repeats none."""
    first = time.time_ns() // 1000
    for number in itertools.count(1):
        customer = _CUSTOMERS[number % len(_CUSTOMERS)]
        order = {
            "id": first + number,
            "customer": customer,
            "placed_at": datetime.datetime.now(datetime.UTC).isoformat(),
            "quantity": number % SPOILT_EVERY and 1 + number % 9,
            "price_cents": 100 + number * 37 % 9_900,
        }
        yield customer.encode(), json.dumps(order).encode()


def produce(servers: str, topic: str, rate: int, count: int | None, stop: threading.Event) -> None:
    """Send `rate` orders a second until `stop` is set, or `count` are sent; then wait for Kafka to have them."""
    producer = Producer({"bootstrap.servers": servers, "linger.ms": 20})
    stream = itertools.islice(orders(), count)
    while tick := list(itertools.islice(stream, max(1, round(rate * _TICK_SECONDS)))):
        for key, value in tick:
            producer.produce(topic, value, key)
        producer.poll(0)
        if stop.wait(_TICK_SECONDS):
            break
    producer.flush(_KAFKA_SECONDS)


def main() -> None:
    """Read the command line and do what it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("topics", "produce"))
    parser.add_argument("--topic", default="orders")
    parser.add_argument("--rate", type=int, default=500, help="orders a second")
    parser.add_argument("--count", type=int, help="stop after so many; default: never")
    arguments = parser.parse_args()
    servers = os.environ["KAFKA_BOOTSTRAP_SERVERS"]
    if arguments.action == "topics":
        topics(servers, arguments.topic)
        return
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    produce(servers, arguments.topic, arguments.rate, arguments.count, stop)


if __name__ == "__main__":
    main()

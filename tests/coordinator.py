"""A group's coordinator on a broker that has just started."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaException, TopicPartition


def require_coordinator(kafka: str, group: str, topic: str) -> None:
    """Return when the offsets of this group can be asked for; a broker makes the topic of offsets at the first try."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group})
    end = time.monotonic() + 30
    while True:
        try:
            consumer.committed([TopicPartition(topic, 0)], timeout=5)
        except KafkaException:
            assert time.monotonic() < end, f"{group} has no coordinator"
        else:
            consumer.close()
            return

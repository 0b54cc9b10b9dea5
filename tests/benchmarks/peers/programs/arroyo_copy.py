"""sentry-arroyo: a BatchStep of 5,000, orjson, COPY by psycopg, then the offsets."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping

import orjson
import psycopg
from arroyo.backends.kafka import KafkaConsumer, KafkaPayload
from arroyo.backends.kafka.configuration import build_kafka_consumer_configuration
from arroyo.commit import IMMEDIATE
from arroyo.processing.processor import StreamProcessor
from arroyo.processing.strategies import BatchStep, CommitOffsets, ProcessingStrategyFactory, RunTask
from arroyo.processing.strategies.batching import ValuesBatch
from arroyo.types import Commit, Message, Partition, Topic
from copying import BATCH, copy

bootstrap, topic, group, dsn = sys.argv[1:]


class Factory(ProcessingStrategyFactory[KafkaPayload]):
    """Batches, writes, commits."""

    def __init__(self) -> None:
        self._connection = psycopg.connect(dsn)

    def create_with_partitions(self, commit: Commit, partitions: Mapping[Partition, int]) -> BatchStep[KafkaPayload]:
        return BatchStep(BATCH, 0.5, RunTask(self._write, CommitOffsets(commit)))

    def _write(self, batch: Message[ValuesBatch[KafkaPayload]]) -> None:
        copy(self._connection, (orjson.loads(item.payload.value) for item in batch.payload))


configuration = build_kafka_consumer_configuration(
    {"fetch.queue.backoff.ms": 50}, group, "earliest", bootstrap_servers=[bootstrap]
)
processor = StreamProcessor(KafkaConsumer(configuration), Topic(topic), Factory(), IMMEDIATE)
signal.signal(signal.SIGTERM, lambda number, frame: processor.signal_shutdown())
processor.run()

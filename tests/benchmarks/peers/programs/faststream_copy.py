"""FastStream on confluent's client: batches of 5,000, its own JSON decoding, COPY by psycopg, then the offsets."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import psycopg
from copying import BATCH, copy
from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker

bootstrap, topic, group, dsn = sys.argv[1:]
connection = psycopg.connect(dsn)
broker = KafkaBroker(bootstrap, config={"fetch.queue.backoff.ms": 50}, logger=None)


@broker.subscriber(
    topic,
    group_id=group,
    batch=True,
    max_records=BATCH,
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.ACK,
)
async def write(values: list[dict[str, Any]]) -> None:
    copy(connection, values)


asyncio.run(FastStream(broker, logger=None).run())

"""What could be reached at most: reading alone (L1), writing alone (L2), and both in turn (Lc)."""

from __future__ import annotations

import time

import msgspec
import psycopg

from tests.benchmarks import orders
from tests.benchmarks.lab import BATCH, Lab, batches, consuming, rate, topic_of


def consume(lab: Lab, name: str) -> float:
    """L1: consume(5000) and a synchronous commit of the offsets, nothing else. Records a second."""
    with consuming(lab, topic_of(name)) as consumer:
        marks = []
        for messages in batches(consumer, lab.count(name)):
            consumer.commit(asynchronous=False)
            marks.append((time.perf_counter(), len(messages)))
    return rate(marks, lab.warm_up * lab.count(name))


def copy(lab: Lab) -> float:
    """L2: binary COPY of a ready buffer of 5,000 rows, a transaction each. Rows a second."""
    lab.empty()
    with psycopg.connect(lab.dsn, autocommit=True) as connection, connection.cursor() as cursor:
        ready = _buffer(cursor)
        lab.empty()
        for _ in range(lab.records // BATCH):
            with cursor.copy("copy orders from stdin (format binary)") as channel:
                channel.write(ready)
    return lab.rate(lab.records)


def serial(consume_rate: float, copy_rate: float) -> float:
    """Lc: what a chain that does one after the other could reach."""
    return 1 / (1 / consume_rate + 1 / copy_rate)


def _buffer(cursor: psycopg.Cursor) -> bytes:
    rows = [msgspec.structs.astuple(orders.order(number)) for number in range(BATCH)]
    cursor.executemany(f"insert into orders values ({', '.join(['%s'] * len(orders.COLUMNS))})", rows)
    with cursor.copy("copy orders to stdout (format binary)") as channel:
        return b"".join(channel)

"""The record that every candidate moves: an order of 8 flat fields, as Avro, as JSON and as a row."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import fastavro
import msgspec
from confluent_kafka import Producer

SCHEMA_ID = 1
FRAME = struct.pack(">bI", 0, SCHEMA_ID)
SCHEMA: dict[str, Any] = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "order_id", "type": "long"},
        {"name": "customer_id", "type": "long"},
        {"name": "quantity", "type": "int"},
        {"name": "amount", "type": "double"},
        {"name": "sku", "type": "string"},
        {"name": "status", "type": "string"},
        {"name": "country", "type": "string"},
        {"name": "placed_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}
COLUMNS = {
    "order_id": "bigint",
    "customer_id": "bigint",
    "quantity": "integer",
    "amount": "double precision",
    "sku": "text",
    "status": "text",
    "country": "text",
    "placed_at": "timestamptz",
}
TABLE = f"create table orders ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})"
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
_STATUS = ("placed", "paid", "shipped", "returned")
_COUNTRY = ("DE", "FR", "US", "JP", "BR")


class Order(msgspec.Struct):
    """One order; its fields are in the order of the table's columns."""

    order_id: int
    customer_id: int
    quantity: int
    amount: float
    sku: str
    status: str
    country: str
    placed_at: datetime


def order(number: int) -> Order:
    """The order of this number: always the same, and different from its neighbours in every field."""
    return Order(
        10_000_000 + number,
        number * 7919 % 1_000_003,
        1 + number % 9,
        number % 100_000 / 100,
        f"SKU-{number % 50_000:05d}",
        _STATUS[number % len(_STATUS)],
        _COUNTRY[number % len(_COUNTRY)],
        _EPOCH + timedelta(milliseconds=number * 37),
    )


def as_json(numbers: Iterable[int]) -> Iterator[bytes]:
    """Orders as JSON objects, the time in ISO 8601."""
    return map(msgspec.json.Encoder().encode, map(order, numbers))


def as_spoilt_json(numbers: Iterable[int], period: int) -> Iterator[bytes]:
    """The same, but one of `period` has a quantity that the table refuses."""
    encode = msgspec.json.Encoder().encode
    for number in numbers:
        made = order(number)
        if is_spoilt(number, period):
            made.quantity = -made.quantity
        yield encode(made)


def is_spoilt(number: int, period: int) -> bool:
    """Whether it is in the middle of its `period`."""
    return number % period == period // 2


def as_avro(numbers: Iterable[int]) -> Iterator[bytes]:
    """Orders as Avro behind the 5 bytes of Confluent's framing."""
    schema = fastavro.parse_schema(SCHEMA)
    for number in numbers:
        out = io.BytesIO()
        out.write(FRAME)
        fastavro.schemaless_writer(out, schema, msgspec.structs.asdict(order(number)))
        yield out.getvalue()


def produce(bootstrap: str, topic: str, partitions: int, values: Iterable[bytes]) -> int:
    """Store the values, spread evenly. Returns how many; raises RuntimeError when one was not stored."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "batch.size": 1_000_000, "acks": "all"})
    count = 0
    for count, value in enumerate(values, 1):
        while True:
            try:
                producer.produce(topic, value, partition=count % partitions)
                break
            except BufferError:
                producer.poll(0.1)
        if count % 10_000 == 0:
            producer.poll(0)
    if left := producer.flush(60):
        raise RuntimeError(f"{left} records of {topic} were not stored within 60 s")
    return count

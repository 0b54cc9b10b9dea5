"""The record that every candidate moves: an order of 8 flat fields, as Avro, as JSON and as a row."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
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
CONNECT_SCHEMA: dict[str, Any] = {
    "type": "struct",
    "optional": False,
    "fields": [
        {"field": "order_id", "type": "int64", "optional": False},
        {"field": "customer_id", "type": "int64", "optional": False},
        {"field": "quantity", "type": "int32", "optional": False},
        {"field": "amount", "type": "double", "optional": False},
        {"field": "sku", "type": "string", "optional": False},
        {"field": "status", "type": "string", "optional": False},
        {"field": "country", "type": "string", "optional": False},
        # Not Connect's own Timestamp: of that, Debezium's UNNEST (3.6.0) drops the milliseconds.
        {"field": "placed_at", "type": "string", "optional": False, "name": "io.debezium.time.ZonedTimestamp"},
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
# The same with room for a note of any length.
PADDED_TABLE = TABLE.replace("(", "(note text, ", 1)
CHECKED = "alter table orders add constraint orders_quantity_check check (quantity > 0)"  # refuses what is spoilt
KEYED = "alter table orders add primary key (order_id)"
# Each COPY takes so many seconds longer.
DELAYED = """
create or replace function delay() returns trigger language plpgsql as $$
begin perform pg_sleep({seconds}); return null; end $$;
create or replace trigger delayed after insert on orders for each statement execute function delay()
"""
# So many orders as they may have been once: what an upsert finds.
FILL = """
insert into orders (order_id, customer_id, quantity, amount, sku, status, country, placed_at)
select 10000000 + number, 0, 1, 0, 'SKU-00000', 'placed', 'DE', '2024-01-01' from generate_series(0, %s - 1) number
"""
# The last one is beyond a bigint for ten million orders.
SUMS = """
select count(*), count(distinct order_id), sum(order_id)::bigint, sum(customer_id)::bigint, sum(quantity),
  sum(length(sku) + length(status) + length(country)), sum(extract(epoch from placed_at) * 1000)
from orders
"""
_EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
_UNIX = datetime(1970, 1, 1, tzinfo=UTC)
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


@lru_cache
def sums(count: int) -> tuple[int, ...]:
    """What SUMS finds of the first orders."""
    made = [order(number) for number in range(count)]
    return (
        count,
        count,
        sum(one.order_id for one in made),
        sum(one.customer_id for one in made),
        sum(one.quantity for one in made),
        sum(len(one.sku) + len(one.status) + len(one.country) for one in made),
        sum((one.placed_at - _UNIX) // timedelta(milliseconds=1) for one in made),
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


def as_padded_json(numbers: Iterable[int], size: int) -> Iterator[bytes]:
    """The same with a note, which makes each `size` bytes; from 200 on."""
    letters, encode = random.Random(7), msgspec.json.encode
    for number in numbers:
        plain = msgspec.structs.asdict(order(number)) | {"note": ""}
        room = size - len(encode(plain))
        yield encode(plain | {"note": letters.randbytes(room // 2 + 1).hex()[:room]})


def as_notes(numbers: Iterable[int], size: int) -> Iterator[bytes]:
    """Orders of which there is only the id and a note, which makes each `size` bytes; from 60 on."""
    letters = random.Random(7)
    for number in numbers:
        plain = b'{"order_id":%d,"note":""}' % number
        room = size - len(plain)
        yield plain[:-2] + letters.randbytes(room // 2 + 1).hex()[:room].encode() + b'"}'


def as_json_with_schema(numbers: Iterable[int]) -> Iterator[bytes]:
    """The same in the envelope that Kafka Connect's JsonConverter wants: the schema in each record."""
    encode = msgspec.json.Encoder().encode
    return (encode({"schema": CONNECT_SCHEMA, "payload": order(number)}) for number in numbers)


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
    return _send(producer(bootstrap), topic, partitions, values)


@contextmanager
def withheld(bootstrap: str, topic: str, partitions: int, values: Iterable[bytes]) -> Iterator[Callable[[], None]]:
    """Store the values so that nobody sees them: calling what is yielded shows them all, to whoever waits by then.

    A transaction of Kafka: it must be shown within 10 minutes.
    """
    sender = producer(bootstrap, {"transactional.id": f"bench-{topic}", "transaction.timeout.ms": 600_000})
    sender.init_transactions()
    sender.begin_transaction()
    _send(sender, topic, partitions, values)
    yield sender.commit_transaction


def producer(bootstrap: str, more: Mapping[str, Any] = MappingProxyType({})) -> Producer:
    """One that loses nothing without a word."""
    properties = {
        "bootstrap.servers": bootstrap,
        "linger.ms": 20,
        "batch.size": 1_000_000,
        "message.max.bytes": 1_048_588,  # as the broker takes it: records of 1 MB are a little larger
        "acks": "all",
        "log_level": 3,  # errors: the rest is of no use beside progress bars
    }
    return Producer({**properties, **more})


def offer(sender: Producer, topic: str, partition: int, value: bytes) -> None:
    """Hand a value to the client, and wait while it has too many."""
    while True:
        try:
            return sender.produce(topic, value, partition=partition)
        except BufferError:
            sender.poll(0.1)


def _send(sender: Producer, topic: str, partitions: int, values: Iterable[bytes]) -> int:
    count = 0
    for count, value in enumerate(values, 1):
        offer(sender, topic, count % partitions, value)
        if count % 10_000 == 0:
            sender.poll(0)
    if left := sender.flush(60):
        raise RuntimeError(f"{left} records of {topic} were not stored within 60 s")
    return count

"""The loops that one would write by hand: two bare and fast ones, a naive one, and one that commits each row.

All are at least once at best, without metrics, rebalances, retries, checks or isolation.
"""

from __future__ import annotations

import io
import itertools
import sqlite3
import struct
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import psycopg

from tests.benchmarks import orders
from tests.benchmarks.lab import BATCH, Lab, batches, consuming, singles, topic_of

Rows = Iterable[tuple[Any, ...]]
_INSERT = f"insert into orders values ({', '.join(['%s'] * len(orders.COLUMNS))})"
_UPSERT = f"""{_INSERT} on conflict (order_id) do update set
{", ".join(f"{name} = excluded.{name}" for name in orders.COLUMNS if name != "order_id")}"""
_UNNEST = f"""insert into orders select * from unnest(
{", ".join(f"%b::{kind}[]" for kind in orders.COLUMNS.values())}) {_UPSERT.removeprefix(_INSERT)}"""
_TYPES = ["int8", "int8", "int4", "float8", "text", "text", "text", "timestamptz"]
_fields_of_dict = itemgetter(*orders.COLUMNS)
_fields_of_order = attrgetter(*orders.COLUMNS)


def json_copy(lab: Lab) -> float:
    """consume(5000), msgspec into a struct, binary COPY by psycopg, commit both."""
    decode = msgspec.json.Decoder(orders.Order).decode
    return _copy(lab, "json", lambda values: map(_fields_of_order, map(decode, values)))


def avro_copy(lab: Lab) -> float:
    """consume(5000), fastavro, binary COPY by psycopg, commit both."""
    schema, read = fastavro.parse_schema(orders.SCHEMA), fastavro.schemaless_reader
    return _copy(lab, "avro", lambda values: (_fields_of_dict(read(io.BytesIO(v[5:]), schema)) for v in values))


def _copy(lab: Lab, name: str, decode: Callable[[list[bytes]], Rows]) -> float:
    lab.empty()
    with psycopg.connect(lab.dsn) as connection, consuming(lab, topic_of(name)) as consumer:
        for messages in batches(consumer, lab.count(name)):
            with connection.cursor() as cursor, cursor.copy("copy orders from stdin (format binary)") as channel:
                channel.set_types(_TYPES)
                for row in decode([message.value() for message in messages]):
                    channel.write_row(row)
            connection.commit()
            consumer.commit(asynchronous=False)
    return lab.rate(lab.count(name))


def json_upsert(lab: Lab) -> float:
    """consume(5000), msgspec into a struct, executemany of INSERT .. ON CONFLICT onto rows that are all there."""
    return _upsert(lab, lambda cursor, rows: cursor.executemany(_UPSERT, rows))


def json_unnest(lab: Lab) -> float:
    """The same by one INSERT .. SELECT FROM unnest(..) ON CONFLICT, which is given the columns as arrays."""
    return _upsert(lab, lambda cursor, rows: cursor.execute(_UNNEST, list(map(list, zip(*rows, strict=True)))))


def _upsert(lab: Lab, write: Callable[[psycopg.Cursor, list[tuple[Any, ...]]], object]) -> float:
    records = lab.count("json-part")
    lab.empty(more=orders.KEYED, filled=records)
    decode = msgspec.json.Decoder(orders.Order).decode
    with psycopg.connect(lab.dsn) as connection, consuming(lab, topic_of("json-part")) as consumer:
        for messages in batches(consumer, records):
            rows = [_fields_of_order(decode(message.value())) for message in messages]
            write(connection.cursor(), rows)
            connection.commit()
            consumer.commit(asynchronous=False)
    return lab.rate(records)


class _Deserializer:
    """The work of confluent's AvroDeserializer without its overhead: frame, schema by id, one record by fastavro."""

    def __init__(self) -> None:
        self._schemas = {orders.SCHEMA_ID: fastavro.parse_schema(orders.SCHEMA)}

    def __call__(self, value: bytes) -> dict[str, Any]:
        payload = io.BytesIO(value)
        magic, number = struct.unpack(">bI", payload.read(5))
        if magic != 0:
            raise ValueError("not framed")
        return fastavro.schemaless_reader(payload, self._schemas[number])


def naive(lab: Lab, records: int) -> float:
    """poll(), deserialise, executemany for each 5,000, commit both."""
    lab.empty()
    deserialize = _Deserializer()
    with psycopg.connect(lab.dsn) as connection, consuming(lab, topic_of("avro")) as consumer:
        rows = []
        for message in singles(consumer, records):
            rows.append(_fields_of_dict(deserialize(message.value())))
            if len(rows) == BATCH:
                connection.cursor().executemany(_INSERT, rows)
                connection.commit()
                consumer.commit(asynchronous=False)
                rows = []
    return lab.rate(records)


def row_by_row(lab: Lab, records: int, commit_offsets: bool) -> float:
    """poll(), deserialise, insert, commit, for each record; its offset as well, or by the client every 5 s."""
    lab.empty()
    deserialize = _Deserializer()
    with (
        psycopg.connect(lab.dsn) as connection,
        consuming(lab, topic_of("avro"), auto_commit=not commit_offsets) as consumer,
    ):
        for message in singles(consumer, records):
            connection.execute(_INSERT, _fields_of_dict(deserialize(message.value())))
            connection.commit()
            if commit_offsets:
                consumer.commit(message, asynchronous=False)
    return lab.rate(records)


def sqlite_executemany(rows: list[tuple[Any, ...]], records: int, path: Path) -> float:
    """executemany of ready tuples into SQLite as durable as the daemon's, 5,000 a transaction. Rows a second."""
    path.unlink(missing_ok=True)
    insert = f"insert into orders values ({', '.join('?' * len(orders.COLUMNS))})"
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute(orders.TABLE)
        source, marks = itertools.cycle(rows), []
        for _ in range(records // BATCH):
            batch = list(itertools.islice(source, BATCH))
            connection.execute("begin immediate")
            connection.executemany(insert, batch)
            connection.execute("commit")
            marks.append(time.perf_counter())
    return (len(marks) - 1) * BATCH / (marks[-1] - marks[0])

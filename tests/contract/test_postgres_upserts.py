"""Upserts of rows that all have different keys, which PostgreSQL takes without looking for the last row of each."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace

import psycopg
import pytest

from consumer.sinks.postgres import PostgresSink
from consumer.table import Column, Kind, Mode, TableRows, Target
from tests.sinks import write

Tell = Callable[[str], list[tuple[object, ...]]]
_NARROW, _WIDE = (Column("id", Kind.INTEGER, "int", minimum=0, maximum=bound) for bound in (99, 999))
_COUNTED = """create table t (id int primary key, body text);
create table written (id int);
create function count_it() returns trigger language plpgsql as $$ begin
insert into written values (new.id); return null; end $$;
create trigger count_it after insert or update on t for each row execute function count_it()"""

_TOLD = """create table t (id int primary key, body text);
create table told (at serial, looks boolean);
create function tell_it() returns trigger language plpgsql as $$ begin
insert into told (looks) values (current_query() like '%distinct on%'); return null; end $$;
create trigger tell_it after insert on t execute function tell_it()"""


@pytest.fixture
def tell(schema: str) -> Iterator[Tell]:
    """Runs a statement there, and gives its rows."""
    with psycopg.connect(schema, autocommit=True) as connection:

        def run(statement: str) -> list[tuple[object, ...]]:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def sink(schema: str) -> Iterator[PostgresSink]:
    """One that upserts into `t`."""
    made = PostgresSink(schema, [Target("t", Mode.UPSERT)], "group", f"upserts-{uuid.uuid4().hex}")
    yield made
    made.close()


def rows(*pairs: tuple[object, str]) -> TableRows:
    return TableRows("t", ("id", "body"), list(pairs), range(len(pairs)))


def test_only_where_a_key_comes_twice_the_last_of_it_is_looked_for(sink: PostgresSink, tell: Tell) -> None:
    """Sorting out rows of which none is in vain costs a tenth of the batch."""
    tell(_TOLD)
    write(sink, rows((0, "the plan is not known yet")))
    tell("truncate told")
    write(sink, rows((1, "a"), (2, "a")))
    write(sink, rows((1, "b"), (2, "b"), (1, "c")))
    assert tell("select looks from told order by at") == [(False,), (True,)]
    assert tell("select * from t where id > 0 order by id") == [(1, "c"), (2, "b")]


def test_the_last_row_wins_also_of_keys_that_only_the_server_holds_equal(sink: PostgresSink, tell: Tell) -> None:
    """It refuses to write one row twice in a statement: no record is at fault for that, and nothing stops."""
    tell("create table t (id char(3) primary key, body text)")
    write(sink, rows(("x", "the plan is not known yet")))
    for number in range(3):
        write(sink, rows(("a", "first"), ("b", "only"), ("a ", f"last {number}")))
    assert tell("select body from t order by id") == [("last 2",), ("only",), ("the plan is not known yet",)]


def test_a_row_is_written_once_where_two_groups_have_its_columns(sink: PostgresSink, tell: Tell) -> None:
    """What the first has left in the stage is not written again, nor seen by triggers, with the second."""
    tell(_COUNTED)
    groups = [replace(rows((number, "x")), known=(known, None)) for number, known in enumerate((_NARROW, _WIDE))]
    write(sink, *groups)
    tell("truncate written")
    write(sink, *(replace(group, prepared=None) for group in groups))
    assert tell("select id from written order by id") == [(0,), (1,)]


def test_who_is_at_fault_among_different_keys_is_found(sink: PostgresSink, tell: Tell) -> None:
    """What is refused at once is isolated by the way for any keys."""
    tell("create table t (id int primary key check (id <> 2), body text)")
    write(sink, rows((0, "the plan is not known yet")))
    refused = [rows((1, "a"), (2, "a"), (3, "a"))]
    sink.prepare(refused)
    sink.begin({})
    assert [failure.ordinal for failure in sink.isolate(refused).failures] == [1]
    sink.commit({})
    assert tell("select id from t order by id") == [(0,), (1,), (3,)]

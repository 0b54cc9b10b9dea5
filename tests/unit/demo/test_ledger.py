"""The demo's proof: it agrees with what the transform makes of the orders, and notices whatever is otherwise."""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from consumer import MappingError, Record
from consumer.demo.database import schema
from consumer.demo.ledger import Ledger
from consumer.demo.orders import explode_order, orders

COUNT = 300
PARTITIONS = 4
OFFSETS = "create table microbatch_offsets (topic text, partition integer, next_offset integer);"
DEAD_LETTERS = 'create table microbatch_dead_letters (partition integer, "offset" integer);'
ADD = """insert into inventory values (:item_id, :sold, :revenue_cents) on conflict do update
         set sold = sold + excluded.sold, revenue_cents = revenue_cents + excluded.revenue_cents"""


def record(order: dict) -> Record:
    when = datetime.datetime.fromtimestamp(order["placed_at"] / 1000, datetime.UTC).isoformat()
    return Record("orders", 0, 0, None, None, order | {"placed_at": when}, [], {})


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger()
    for order in orders(COUNT):
        made.add(order, order["order_id"] % PARTITIONS)
    for partition in range(PARTITIONS):
        made.add_spoilt(partition)
    return made


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(schema("sqlite.sql") + OFFSETS + DEAD_LETTERS)
        for order in orders(COUNT):
            for row in explode_order(record(order)):
                places = ", ".join(f":{name}" for name in row.values)
                add = f"insert into transactions ({', '.join(row.values)}) values ({places})"
                connection.execute(ADD if row.table == "inventory" else add, row.values)
        spoilt = [(partition, COUNT // PARTITIONS) for partition in range(PARTITIONS)]
        connection.executemany("insert into microbatch_dead_letters values (?, ?)", spoilt)
        connection.executemany("insert into microbatch_offsets values ('orders', ?, ? + 1)", spoilt)
        yield connection


def differences(ledger: Ledger, database: sqlite3.Connection) -> list[str]:
    return ledger.differences(lambda text: database.execute(text).fetchall())


def test_what_the_transform_makes_is_what_the_ledger_expects(ledger: Ledger, database: sqlite3.Connection) -> None:
    """Nothing differs when every good order is in the tables once, and every spoilt one among the dead letters."""
    assert differences(ledger, database) == []


@pytest.mark.parametrize(
    ("harm", "table"),
    [
        ("delete from transactions where rowid = 7", "transactions"),
        ("insert into transactions select * from transactions where rowid = 7", "transactions"),
        ("update transactions set price_cents = price_cents + 1 where rowid = 7", "transactions"),
        ("update transactions set item_id = 500 - item_id where rowid = 7", "transactions"),
        ("update transactions set line = 5 - line where rowid = 7", "transactions"),
        ("update transactions set customer = customer || 'x' where rowid = 7", "transactions"),
        ("update transactions set placed_at = '2025-01-01' where rowid = 7", "transactions"),
        ("delete from transactions", "transactions"),
        ("update inventory set sold = sold + 1 where item_id = 1", "inventory"),
        ("update inventory set revenue_cents = revenue_cents - 1 where item_id = 1", "inventory"),
        ("delete from inventory where item_id = 1", "inventory"),
        ("insert into inventory values (1000, 1, 1)", "inventory"),
        ("update microbatch_offsets set next_offset = next_offset - 1 where partition = 2", "microbatch_offsets"),
        ("delete from microbatch_offsets where partition = 2", "microbatch_offsets"),
        ("insert into microbatch_offsets values ('orders', 9, 1)", "microbatch_offsets"),
        ("delete from microbatch_dead_letters where partition = 2", "microbatch_dead_letters"),
        ("delete from microbatch_dead_letters", "microbatch_dead_letters"),
        ("insert into microbatch_dead_letters values (2, 7)", "microbatch_dead_letters"),
        ("insert into microbatch_dead_letters select * from microbatch_dead_letters", "microbatch_dead_letters"),
        ('update microbatch_dead_letters set "offset" = 7 where partition = 2', "microbatch_dead_letters"),
    ],
)
def test_whatever_is_otherwise_is_named(ledger: Ledger, database: sqlite3.Connection, harm: str, table: str) -> None:
    """One row lost, doubled or changed is a difference that begins with the name of its table, and of no other."""
    database.execute(harm)
    found = differences(ledger, database)
    assert found
    assert {difference.split(":")[0] for difference in found} == {table}


def test_orders_repeat() -> None:
    """A seed gives the same orders each time, another seed others, and a longer run begins like a shorter one."""
    few = list(orders(50))
    assert list(orders(100))[:50] == few
    assert list(orders(50, seed=2)) != few


def test_an_order_without_lines_is_refused() -> None:
    """The transform says so with the error that a record's fault has."""
    (order,) = orders(1)
    with pytest.raises(MappingError, match="without lines"):
        list(explode_order(record(order | {"lines": []})))

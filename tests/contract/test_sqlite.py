"""What only the SQLite sink can do, or get wrong."""

from __future__ import annotations

import datetime
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from consumer.errors import FatalError, RejectedError, UnavailableError
from consumer.letter import DeadLetter, Evidence
from consumer.sinks.sqlite import SqliteSink
from tests.sinks import ITEM, group, opened

SCHEMA = """
create table item (id integer primary key, amount integer check (amount >= 0));
create table child (id integer primary key, item integer references item deferrable initially deferred);
"""

NOW = datetime.datetime.now(datetime.UTC)
LETTER = DeadLetter("t", 0, 1, None, None, None, (0, -1), Evidence("map", "MappingError", "no"), NOW)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with closing(sqlite3.connect(tmp_path / "test.db")) as connection:
        connection.executescript(SCHEMA)
    return tmp_path / "test.db"


@contextmanager
def opening(path: Path, verdicts: Mapping[str, str] | None = None) -> Iterator[SqliteSink]:
    with closing(SqliteSink(str(path), [ITEM], "group", "a", busy_timeout=0.2, verdicts=verdicts)) as sink:
        yield sink


def keep(sink: SqliteSink) -> None:
    opened(sink).letters.keep([LETTER])
    sink.commit({})


@pytest.mark.parametrize(("verdict", "error"), [("retry", UnavailableError), ("stop", FatalError)])
def test_a_refusal_can_be_made_something_else(path: Path, verdict: str, error: type[Exception]) -> None:
    """The user's word goes before the table's, for one code and not for its neighbours."""
    with opening(path, {"SQLITE_CONSTRAINT_CHECK": verdict}) as sink:
        opened(sink)
        with pytest.raises(RejectedError):
            sink.apply([group("item", "id", (1,), (1,))])
        with pytest.raises(error):
            sink.apply([group("item", "id amount", (1, -1))])


def test_what_was_broken_before_is_no_records_fault(path: Path) -> None:
    """Rows that refer to nothing already make every write fail: that stops, and blames nobody."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("insert into child values (1, 99)")
        connection.commit()
    with opening(path) as sink:
        rows = [group("child", "id item", (2, None), (3, 98))]
        with pytest.raises(RejectedError):
            opened(sink).apply(rows)
        with pytest.raises(FatalError, match="child") as raised:
            sink.isolate(rows)
        assert "foreign_key_check" in raised.value.hint


@pytest.mark.parametrize("table", ["microbatch_offsets", "microbatch_dead_letters"])
def test_a_refusal_of_our_own_statements_is_no_records_fault(path: Path, table: str) -> None:
    """A trigger on one of microbatch's tables stops, and its text is not told."""
    with opening(path) as sink:
        keep(sink)
        with closing(sqlite3.connect(path)) as connection:
            for event in ("insert", "update"):
                connection.execute(
                    f"create trigger no_{event} before {event} on {table} begin select raise(abort, 'secret'); end"
                )
        with pytest.raises(FatalError, match="own statements") as raised:
            keep(sink)
        assert "secret" not in str(raised.value)


def test_a_trigger_that_ends_the_transaction_stops(path: Path) -> None:
    """RAISE(ROLLBACK) takes what was written before with it: nothing is blamed, nothing committed."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "create trigger no before insert on item when new.id = 2 begin select raise(rollback, ''); end"
        )
    with opening(path) as sink:
        opened(sink).apply([group("item", "id", (1,))])
        with pytest.raises(FatalError, match="ended the whole transaction"):
            sink.apply([group("item", "id", (2,))])
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select * from item").fetchall() == []


def test_what_was_bound_for_a_table_that_has_changed_is_bound_anew(path: Path) -> None:
    """A number is not what a column that keeps digits as text would have been given."""
    with closing(sqlite3.connect(path)) as connection, opening(path) as sink:
        connection.execute("create table price (amount decimal)")
        opened(sink).apply([group("price", "amount", (Decimal("2.50"),))])
        sink.rollback()
        rows = group("price", "amount", (Decimal("1.50"),))
        sink.prepare([rows])
        assert rows.prepared.values == [1.5]
        connection.executescript("drop table price; create table price (amount decimal text)")
        opened(sink).apply([rows])
        sink.commit({})
        assert connection.execute("select amount from price").fetchall() == [("1.50",)]


@pytest.mark.parametrize("count", [1, 24, 2776, 5000, 5001])
def test_rows_go_in_by_lots_in_their_order(path: Path, count: int) -> None:
    """Of any number."""
    rows = group("item", "id amount", *((number * 7, number) for number in range(count)))
    with opening(path) as sink:
        opened(sink).apply([rows])
        sink.commit({})
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("select id, amount from item order by rowid").fetchall() == rows.rows

"""What PostgreSQL alone does in transactions: a COMMIT answered with ROLLBACK, locks of rows, notices."""

from __future__ import annotations

import datetime
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pytest

from consumer.errors import FatalError, FencedError, RejectedError, UnavailableError
from consumer.letter import Coordinates, DeadLetter, Evidence
from consumer.sinks import Fence
from consumer.sinks.postgres import PostgresSink
from consumer.sinks.postgres.script import Script
from consumer.table import TableRows
from tests.sinks import START, P, Q, fences, opened

KEYS = [("orders", 0, 1), ("orders", 0, 2)]
_NOTED = """create table noted (number bigint check (number >= 0));
create function note() returns trigger language plpgsql as $$ begin
if new.number = 0 then raise notice 'the first'; end if; return new; end $$;
create trigger note before insert on noted for each row execute function note()"""
_LATE = """create table t (id int);
create function late() returns trigger language plpgsql as $$ begin
if new.id = 0 then raise check_violation; end if; return null; end $$;
create table u (id int);
create function on_to_u() returns trigger language plpgsql as $$ begin
insert into u values (new.id); return null; end $$;
create trigger on_to_u after insert on t for each row execute function on_to_u();
create constraint trigger late after insert on u deferrable initially deferred for each row execute function late()"""
_SLOW_SECONDS = 0.5
# Of another table, so that it is not known to be deferred, and not checked before.
_SLOW = f"""create function slow() returns trigger language plpgsql as $$ begin
perform pg_sleep({_SLOW_SECONDS}); return null; end $$;
create function on_to_u() returns trigger language plpgsql as $$ begin
insert into u values (new.id); return null; end $$;
create trigger on_to_u after insert on t for each row execute function on_to_u();
create {{}} slow after insert on u {{}} for each row execute function slow()"""
Factory = Callable[[str], PostgresSink]


@pytest.fixture
def sink(schema: str) -> Iterator[Factory]:
    """Makes sinks by their owner's name."""
    made: list[PostgresSink] = []

    def make(owner: str) -> PostgresSink:
        made.append(PostgresSink(schema, [], "group", f"{owner}-{uuid.uuid4().hex}"))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_commit_that_is_answered_with_rollback_is_none(sink: Factory) -> None:
    """A transaction that failed ends that way, and no driver calls it an error."""
    broken = sink("a")
    opened(broken)
    connection = broken._session.connection(lambda: None)
    with pytest.raises(psycopg.errors.DivisionByZero):
        connection.execute("select 1 / 0")
    with pytest.raises(FatalError, match="ROLLBACK to COMMIT"):
        broken.commit({})


def test_who_is_fenced_waits_for_nobody(sink: Factory) -> None:
    """The new owner may be stopped in its transaction: who would end it there must not hang behind it."""
    first, second = sink("a"), sink("b")
    mine = fences(first.claim({P: START, Q: START}))
    second.begin(fences(second.claim({P: START})))
    first._session.connection(lambda: None).execute("set lock_timeout = '5s'")
    with pytest.raises(FencedError) as raised:
        first.begin(mine)
    assert raised.value.partitions == {P}


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("bad", [None, 1, 99_999])
def test_a_notice_while_rows_are_sent_costs_no_row(sink: Factory, schema: str, bad: int | None, at_once: bool) -> None:
    """What the server says meanwhile mostly is that it refuses one, and no more are sent then."""
    with psycopg.connect(schema, autocommit=True) as connection:
        connection.execute(_NOTED)
    one, refused = sink("a"), list[int]()
    mine = fences(one.claim({P: START}))
    one.describe("noted")
    numbers = [-1 if number == bad else number for number in range(100_000)]
    rows = TableRows("noted", ("number",), [(number,) for number in numbers], range(100_000))
    try:
        if at_once:
            one.transact(mine, [rows], {P: 1}, lambda: None)
        else:
            one.begin(mine)
            one.apply([rows])
    except RejectedError:
        refused = [failure.ordinal for failure in one.isolate([rows]).failures]
    if refused or not at_once:
        one.commit({P: 1})
    assert refused == ([] if bad is None else [bad])
    with psycopg.connect(schema) as connection:
        found = connection.execute("select count(*), count(distinct number) from noted").fetchone()
    assert found == (100_000 - len(refused),) * 2


def test_a_batch_is_a_single_query(sink: Factory, schema: str) -> None:
    """From begin to commit, with the rows of several tables in it: each query costs a round trip."""
    with psycopg.connect(schema, autocommit=True) as connection:
        connection.execute("create table one (id int); create table two (id int)")
        one = sink("a")
        fence = fences(one.claim({P: START}))[P]
        rows = [TableRows(name, ("id",), [(1,)], range(1)) for name in ("one", "two")]
        for table in ("one", "two"):
            one.describe(table)
        one.transact({P: fence}, rows, {P: 1}, lambda: None)
        ((query,),) = connection.execute(
            "select query from pg_stat_activity where application_name like 'microbatch:a-%' and query like 'begin%'"
        ).fetchall()
    assert [word for word in ("copy", "update microbatch_offsets", "commit") if word in query] == [
        "copy",
        "update microbatch_offsets",
        "commit",
    ]
    assert query.count("copy") == 2


@pytest.mark.parametrize("late", [False, True])
def test_of_a_single_query_the_commit_alone_is_told(sink: Factory, schema: str, late: bool) -> None:
    """What the rows took is no part of it, and what is checked only at the end is."""
    with psycopg.connect(schema, autocommit=True) as connection:
        connection.execute("create table u (id int); create table t (id int)")
        connection.execute(
            _SLOW.format("constraint trigger" if late else "trigger", "deferrable initially deferred" if late else "")
        )
        one = sink("a")
        mine = fences(one.claim({P: START}))
        one.describe("t")
        seconds = one.transact(mine, [TableRows("t", ("id",), [(1,)], range(1))], {P: 1}, lambda: None)
    assert (seconds >= _SLOW_SECONDS) is late


@pytest.mark.parametrize("change", ["alter table t alter id type bigint", "alter table t drop body"])
def test_a_table_that_changed_is_seen_before_rows_are_sent(sink: Factory, schema: str, change: str) -> None:
    """In a single query as in steps: what is described no longer holds, so the table is described anew."""
    with psycopg.connect(schema, autocommit=True) as connection:
        connection.execute("create table t (id int, body text)")
        one = sink("a")
        fence = fences(one.claim({P: START}))[P]
        one.describe("t")
        one.transact({P: fence}, [TableRows("t", ("id",), [(1,)], range(1))], {P: 1}, lambda: None)
        connection.execute(change.encode())
        second = TableRows("t", ("id",), [(2,)], range(1))
        one.transact({P: Fence(fence.epoch, 1)}, [second], {P: 2}, lambda: None)
        assert connection.execute("select id::text from t order by 1").fetchall() == [("1",), ("2",)]


def test_a_constraint_that_refuses_at_commit_is_checked_before_from_then_on(sink: Factory, schema: str) -> None:
    """A single query that is refused at its last statement was no fault of a record yet: nothing of it is there."""
    with psycopg.connect(schema, autocommit=True) as connection:
        connection.execute(_LATE)
        one = sink("a")
        mine = fences(one.claim({P: START}))
        one.describe("t")
        rows = [TableRows("t", ("id",), [(number,) for number in (1, 0, 2)], range(3))]
        with pytest.raises(UnavailableError, match="only at COMMIT"):
            one.transact(mine, rows, {P: 3}, lambda: None)
        with pytest.raises(RejectedError):
            one.transact(mine, rows, {P: 3}, lambda: None)
        assert [failure.ordinal for failure in one.isolate(rows).failures] == [1]
        one.commit({P: 3})
        assert connection.execute("select id from t order by 1").fetchall() == [(1,), (2,)]


@pytest.mark.parametrize("given", [0, 1, 100_000])
def test_a_script_that_is_left_commits_nothing(schema: str, given: int) -> None:
    """However many rows a COPY has been given; and the connection is as good as before."""
    with psycopg.connect(schema, autocommit=True) as connection:
        connection.execute("create table t (id int)")
        with (
            suppress(KeyboardInterrupt),
            Script(connection, ["begin", "copy t from stdin (format binary)", "commit"]) as script,
        ):
            script.next(), script.next()
            encoder = script.encoder([23])
            for number in range(given):
                script.put(encoder.write_row((number,)))
            raise KeyboardInterrupt
        connection.execute("rollback")
        assert connection.execute("select count(*) from t").fetchone() == (0,)


def test_what_fails_unheard_in_a_script_is_raised_at_its_end(schema: str) -> None:
    """No error of a statement is swallowed because nobody asked for its answer."""
    with psycopg.connect(schema, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.DivisionByZero), Script(connection, ["select 1", "select 1 / 0"]) as script:
            assert script.next() == ([("1",)], "SELECT 1")
        assert connection.execute("select 1").fetchone() == (1,)


def test_a_replay_waits_for_what_another_has_locked(sink: Factory, schema: str) -> None:
    """And then gets only what is still open: no dead letter is written twice."""
    first, second = sink("a"), sink("b")
    opened(first).letters.keep([_letter(key) for key in KEYS])
    first.commit({P: 1})
    locked: list[set[Coordinates]] = []

    def lock() -> None:
        with suppress(UnavailableError):
            second.begin({})
            locked.append(second.letters.lock(KEYS))
        second.rollback()

    first.begin({})
    first.letters.lock(KEYS)
    thread = threading.Thread(target=lock)
    thread.start()
    with psycopg.connect(schema, autocommit=True) as connection:
        waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and application_name like '%:b-%'"
        while not locked and not connection.execute(waiting).fetchone():
            connection.execute("select pg_sleep(0.01)")
    assert not locked
    first.letters.settle(KEYS[:1], {})
    first.commit({})
    thread.join()
    assert locked == [{KEYS[1]}]


def _letter(key: Coordinates) -> DeadLetter:
    now = datetime.datetime.now(datetime.UTC)
    return DeadLetter(*key, None, b"x", None, (0, 0), Evidence("decode", "DecodeError", "no"), now)

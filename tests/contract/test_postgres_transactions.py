"""What PostgreSQL alone does in transactions: a COMMIT answered with ROLLBACK, locks of rows, notices."""

from __future__ import annotations

import datetime
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from consumer.errors import FatalError, FencedError, RejectedError, UnavailableError
from consumer.letter import Coordinates, DeadLetter, Evidence
from consumer.sinks.postgres import PostgresSink
from consumer.table import TableRows
from tests.sinks import START, P, Q, fences, opened

KEYS = [("orders", 0, 1), ("orders", 0, 2)]
_NOTED = """create table noted (number bigint check (number >= 0));
create function note() returns trigger language plpgsql as $$ begin
if new.number = 0 then raise notice 'the first'; end if; return new; end $$;
create trigger note before insert on noted for each row execute function note()"""
Factory = Callable[[str], PostgresSink]


@pytest.fixture
def schema(dsn: str) -> Iterator[str]:
    """Conninfo of a schema of its own."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create schema {name}".encode())
        yield make_conninfo(dsn, options=f"-csearch_path={name}")
        connection.execute(f"drop schema {name} cascade".encode())


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


@pytest.mark.parametrize("bad", [None, 1, 99_999])
def test_a_notice_while_rows_are_sent_costs_no_row(sink: Factory, schema: str, bad: int | None) -> None:
    """What the server says meanwhile mostly is that it refuses one, and no more are sent then."""
    with psycopg.connect(schema, autocommit=True) as connection:
        connection.execute(_NOTED)
    one, refused = opened(sink("a")), list[int]()
    numbers = [-1 if number == bad else number for number in range(100_000)]
    rows = TableRows("noted", ("number",), [(number,) for number in numbers], range(100_000))
    try:
        one.apply([rows])
    except RejectedError:
        refused = [failure.ordinal for failure in one.isolate([rows]).failures]
    one.commit({P: 1})
    assert refused == ([] if bad is None else [bad])
    with psycopg.connect(schema) as connection:
        found = connection.execute("select count(*), count(distinct number) from noted").fetchone()
    assert found == (100_000 - len(refused),) * 2


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

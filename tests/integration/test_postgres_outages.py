"""What a network and a server do at their worst, to a writer on a real PostgreSQL: nothing is lost, nothing doubled.

Where batches have a record that is at fault, it becomes a dead letter once its batch is written, and no other ever
does. Where they have none, they are written by a single query.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from consumer.batch import Batch, BatchPolicy, Collector
from consumer.breaker import Breaker
from consumer.errors import DecodeError, FatalError, TopicPartition, UnavailableError
from consumer.letter import State, evidence_of, letter_of
from consumer.mapping import Mapped
from consumer.record import Message
from consumer.sinks import Fence, Position
from consumer.sinks.postgres import PostgresSink
from consumer.sinks.postgres.script import Script
from consumer.table import Mode, TableRows, Target
from consumer.writer import Writer
from tests.fake_kafka import MemoryMessage
from tests.faults.waiting import until
from tests.services.postgres import CommitCut, Postgres, SmallDiskPostgres, deadlock, sessions_of
from tests.services.proxy import Proxy

P, Q = ("t", 0), ("t", 1)
START = Position(0, "c", "i")
LANDED = Target("landed")
OWN = ("microbatch_offsets", "microbatch_dead_letters")
BAD = 3  # which record of a batch is at fault
Admin = psycopg.Connection[Any]
Account = tuple[list[int], int, list[int]]  # the numbers that landed, the next offset, the offsets of dead letters
TABLES = (
    "create table landed (number bigint, body text check (body <> 'bad')) {}",
    "create table item (id int primary key, total int)",
    "grant select, insert, update, delete on landed, item to app",
)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    server = Postgres({"max_connections": "15", "deadlock_timeout": "100ms"})
    server.start()
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute("create role app login; grant create on schema public to app")
    yield server
    server.stop()


@pytest.fixture
def proxy(server: Postgres) -> Iterator[Proxy]:
    parts = conninfo_to_dict(server.dsn)
    proxy = Proxy(str(parts["host"]), int(parts["port"]))
    yield proxy
    proxy.close()


@pytest.fixture
def admin(server: Postgres) -> Iterator[Admin]:
    """A superuser, with empty tables for `app`; it is gone after a restart of the server."""
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute(f"alter role app reset all; drop table if exists landed, item, {', '.join(OWN)}")
        admin.execute("; ".join(TABLES).format(""))
        yield admin


class OffsetMapper:
    """A row for each record: its offset, and its value as text."""

    def map(self, messages: Sequence[Message]) -> Mapped:
        rows = [(message.offset(), (message.value() or b"").decode()) for message in messages]
        return Mapped([TableRows("landed", ("number", "body"), rows, list(range(len(rows))))], [])

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        pass


class FaultySink(PostgresSink):
    """Does `fault` once: when everything is written and nothing committed, or, in a single query, before the rows."""

    fault: Callable[[], None] | None = None
    clean = False

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self._do()
        super().commit(next_offsets)

    def transact(
        self,
        fences: Mapping[TopicPartition, Fence],
        rows: Sequence[TableRows],
        next_offsets: Mapping[TopicPartition, int],
        sent: Callable[[], None],
    ) -> float:
        put = Script.put

        def trapped(script: Script, data: Any) -> None:
            self._do()
            put(script, data)

        with pytest.MonkeyPatch.context() as patch:
            if self.clean:
                patch.setattr(Script, "put", trapped)
            return super().transact(fences, rows, next_offsets, sent)

    def _do(self) -> None:
        fault, self.fault = self.fault, None
        if fault is not None:
            fault()


class Line:
    """One instance that writes batch after batch of one partition, and the account of it."""

    def __init__(
        self, dsn: str, targets: Sequence[Target] = (LANDED,), owner: str = "a", *, clean: bool = False
    ) -> None:
        self.sink = FaultySink(dsn, targets, "g", owner)
        self.sink.clean = clean
        self.writer = Writer(self.sink, OffsetMapper(), Breaker(500, 1.0))
        self.read = self.written = 0
        self._bad: list[int] = []
        self._collector = Collector(BatchPolicy(max_records=1_000_000, max_bytes=1 << 40))

    def start(self) -> None:
        self.writer.claim({P: START})
        self._collector.start({P: self.read})

    def batch(self, records: int = 20, body: bytes = b"x") -> Batch:
        """The next records, one of them at fault, unless they are to be clean."""
        numbers = range(self.read, self.read + records)
        bad = [] if self.sink.clean else [numbers[BAD]]
        self._bad += bad
        messages = [MemoryMessage(*P, number, b"bad" if number in bad else body) for number in numbers]
        self._collector.add(messages, 0)
        self._collector.close("drain")
        self.read += records
        batch = self._collector.take(0)
        assert batch is not None
        return batch

    def write(self, batch: Batch) -> list[UnavailableError]:
        """Try until it is in; a server that comes back refuses connections for a while. Returns the refusals."""
        refusals = []
        for _ in count():
            try:
                self.writer.write(batch)
            except UnavailableError as error:
                refusals.append(error)
                assert len(refusals) < 1000
            else:
                break
        self.written = batch.next_offsets[P]
        return refusals

    def fails(self, batch: Batch, match: str | None = None) -> None:
        """Try once, in vain."""
        with pytest.raises(UnavailableError, match=match):
            self.writer.write(batch)

    def account(self, server: Postgres) -> Account:
        """What the database has."""
        with psycopg.connect(server.dsn) as connection:
            numbers = [row[0] for row in connection.execute("select number from landed order by number")]
            ((next_offset,),) = connection.execute("select next_offset from microbatch_offsets").fetchall()
            letters = connection.execute('select "offset" from microbatch_dead_letters order by 1').fetchall()
        return numbers, next_offset, [offset for (offset,) in letters]

    def balance(self) -> Account:
        """What `account` must say: all that was written, nothing of what was tried in vain."""
        bad = [number for number in self._bad if number < self.written]
        return sorted(set(range(self.written)).difference(bad)), self.written, bad


def through(proxy: Proxy, server: Postgres, **more: str) -> str:
    return make_conninfo(server.dsn, port=proxy.port, user="app", **more)


@pytest.fixture(params=["at fault", "clean"])
def line(request: pytest.FixtureRequest, server: Postgres, proxy: Proxy, admin: Admin) -> Iterator[Line]:
    line = Line(through(proxy, server), clean=request.param == "clean")
    line.start()
    yield line
    proxy.release()
    line.sink.close()


@pytest.mark.parametrize("moment", ["before", "while", "after"])
def test_a_commit_without_an_answer(line: Line, proxy: Proxy, server: Postgres, moment: str) -> None:
    """Whatever became of it, the conditional claim tells: of fifty batches, each record is there once."""
    failed = 0
    for _ in range(50):
        CommitCut(proxy, moment)
        failed += bool(line.write(line.batch()))
    assert failed == 50 or (moment == "while" and failed > 25)
    assert line.account(server) == line.balance()


@pytest.mark.parametrize("moment", ["copy begins", "copy data", "commit"])
def test_a_black_hole_is_left_by_an_interrupt(line: Line, proxy: Proxy, server: Postgres, moment: str) -> None:
    """A call that waits for a silent peer ends as unavailable as soon as it is interrupted, and writing goes on."""
    line.write(line.batch())
    hung, passed = threading.Event(), 0

    def inspect(data: bytes, to_server: bool) -> bool:
        nonlocal passed
        passed += len(data)
        ends = {"copy begins": b"copy " in data, "copy data": passed > 5_000_000, "commit": commits(data)}
        if to_server and ends[moment] and not hung.is_set():
            proxy.hang()
            hung.set()
        return True

    commits = CommitCut(proxy, moment).commits
    proxy.inspect = inspect
    batch = line.batch(20_000, b"x" * 1000)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(line.writer.write, batch)
        assert hung.wait(30)
        with pytest.raises(TimeoutError):
            writing.result(0.3)
        line.sink.interrupt()
        with pytest.raises(UnavailableError):
            writing.result(5)
    proxy.release()
    line.write(batch)
    line.write(line.batch())
    assert line.account(server) == line.balance()


def test_a_session_that_is_killed(line: Line, admin: Admin, server: Postgres) -> None:
    """Ended by an administrator, in the middle and between batches: the batch is written again on a new connection."""

    def kill() -> None:
        assert admin.execute(sessions_of("app")).rowcount

    for _ in range(20):
        line.sink.fault = kill
        assert line.write(line.batch())
        kill()
        assert line.write(line.batch())
    assert line.account(server) == line.balance()


def test_a_server_that_restarts(line: Line, server: Postgres) -> None:
    """Stopped at once in the middle of a batch: unavailable as long as it is away, and then the batch is written."""
    for _ in range(3):
        batch = line.batch()
        line.sink.fault = server.crash
        line.fails(batch)
        line.fails(batch)
        server.start()
        assert line.account(server) == line.balance()
        line.write(batch)
    assert line.account(server) == line.balance()


def test_a_server_that_refuses_connections(line: Line, proxy: Proxy, server: Postgres) -> None:
    """A load balancer without a server behind it is an outage."""
    batch = line.batch()
    proxy.refuse()
    proxy.cut()
    line.fails(batch)
    line.fails(batch)
    assert line.account(server) == line.balance()
    proxy.accept()
    line.write(batch)
    assert line.account(server) == line.balance()


def test_a_server_that_becomes_read_only(line: Line, proxy: Proxy, admin: Admin, server: Postgres) -> None:
    """A demoted primary: the connection is given up, and the batch written when there is a primary again."""
    admin.execute("alter role app set default_transaction_read_only = on")
    batch = line.batch()
    proxy.cut()
    line.fails(batch)
    line.fails(batch, "25006")
    assert line.account(server) == line.balance()
    admin.execute("alter role app reset default_transaction_read_only")
    line.write(batch)
    assert line.account(server) == line.balance()


def test_a_lock_that_is_not_free_in_time(proxy: Proxy, admin: Admin, server: Postgres) -> None:
    """Somebody else's lock on the table is waited for as the session's lock_timeout says, and is no record's fault."""
    line = Line(through(proxy, server, options="-c lock_timeout=100ms"))
    line.start()
    batch = line.batch()
    with admin.transaction():
        admin.execute("lock table landed in share mode")
        line.fails(batch, "55P03")
    assert line.account(server) == line.balance()
    line.write(batch)
    assert line.account(server) == line.balance()
    line.sink.close()


def test_a_deadlock(server: Postgres, admin: Admin) -> None:
    """The server ends one of the two: it is unavailable, comes again, and both sums are right."""
    dsn = make_conninfo(server.dsn, user="app")
    sinks = [PostgresSink(dsn, [Target("item", Mode.INCREMENT, add=("total",))], "g", owner) for owner in "ab"]
    claims = [sink.claim({key: START})[key] for sink, key in zip(sinks, (P, Q), strict=True)]

    def add(sink: PostgresSink, *ids: int) -> None:
        sink.apply([TableRows("item", ("id", "total"), [(number, 1) for number in ids], [0] * len(ids))])

    def begin(place: int) -> None:
        sinks[place].begin({(P, Q)[place]: Fence(claims[place].epoch, 0)})
        add(sinks[place], place)

    def finish(place: int) -> None:
        add(sinks[place], 1 - place)
        sinks[place].commit({(P, Q)[place]: 2})

    admin.execute("insert into item values (0, 0), (1, 0)")
    begin(0), begin(1)
    with ThreadPoolExecutor(2) as pool:
        ends = [future.exception() for future in [pool.submit(finish, 0), pool.submit(finish, 1)]]
    (victim,) = [place for place, error in enumerate(ends) if error is not None]
    assert isinstance(ends[victim], UnavailableError)
    assert "40P01" in str(ends[victim])
    begin(victim), finish(victim)
    assert admin.execute("select from microbatch_dead_letters").rowcount == 0
    assert admin.execute("select total from item").fetchall() == [(2,), (2,)]
    for sink in sinks:
        sink.close()


def test_a_deadlock_in_a_batch(proxy: Proxy, admin: Admin, server: Postgres) -> None:
    """The server ends the writer's transaction for the sake of another one: all of it comes again."""
    admin.execute("alter role app set deadlock_timeout = '1s'")
    line = Line(through(proxy, server))
    line.start()
    batch = line.batch()
    with ThreadPoolExecutor(1) as pool:
        crossing = pool.submit(deadlock, server.dsn, "landed", "app")
        until(lambda: locked(admin, "landed"), "the table is locked")
        line.fails(batch, "40P01")
        crossing.result(10)
    assert line.account(server) == line.balance()
    line.write(batch)
    assert line.account(server) == line.balance()
    line.sink.close()


def locked(admin: Admin, table: str) -> bool:
    query = "select from pg_locks where relation = to_regclass(%s) and mode = 'AccessExclusiveLock' and granted"
    return bool(admin.execute(query, [table]).rowcount)


def test_a_full_disk() -> None:
    """Waited for until there is room, as often as it is tried meanwhile."""
    if not SmallDiskPostgres.possible():
        pytest.skip("this machine lets us have no disk of our own: no namespaces of users")
    server = SmallDiskPostgres(8 << 20)
    server.start()
    try:
        with psycopg.connect(server.dsn, autocommit=True) as admin:
            admin.execute("create role app login; grant create on schema public to app")
            admin.execute("; ".join(TABLES).format("tablespace small"))
        line = Line(make_conninfo(server.dsn, user="app"))
        line.start()
        line.write(line.batch())
        server.fill()
        batch = line.batch(2000, b"x" * 100)
        for _ in range(10):
            line.fails(batch, "53100")
        assert line.account(server) == line.balance()
        server.empty()
        line.write(batch)
        assert line.account(server) == line.balance()
        line.sink.close()
    finally:
        server.stop()


def test_connections_that_are_used_up(line: Line, proxy: Proxy, admin: Admin, server: Postgres) -> None:
    """No free connection is an outage, not a wrong password."""
    batch, taken = line.batch(), list[Admin]()
    proxy.cut()
    line.fails(batch)
    with suppress(psycopg.OperationalError):
        while True:
            taken.append(psycopg.connect(server.dsn))
    line.fails(batch, "slots are reserved|too many")
    other = Line(make_conninfo(server.dsn, user="app"), owner="b")
    with pytest.raises(UnavailableError):
        other.start()
    for connection in taken:
        connection.close()
    assert line.account(server) == line.balance()
    assert len(line.write(batch)) < 100
    assert line.account(server) == line.balance()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"user": "nobody_here"}, "nobody_here"),
        ({"user": "sealed", "password": "wrong-secret"}, "password authentication failed"),
        ({"user": "sealed"}, "no password supplied"),
        ({"user": "pg_monitor"}, "not permitted to log in"),
        ({"dbname": "no_such_database"}, "no_such_database"),
    ],
    ids=["role", "password", "none", "nologin", "database"],
)
def test_a_first_login_that_is_refused(server: Postgres, sealed: None, more: dict[str, str], said: str) -> None:
    """What nobody but a person can put right is fatal at the first login; no password is told."""
    sink = PostgresSink(make_conninfo(server.dsn, **more), [LANDED], "g", "a")
    with pytest.raises(FatalError, match=said) as raised:
        sink.claim({P: START})
    assert "secret" not in f"{raised.value} {raised.value.hint} {raised.value.__cause__}"
    assert "sink.dsn" in raised.value.hint


@pytest.fixture(scope="module")
def sealed(server: Postgres) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        admin.execute("create role sealed login password 'right' in role app")
        server.require_password("sealed")
        admin.execute("select pg_reload_conf()")


def test_a_later_login_that_is_refused(server: Postgres, proxy: Proxy, admin: Admin, sealed: None) -> None:
    """A password changed under a running daemon is an outage: it goes on when the password is right again."""
    line = Line(through(proxy, server) + " user=sealed password=right")
    line.start()
    batch = line.batch()
    admin.execute("alter role sealed password 'other'")
    proxy.cut()
    line.fails(batch)
    line.fails(batch, "password authentication failed")
    assert line.account(server) == line.balance()
    admin.execute("alter role sealed password 'right'")
    line.write(batch)
    assert line.account(server) == line.balance()
    line.sink.close()


def test_a_former_owner_that_blocks_is_ended(line: Line, server: Postgres, admin: Admin) -> None:
    """A claim ends the session that holds its rows, if it is the owner's; nobody else's, whatever it is called."""
    others = {
        "other user": psycopg.connect(server.dsn, application_name="microbatch:a"),
        "other name": psycopg.connect(make_conninfo(server.dsn, user="app"), application_name="microbatch:aa"),
    }
    batch, second = line.batch(), Line(make_conninfo(server.dsn, user="app"), owner="b")
    line.sink.fault = second.start
    line.fails(batch)
    second.write(second.batch())
    assert second.account(server) == second.balance()
    for session in others.values():
        assert session.execute("select 1").fetchone() == (1,)
        session.close()
    second.sink.close()


def test_a_row_that_somebody_else_holds(line: Line, admin: Admin) -> None:
    """A claim that is blocked by what is not an owner's session is unavailable, and nobody is ended."""
    with admin.transaction():
        admin.execute("select from microbatch_offsets for update")
        with pytest.raises(UnavailableError, match="pg_locks"):
            line.start()
    line.start()
    line.write(line.batch())


MODES = {
    Mode.INSERT: {"INSERT"},
    Mode.UPSERT: {"SELECT", "INSERT", "UPDATE"},
    Mode.INCREMENT: {"SELECT", "INSERT", "UPDATE"},
    Mode.DELETE: {"SELECT", "UPDATE", "DELETE"},
}
OFFSETS = {"SELECT", "INSERT", "UPDATE"}
LETTERS = OFFSETS | {"DELETE"}


@pytest.fixture
def least(admin: Admin, server: Postgres) -> Iterator[Callable[..., PostgresSink]]:
    """Makes sinks of a role that has these privileges on `item` and on our own two tables, and no others."""
    sinks = []
    sinks.append(PostgresSink(server.dsn, [], "g", "a"))
    sinks[0].claim({P: START})
    admin.execute("create role least login")

    def make(mode: Mode, on_item: set[str], *on_own: set[str]) -> PostgresSink:
        for table, privileges in zip(("item", *OWN), (on_item, *on_own), strict=True):
            for privilege in privileges:
                admin.execute(f"grant {privilege} on {table} to least")
        add = ("total",) if mode is Mode.INCREMENT else ()
        sinks.append(PostgresSink(make_conninfo(server.dsn, user="least"), [Target("item", mode, add=add)], "g", "b"))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close()
    admin.execute("drop owned by least; drop role least")


LETTER = letter_of(
    MemoryMessage(*P, 0, b"x"), evidence_of(DecodeError("no"), ""), State.PENDING, datetime.datetime.now(datetime.UTC)
)


def use(sink: PostgresSink) -> None:
    """Everything that a daemon does."""
    claim = sink.claim({P: START})[P]
    fences = sink.confirm({P: Fence(claim.epoch, claim.position.next_offset)})
    sink.begin(fences)
    sink.apply([TableRows("item", ("id", "total"), [(1, 1), (2, 1)], [0, 1])])
    sink.apply([TableRows("item", ("id", "total"), [(3, 1)], [2])])
    sink.letters.keep([LETTER])
    sink.commit({P: 3})
    assert sink.letters.pending([P], 10) == [LETTER]
    sink.letters.published([LETTER.coordinates])
    sink.reset({P: START})
    sink.offsets()


@pytest.mark.parametrize("mode", Mode)
def test_the_least_privileges_are_enough(least: Callable[..., PostgresSink], mode: Mode) -> None:
    """Those that the documentation names, and no others."""
    sink = least(mode, MODES[mode], OFFSETS, LETTERS)
    assert [sentence for sentence in sink.check(["item"]) if "fsync" not in sentence] == []
    use(sink)


@pytest.mark.parametrize(
    ("mode", "table", "missing"),
    [(mode, "item", privilege) for mode, privileges in MODES.items() for privilege in sorted(privileges)]
    + [(Mode.INSERT, OWN[0], privilege) for privilege in sorted(OFFSETS)]
    + [(Mode.INSERT, OWN[1], privilege) for privilege in sorted(LETTERS)],
)
def test_a_missing_privilege_is_named(least: Callable[..., PostgresSink], mode: Mode, table: str, missing: str) -> None:
    """`check` says which one on which table; without it nothing is written, and the hint is to grant it."""
    needed = {"item": MODES[mode], OWN[0]: OFFSETS, OWN[1]: LETTERS}
    needed[table] = needed[table] - {missing}
    sink = least(mode, *needed.values())
    assert [s for s in sink.check(["item"]) if missing in s and table in s and "grant" in s]
    with pytest.raises(FatalError, match=table) as raised:
        use(sink)
    assert "rant" in raised.value.hint


def test_an_offset_table_that_may_not_be_made(admin: Admin, server: Postgres) -> None:
    """Without the table and the right to create it, `check` says so, and the claim is fatal."""
    admin.execute("create role stranger login; grant insert on landed to stranger")
    sink = PostgresSink(make_conninfo(server.dsn, user="stranger"), [LANDED], "g", "a")
    assert [
        sentence for sentence in sink.check(["landed"]) if "microbatch_offsets" in sentence and "CREATE" in sentence
    ]
    with pytest.raises(FatalError, match="permission denied"):
        sink.claim({P: START})
    sink.close()
    admin.execute("drop owned by stranger; drop role stranger")

"""PostgreSQL: binary COPY in one transaction with the offsets.

A batch is two round trips: one query from begin to commit, with locks, fingerprint and offsets, and the rows for the
COPY in it. In steps it is four. Nothing is retried here and nothing isolated: errors become instructions (`sqlstate`),
others act on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, TypeVar

import psycopg

from consumer.errors import (
    FatalError,
    FencedError,
    MicrobatchError,
    RejectedError,
    TopicPartition,
    UnavailableError,
)
from consumer.sinks import Claim, Fence, Isolated, Letters, Position, StoredOffset
from consumer.sinks.postgres import checks, letters, offsets
from consumer.sinks.postgres.copying import EndedEarlyError
from consumer.sinks.postgres.script import Answer, Script, Statement, run
from consumer.sinks.postgres.session import Session
from consumer.sinks.postgres.sqlstate import Rules
from consumer.sinks.postgres.tables import InTheWayError, Tables
from consumer.sinks.postgres.translation import Translation
from consumer.sinks.transaction import in_steps
from consumer.table import Table, TableRows, Target

__all__ = ["PostgresSink"]

_T = TypeVar("_T")
Connection = psycopg.Connection[Any]
_LOCK_NOT_AVAILABLE = "55P03"
_UNDEFINED_OBJECT = "42704"
_LOCK_SECONDS = 2
_END_SECONDS = 5
_ATTEMPTS = 3
# A process that is stopped in the middle of a transaction keeps its locks no longer than this, if it is not in COPY.
_BEGIN = ("begin isolation level read committed", "set local idle_in_transaction_session_timeout = '60s'")
_NOW = "select extract(epoch from clock_timestamp())"


class PostgresSink:
    """See Sink. `targets` in the order in which tables are locked; other tables are inserted into, after them.

    `owner` must be unique among running instances: a session of its name is ended when it blocks a claim.
    `exactly_once` False: no offset table, delivery is at least once. `verdicts`: what to do about a SQLSTATE or a class
    of them, where it is not what `sqlstate.RULES` says; words of `sqlstate.VERDICTS`.
    """

    def __init__(
        self,
        dsn: str,
        targets: Sequence[Target],
        group_id: str,
        owner: str,
        *,
        exactly_once: bool = True,
        verdicts: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Connects only when first used. Raises ConfigError when the DSN cannot be parsed, or a verdict is none."""
        self.transactional = exactly_once
        self._group, self._owner = group_id, owner
        self._session = Session(dsn, owner)
        self.letters: Letters = letters.PostgresLetters(group_id, self._translated, self._join)
        rules = Rules(verdicts)
        self._translation = Translation(rules)
        self._tables = Tables(targets, rules, self._translation)
        self._fences: Mapping[TopicPartition, Fence] = {}

    def describe(self, table: str) -> Table:
        """See Sink.describe."""
        with self._translated() as connection:
            return self._tables.describe(connection, table)

    def claim(self, starts: Mapping[TopicPartition, Position]) -> dict[TopicPartition, Claim]:
        """See Sink.claim."""
        if not self.transactional or not starts:
            return {key: Claim(0, position) for key, position in starts.items()}
        return self._take(starts, lambda c: offsets.claim(c, self._group, self._owner, starts))

    def confirm(self, fences: Mapping[TopicPartition, Fence]) -> dict[TopicPartition, Fence]:
        """See Sink.confirm."""
        if not self.transactional or not fences:
            return dict(fences)
        return self._take(fences, lambda c: offsets.confirm(c, self._group, fences))

    def reset(self, positions: Mapping[TopicPartition, Position]) -> None:
        """See Sink.reset."""
        if self.transactional and positions:
            self._take(positions, lambda c: self._moved(c, positions))

    def begin(self, fences: Mapping[TopicPartition, Fence]) -> None:
        """See Sink.begin. A table that changed since it was described is described again first."""
        with self._translated() as connection:
            self._tables.prepare(connection)
            self._begin(connection, fences)

    def prepare(self, rows: Sequence[TableRows]) -> None:
        """See Sink.prepare."""
        self._tables.encode(rows)

    def apply(self, rows: Sequence[TableRows]) -> None:
        """See Sink.apply."""
        with self._translated() as connection:
            self._require_transaction()
            self._tables.apply(connection, rows)

    def isolate(self, rows: Sequence[TableRows], patience: int | None = None) -> Isolated:
        """See Sink.isolate."""
        with self._translated() as connection:
            self._require_transaction()
            return self._tables.isolate(connection, rows, patience)

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """See Sink.commit."""
        with self._translated() as connection:
            self._require_transaction()
            self._require_forward(next_offsets)
            with self._committing(connection):
                answers = run(connection, *self._moves(next_offsets), "commit")
            self._require_commit(answers[-1])
            self._translation.settle()

    def transact(
        self,
        fences: Mapping[TopicPartition, Fence],
        rows: Sequence[TableRows],
        next_offsets: Mapping[TopicPartition, int],
        sent: Callable[[], None],
    ) -> float:
        """See Sink.transact. By one script, where nothing has to be asked before, and nothing is in the way of it."""
        with self._translated() as connection:
            self._tables.prepare(connection)
            if self._tables.foresees(connection, rows):
                try:
                    return self._by_script(connection, fences, rows, next_offsets, sent)
                except FencedError:
                    self.rollback()
                    raise
                except (EndedEarlyError, InTheWayError):
                    self.rollback()
        return in_steps(self, fences, rows, next_offsets, sent)

    def rollback(self) -> None:
        """See Sink.rollback."""
        self._session.end_transaction()

    def offsets(self) -> dict[TopicPartition, StoredOffset]:
        """See Sink.offsets."""
        if not self.transactional:
            return {}
        with self._translated() as connection:
            return offsets.stored(connection, self._group)

    def check(self, tables: Collection[str]) -> list[str]:
        """See Sink.check."""
        with self._translated() as connection:
            found, described = [], []
            for table in tables:
                try:
                    described.append(self._tables.look(connection, table))
                except FatalError as error:
                    found.append(f"{error}. {error.hint}")
            return found + checks.check(connection, described, self.transactional)

    def interrupt(self) -> None:
        """See Sink.interrupt."""
        self._session.interrupt()

    def close(self) -> None:
        """See Sink.close."""
        self._session.close()

    def _moved(self, connection: Connection, positions: Mapping[TopicPartition, Position]) -> None:
        letters.reread(connection, self._group, positions)
        offsets.claim(connection, self._group, self._owner, positions, move=True)

    def _take(self, keys: Collection[TopicPartition], action: Callable[[Connection], _T]) -> _T:
        """Do something with offset rows in a transaction of its own; a session that holds them too long is ended."""
        with self._translated() as connection:
            offsets.create(connection)
            letters.create(connection)
            for _ in range(_ATTEMPTS):
                try:
                    run(connection, *_BEGIN, f"set local lock_timeout = '{_LOCK_SECONDS}s'")
                    taken = action(connection)
                    self._require_commit(run(connection, "commit")[-1])
                except psycopg.Error as error:
                    if error.sqlstate != _LOCK_NOT_AVAILABLE:
                        raise
                    run(connection, "rollback")
                    self._end_owners(connection, keys)
                else:
                    return taken
            raise UnavailableError(
                "PostgreSQL: rows of microbatch_offsets stay locked; pg_locks shows by which session"
            )

    def _end_owners(self, connection: Connection, keys: Collection[TopicPartition]) -> None:
        names = offsets.owners_sessions(connection, self._group, keys)
        offsets.terminate(connection, names)
        deadline = time.monotonic() + _END_SECONDS
        while offsets.alive(connection, names) and time.monotonic() < deadline:
            run(connection, "select pg_sleep(0.02)")

    def _begin(self, connection: Connection, fences: Mapping[TopicPartition, Fence], *before: Statement) -> None:
        while not self._begun(connection, fences, *before):
            run(connection, "rollback")
            self._tables.renew(connection)
            before = ()

    def _begun(self, connection: Connection, fences: Mapping[TopicPartition, Fence], *before: Statement) -> bool:
        """Open the transaction, by a query that begins with `before`. False: the description of a table is out of
        date."""
        self._fences = fences
        opening = [*before, *_BEGIN, self._lock(fences), *self._tables.begin(), "savepoint microbatch"]
        try:
            answers = run(connection, *opening)
        except psycopg.Error as error:
            if error.sqlstate == _UNDEFINED_OBJECT:  # of a stage: a type that its table had
                return False
            raise
        if fenced := self._fenced(answers[len(before) + len(_BEGIN)], fences):
            run(connection, "rollback")
            raise FencedError(fenced)
        return self._as_described(answers[-2])

    def _by_script(
        self,
        connection: Connection,
        fences: Mapping[TopicPartition, Fence],
        rows: Sequence[TableRows],
        next_offsets: Mapping[TopicPartition, int],
        sent: Callable[[], None],
    ) -> float:
        """The whole transaction as one script. Raises InTheWayError, EndedEarlyError: nothing is written."""
        self._fences = fences
        self._require_forward(next_offsets)
        opening: list[Statement] = [*_BEGIN, self._lock(fences), *self._tables.begin(), _NOW]
        parts, moves = self._tables.parts(connection, rows), self._moves(next_offsets)
        statements = [*opening, *self._tables.statements(parts), *moves, _NOW, "commit"]
        undo = partial(self._begin, connection, fences, "rollback")
        script = Script(connection, statements, sent)
        with self._committing(connection), self._tables.refusals(undo), script:
            asked = self._opened(connection, script, opening, fences)
            began = time.perf_counter()
            self._tables.send(connection, script, parts)
            *_, ((now,),) = [script.next()[0] for _ in [*moves, _NOW]]
            self._require_commit(script.next())
        self._translation.settle()
        # The server's clock ran from when it wanted the rows until COMMIT, and ours until its answer.
        return max(0.0, time.perf_counter() - began - (float(now or 0) - asked))

    def _opened(
        self,
        connection: Connection,
        script: Script,
        opening: Sequence[Statement],
        fences: Mapping[TopicPartition, Fence],
    ) -> float:
        """Hear what the script opens with; the server's time at its end."""
        try:
            answers = [script.next() for _ in opening]
        except psycopg.Error as error:
            if self._translation.may_go_on(error, connection.closed):
                raise InTheWayError from None
            raise
        if fenced := self._fenced(answers[len(_BEGIN)], fences):
            raise FencedError(fenced)
        if not self._as_described(answers[-2]):
            raise InTheWayError
        return float(answers[-1][0][0][0] or 0)

    def _lock(self, fences: Mapping[TopicPartition, Fence]) -> Statement:
        # Without fences the table of offsets need not be there: a plan is made before the first run, too.
        return offsets.lock(self._group, fences) if self.transactional and fences else "select where false"

    def _fenced(self, answer: Answer, fences: Mapping[TopicPartition, Fence]) -> list[TopicPartition]:
        found = offsets.held(answer[0])
        return [key for key, fence in fences.items() if found.get(key) != fence] if self.transactional else []

    def _as_described(self, answer: Answer) -> bool:
        return {int(value) for (value,) in answer[0]} == self._tables.fingerprints

    def _moves(self, next_offsets: Mapping[TopicPartition, int]) -> list[Statement]:
        return [offsets.advance(self._group, next_offsets)] if self.transactional and next_offsets else []

    @contextmanager
    def _committing(self, connection: Connection) -> Iterator[None]:
        """Errors of the statements that end a transaction."""
        try:
            yield
        except psycopg.Error as error:
            # The transaction is over when it was COMMIT that failed, else it waits for a rollback.
            if connection.closed or self._session.in_transaction or not self._translation.refuses_data(error):
                raise
            self._tables.defers = True
            reason = "PostgreSQL: a constraint refused rows only at COMMIT; from now on it is checked before"
            raise UnavailableError(reason) from None

    def _require_transaction(self) -> None:
        # Without one, rows would be committed as they come: a connection is made anew when there is none.
        if not self._session.in_transaction:
            raise FatalError(
                "rows are written outside a transaction", "This is a defect of microbatch; please report it."
            )

    def _join(self) -> None:
        """For what else is written in the open transaction: a refused apply after it must not take it along."""
        self._require_transaction()
        self._tables.join()

    def _require_forward(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        for key, offset in next_offsets.items() if self.transactional else ():
            if key not in self._fences or offset < self._fences[key].next_offset:
                message = f"{key} is not to be moved to {offset}: begun with {self._fences.get(key)}"
                raise FatalError(message, "This is a defect of microbatch; please report it.")

    def _require_commit(self, answer: Answer) -> None:
        # A failed transaction answers ROLLBACK to COMMIT, and no driver calls that an error.
        if (tag := answer[1]) != "COMMIT":
            raise FatalError(
                f"PostgreSQL answered {tag} to COMMIT", "This is a defect of microbatch; please report it."
            )

    def _fault(self, error: psycopg.Error, connection: Connection) -> MicrobatchError:
        """The instruction in an error of a statement that writes no rows: never a rejection."""
        found = self._translation.translate(error, connection.closed)
        if not isinstance(found, RejectedError):
            return found
        hint = "Look for triggers and constraints on microbatch_offsets that are not microbatch's own."
        return FatalError(f"PostgreSQL refused one of microbatch's own statements: {found.reason}", hint)

    @contextmanager
    def _translated(self) -> Iterator[Connection]:
        """A connection; errors on it become instructions, and all but a rejection end the transaction."""
        try:
            connection = self._session.connection(self._tables.forget)
            try:
                yield connection
            except psycopg.Error as error:
                raise self._fault(error, connection) from None
        except UnavailableError:
            self._session.close()
            raise
        except FatalError:
            self._session.end_transaction()
            raise

"""PostgreSQL: binary COPY in one transaction with the offsets.

A batch is four round trips: begin with locks and fingerprint, COPY and its end, commit with the offsets; by key one
more. Nothing is retried here and nothing isolated: errors become instructions (`sqlstate`), others act on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeVar

import psycopg
from psycopg import sql

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
from consumer.sinks.postgres.session import Session
from consumer.sinks.postgres.sqlstate import Rules
from consumer.sinks.postgres.tables import Answer, Tables, run
from consumer.sinks.postgres.translation import Translation
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
_BEGIN = "begin isolation level read committed; set local idle_in_transaction_session_timeout = '60s'"


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
            while not self._begun(connection, fences):
                run(connection, "rollback")
                self._tables.renew(connection)

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
            moves = [offsets.advance(self._group, next_offsets)] if self.transactional and next_offsets else []
            try:
                answers = run(connection, sql.SQL("; ").join([*moves, sql.SQL("commit")]))
            except psycopg.Error as error:
                # The transaction is over when it was COMMIT that failed, else it waits for a rollback.
                if connection.closed or self._session.in_transaction or not self._translation.refuses_data(error):
                    raise
                self._tables.defers = True
                reason = "PostgreSQL: a constraint refused rows only at COMMIT; from now on it is checked before"
                raise UnavailableError(reason) from None
            self._require_commit(answers)
            self._translation.settle()

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
                    run(connection, f"{_BEGIN}; set local lock_timeout = '{_LOCK_SECONDS}s'")
                    taken = action(connection)
                    self._require_commit(run(connection, "commit"))
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

    def _begun(self, connection: Connection, fences: Mapping[TopicPartition, Fence]) -> bool:
        """Open the transaction. False: the description of a table is out of date."""
        self._fences = fences
        opening = sql.SQL(self._tables.begin())
        # Without fences the table of offsets need not be there: a plan is made before the first run, too.
        lock = offsets.lock(self._group, fences) if self.transactional and fences else sql.SQL("select where false")
        try:
            answers = run(connection, sql.SQL("; ").join([sql.SQL(_BEGIN), lock, opening]))
        except psycopg.Error as error:
            if error.sqlstate == _UNDEFINED_OBJECT:  # of a stage: a type that its table had
                return False
            raise
        found = offsets.held(answers[2][0])
        fenced = [key for key, fence in fences.items() if found.get(key) != fence] if self.transactional else []
        if fenced:
            run(connection, "rollback")
            raise FencedError(fenced)
        seen = {value for (value,) in answers[-2][0]}
        return seen == self._tables.fingerprints

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

    def _require_commit(self, answers: Sequence[Answer]) -> None:
        # A failed transaction answers ROLLBACK to COMMIT, and no driver calls that an error.
        if (tag := answers[-1][1]) != "COMMIT":
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

"""PostgreSQL: binary COPY in one transaction with the offsets.

A batch is four round trips: begin with locks and fingerprint, COPY and its end, commit with the offsets; by key two
more. Nothing is retried here and nothing isolated: errors become instructions (`sqlstate`), others act on them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from consumer.sinks import Claim, Fence, Position, StoredOffset
from consumer.sinks.postgres import catalogue, checks, offsets
from consumer.sinks.postgres.catalogue import Relation
from consumer.sinks.postgres.copying import copy
from consumer.sinks.postgres.plan import Plan, plan
from consumer.sinks.postgres.session import Session
from consumer.sinks.postgres.translation import Translation, refuses_data
from consumer.table import Table, TableRows, Target

__all__ = ["PostgresSink"]

_T = TypeVar("_T")
Connection = psycopg.Connection[Any]
_Answer = tuple[list[tuple[Any, ...]], str | None]
_LOCK_NOT_AVAILABLE = "55P03"
_LOCK_SECONDS = 2
_END_SECONDS = 5
_ATTEMPTS = 3
# A process that is stopped in the middle of a transaction keeps its locks no longer than this, if it is not in COPY.
_BEGIN = "begin isolation level read committed; set local idle_in_transaction_session_timeout = '60s'"


class PostgresSink:
    """See Sink. `targets` in the order in which tables are locked; other tables are inserted into, after them.

    `owner` must be unique among running instances: a session of its name is ended when it blocks a claim.
    `exactly_once` False: no offset table, delivery is at least once.
    """

    def __init__(
        self, dsn: str, targets: Sequence[Target], group_id: str, owner: str, *, exactly_once: bool = True
    ) -> None:
        """Connects only when first used. Raises ConfigError when the DSN cannot be parsed."""
        self.transactional = exactly_once
        self._targets = {target.table: target for target in targets}
        self._order = {table: place for place, table in enumerate(self._targets)}
        self._group, self._owner = group_id, owner
        self._session = Session(dsn, owner)
        self._translation = Translation()
        self._relations: dict[str, Relation] = {}
        self._plans: dict[tuple[str, tuple[str, ...], bool], Plan] = {}
        self._known: dict[str, Table] = {}  # as last asked for: what rows are made for
        self._fences: Mapping[TopicPartition, Fence] = {}
        self._opening = ""
        self._defers = False  # a refusal came at COMMIT: constraints that the catalogue did not show are deferred
        self._applied = False  # something was written after the savepoint
        self._staged = 0  # rows of this transaction that went into stages

    def describe(self, table: str) -> Table:
        """See Sink.describe."""
        with self._translated() as connection:
            self._known.pop(table, None)
            return self._load(connection, table).table

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
            self._take(positions, lambda c: offsets.claim(c, self._group, self._owner, positions, move=True))

    def begin(self, fences: Mapping[TopicPartition, Fence]) -> None:
        """See Sink.begin. A table that changed since it was described is described again first."""
        with self._translated() as connection:
            for table in self._targets:
                if table not in self._relations:
                    self._load(connection, table)
            while not self._begun(connection, fences):
                self._run(connection, "rollback")
                for table in list(self._relations):
                    self._load(connection, table)

    def apply(self, rows: Sequence[TableRows]) -> None:
        """See Sink.apply."""
        with self._translated() as connection:
            self._require_transaction()
            if self._applied:
                self._run(connection, self._renewal())
            self._applied = True
            try:
                for table_rows in sorted(rows, key=self._place):
                    if table_rows.rows:
                        self._write(connection, table_rows)
                if self._checks_late():
                    with self._instructed(connection):
                        self._run(connection, "set constraints all immediate")
            except RejectedError as error:
                self._run(connection, "rollback to savepoint microbatch")
                self._applied = False
                self._require_same_type(error)
                raise

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """See Sink.commit."""
        with self._translated() as connection:
            self._require_transaction()
            self._require_forward(next_offsets)
            moves = [offsets.advance(self._group, next_offsets)] if self.transactional and next_offsets else []
            try:
                answers = self._run(connection, sql.SQL("; ").join([*moves, sql.SQL("commit")]))
            except psycopg.Error as error:
                # The transaction is over when it was COMMIT that failed, else it waits for a rollback.
                if connection.closed or self._session.in_transaction or not refuses_data(error):
                    raise
                self._defers = True
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
                    described.append((self._targets.get(table, Target(table)), self._load(connection, table)))
                except FatalError as error:
                    found.append(f"{error}. {error.hint}")
            return found + checks.check(connection, described, self.transactional)

    def interrupt(self) -> None:
        """See Sink.interrupt."""
        self._session.interrupt()

    def close(self) -> None:
        """See Sink.close."""
        self._session.close()

    def _take(self, keys: Collection[TopicPartition], action: Callable[[Connection], _T]) -> _T:
        """Do something with offset rows in a transaction of its own; a session that holds them too long is ended."""
        with self._translated() as connection:
            offsets.create(connection)
            for _ in range(_ATTEMPTS):
                try:
                    self._run(connection, f"{_BEGIN}; set local lock_timeout = '{_LOCK_SECONDS}s'")
                    taken = action(connection)
                    self._require_commit(self._run(connection, "commit"))
                except psycopg.Error as error:
                    if error.sqlstate != _LOCK_NOT_AVAILABLE:
                        raise
                    self._run(connection, "rollback")
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
            self._run(connection, "select pg_sleep(0.02)")

    def _begun(self, connection: Connection, fences: Mapping[TopicPartition, Fence]) -> bool:
        """Open the transaction. False: the description of a table is out of date."""
        self._applied, self._staged, self._fences = False, 0, fences
        lock = offsets.lock(self._group, fences) if self.transactional else sql.SQL("select where false")
        answers = self._run(connection, sql.SQL("; ").join([sql.SQL(_BEGIN), lock, sql.SQL(self._opening)]))
        found = {(topic, partition): Fence(*fence) for topic, partition, *fence in answers[2][0]}
        fenced = [key for key, fence in fences.items() if found.get(key) != fence] if self.transactional else []
        if fenced:
            self._run(connection, "rollback")
            raise FencedError(fenced)
        seen = {value for (value,) in answers[-2][0]}
        return seen == frozenset().union(*(relation.fingerprints for relation in self._relations.values()))

    def _write(self, connection: Connection, rows: TableRows) -> None:
        plan = self._plan(connection, rows)
        first = self._staged
        with self._instructed(connection, plan):
            if plan.stage:
                self._run(connection, plan.create)
                self._staged += len(rows.rows)
            copy(connection, plan, rows, first)
            if plan.stage:
                self._merge(connection, plan, first)

    def _merge(self, connection: Connection, plan: Plan, first: int) -> None:
        rounds = self._run(connection, plan.count(first))[0][0][0][0] if plan.rounds else 1
        self._run(connection, "; ".join(plan.merge(first, turn) for turn in range(1, rounds + 1)))

    def _plan(self, connection: Connection, rows: TableRows) -> Plan:
        deletes = rows.deletes is not None and True in rows.deletes
        key = rows.table, rows.columns, deletes
        if key not in self._plans:
            relation = self._relations.get(rows.table) or self._meet(connection, rows.table)
            self._plans[key] = plan(relation, self._targets.get(rows.table, Target(rows.table)), rows.columns, deletes)
        return self._plans[key]

    def _meet(self, connection: Connection, table: str) -> Relation:
        """Describe a table in the middle of a transaction, under the lock that keeps it as described."""
        if lock := catalogue.lock([self._load(connection, table)]):
            self._run(connection, lock)
        return self._load(connection, table)

    def _place(self, rows: TableRows) -> int:
        return self._order.get(rows.table, len(self._order))

    def _checks_late(self) -> bool:
        return self._defers or any(relation.deferrable for relation in self._relations.values())

    def _renewal(self) -> str:
        """A savepoint after what was applied already, and constraints as they were before their early check."""
        deferred = ", ".join(dict.fromkeys(name for relation in self._relations.values() for name in relation.deferred))
        again = f"; set constraints {deferred} deferred" if deferred else ""
        return f"release savepoint microbatch; savepoint microbatch{again}"

    def _load(self, connection: Connection, table: str) -> Relation:
        self._relations[table] = relation = catalogue.load(connection, table)
        self._known.setdefault(table, relation.table)
        self._plans = {key: plan for key, plan in self._plans.items() if key[0] != table}
        self._opening = catalogue.opening(list(self._relations.values()))
        return relation

    def _forget(self) -> None:
        self._relations, self._plans, self._opening = {}, {}, catalogue.opening([])

    def _run(self, connection: Connection, query: sql.Composable | str) -> list[_Answer]:
        """Run statements without parameters in one round trip; each answers with its rows and its command tag."""
        cursor = connection.execute(query)  # type: ignore[arg-type]
        answers = []
        while True:
            answers.append((cursor.fetchall() if cursor.description else [], cursor.statusmessage))
            if not cursor.nextset():
                return answers

    def _require_transaction(self) -> None:
        # Without one, rows would be committed as they come: a connection is made anew when there is none.
        if not self._session.in_transaction:
            raise FatalError(
                "rows are written outside a transaction", "This is a defect of microbatch; please report it."
            )

    def _require_forward(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        for key, offset in next_offsets.items() if self.transactional else ():
            if key not in self._fences or offset < self._fences[key].next_offset:
                message = f"{key} is not to be moved to {offset}: begun with {self._fences.get(key)}"
                raise FatalError(message, "This is a defect of microbatch; please report it.")

    def _require_same_type(self, refusal: RejectedError) -> None:
        """Rows are made for the columns as they were described; where those have changed, no row is at fault."""
        table, name = refusal.table or "", refusal.column or ""
        if table in self._known and table in self._relations:
            before, now = self._known[table].columns.get(name), self._relations[table].table.columns.get(name)
            if before and now and before.kind is not now.kind:
                message = f"PostgreSQL: column {name} of table {table} was {before.type_name}, and is {now.type_name}"
                raise FatalError(message, "Start again, so that rows are made for the table as it is now.")

    def _require_commit(self, answers: Sequence[_Answer]) -> None:
        # A failed transaction answers ROLLBACK to COMMIT, and no driver calls that an error.
        if (tag := answers[-1][1]) != "COMMIT":
            raise FatalError(
                f"PostgreSQL answered {tag} to COMMIT", "This is a defect of microbatch; please report it."
            )

    @contextmanager
    def _instructed(self, connection: Connection, plan: Plan | None = None) -> Iterator[None]:
        """Errors of a write, as instructions that name its table."""
        try:
            yield
        except RejectedError as error:
            error.table = error.table or (plan.table if plan else None)
            raise
        except psycopg.Error as error:
            table, columns = (plan.table, [c.name for c in plan.columns]) if plan else (None, [])
            raise self._translation.translate(error, connection.closed, table, columns) from None

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
            connection = self._session.connection(self._forget)
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

"""The tables that rows go into: what is known of them, and writing into them within the sink's transaction."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain
from typing import Any

import psycopg

from consumer.errors import FatalError, MicrobatchError, RejectedError
from consumer.sinks import Isolated
from consumer.sinks.postgres import catalogue
from consumer.sinks.postgres.block import block, refusals
from consumer.sinks.postgres.catalogue import Relation
from consumer.sinks.postgres.copying import EndedEarlyError, chosen, copy, prepare, unfit
from consumer.sinks.postgres.distinct import distinct
from consumer.sinks.postgres.isolate import Refusals, Tries, isolate
from consumer.sinks.postgres.part import Part
from consumer.sinks.postgres.plan import Plan, Trial, plan, trial
from consumer.sinks.postgres.script import Script, run
from consumer.sinks.postgres.sqlstate import Rules
from consumer.sinks.postgres.staged import Staged
from consumer.sinks.postgres.translation import Translation, line, of_its_line
from consumer.table import Column, Table, TableRows, Target

Connection = psycopg.Connection[Any]
_Kind = tuple[str, tuple[str, ...], tuple[Column | None, ...], bool]
_TRIPS = 10  # so many in the time of a try are few
_SAME_KEY = "21000"
_IMMEDIATE = "set constraints all immediate"


class InTheWayError(Exception):
    """A script does not go as it should: in steps it is seen why, and what is to be done."""


class Tables:
    """Rows are written after the savepoint `microbatch`, which comes after `begin`, and follows what was applied; but
    for `parts`, which no isolation follows in the same transaction.

    `defers`: a refusal came at COMMIT, so that constraints are deferred which the catalogue did not show. What is not
    a refusal is raised as psycopg.Error, or as the instruction that it is.
    """

    def __init__(self, targets: Sequence[Target], rules: Rules, translation: Translation) -> None:
        self._targets = {target.table: target for target in targets}
        self._order = {table: place for place, table in enumerate(self._targets)}
        self._rules, self._translation = rules, translation
        self._relations: dict[str, Relation] = {}
        self._plans: dict[_Kind, Plan] = {}
        self._trials: dict[_Kind, Trial] = {}
        self._known: dict[str, Table] = {}  # as last asked for: what rows are made for
        self._applied = False  # something was written after the savepoint
        self._staged = 0  # rows of this transaction that went into stages
        self._stages: set[str] = set()  # statements that make the stages used since the last transaction began
        self._made: set[str] = set()  # those that were run as this one began
        self._suspect: int | None = None  # see isolate.Tries
        self._convicted: RejectedError | None = None
        self._cause: RejectedError | None = None  # of the last refusal
        self._took = self._trip = 0.0  # seconds of the last try that was refused, and of one round trip
        self._listens = True  # while rows are sent; in vain where the server has other things to say, such as notices
        self.defers = False
        self._opening: list[str] = []

    @property
    def fingerprints(self) -> frozenset[int]:
        """What the last statement of `begin` answers as long as no table has changed."""
        return frozenset().union(*(relation.fingerprints for relation in self._relations.values()))

    def describe(self, connection: Connection, table: str) -> Table:
        """The table as it is now; from now on rows are made for that."""
        self._known.pop(table, None)
        return self._load(connection, table).table

    def look(self, connection: Connection, table: str) -> tuple[Target, Relation]:
        """How the table is written, and as what it is found."""
        return self._targets.get(table, Target(table)), self._load(connection, table)

    def prepare(self, connection: Connection) -> None:
        """Describe the targets, as far as they are not."""
        for table in self._targets:
            if table not in self._relations:
                self._load(connection, table)

    def renew(self, connection: Connection) -> None:
        """Describe all again."""
        for table in list(self._relations):
            self._load(connection, table)

    def forget(self) -> None:
        """The connection is another."""
        self._relations, self._plans, self._trials, self._opening = {}, {}, {}, catalogue.opening([])
        self._stages = set()

    def begin(self) -> list[str]:
        """A transaction begins: with these statements, after its locks. Stages are made that were needed last time."""
        self._applied, self._staged = False, 0
        self._made, self._stages = self._stages, set()
        return [*sorted(self._made), *self._opening]

    def join(self) -> None:
        """Something else was written in the transaction."""
        self._applied = True

    def encode(self, rows: Sequence[TableRows]) -> None:
        """See Sink.prepare: only where the plan is known, for another thread has the connection."""
        first = 0
        for table_rows in self._in_order(rows):
            if plan := self._plans.get(_kind_of(table_rows)):
                plan = plan.each if plan.each and distinct(table_rows, plan.keyed) else plan
                prepare(plan, table_rows, range(first, first + len(table_rows.rows)))
                first += len(table_rows.rows) if plan.numbered else 0

    def apply(self, connection: Connection, rows: Sequence[TableRows]) -> None:
        """See Sink.apply."""
        self._follow(connection)
        try:
            with self.refusals(partial(self._undo, connection)):
                for table_rows in self._in_order(rows):
                    self._write(connection, table_rows)
                if self._checks_late():
                    with self._instructed(connection):
                        run(connection, _IMMEDIATE)
        except EndedEarlyError:
            self.apply(connection, rows)

    def foresees(self, connection: Connection, rows: Sequence[TableRows]) -> bool:
        """Whether there is something to write, and by statements that are known before anything is asked."""
        present = self._in_order(rows)
        if not all(table_rows.table in self._relations for table_rows in present):
            return False
        try:
            return bool(present) and not any(self._plan(connection, table_rows).rounds for table_rows in present)
        except (FatalError, RejectedError):
            return False  # told when it is done in steps

    def parts(self, connection: Connection, rows: Sequence[TableRows]) -> list[Part]:
        """The rows as a script writes them, in order; after `begin`."""
        found = []
        for table_rows in self._in_order(rows):
            plan = self._plan(connection, table_rows)
            quick = chosen(plan, table_rows)
            found.append(self._part(plan if quick.create in self._stages else quick, table_rows))
        return found

    def statements(self, parts: Sequence[Part]) -> list[str]:
        """What such a script needs; `send` hears the answers."""
        late = [_IMMEDIATE] if self._checks_late() else []
        return [*chain.from_iterable(part.statements for part in parts), *late]

    def send(self, connection: Connection, script: Script, parts: Sequence[Part]) -> None:
        """Give the rows to the script. Raises EndedEarlyError, InTheWayError, and what `apply` does."""
        for part in parts:
            self._send(connection, script, part)
        if self._checks_late():
            with self._instructed(connection):
                script.next()

    @contextmanager
    def refusals(self, undo: Callable[[], None]) -> Iterator[None]:
        """What is refused inside is undone, and kept in mind for `isolate`."""
        self._suspect = self._convicted = None
        began = time.perf_counter()
        try:
            yield
        except RejectedError as error:
            self._took = time.perf_counter() - began
            self._cause = RejectedError(error.reason, error.sqlstate, constraint=error.constraint)
            undo()
            self._require_same_type(error)
            raise
        except EndedEarlyError:
            self._listens = False
            undo()
            raise

    def isolate(self, connection: Connection, rows: Sequence[TableRows], patience: int | None) -> Isolated:
        """See Sink.isolate."""
        tries = Tries(
            partial(self._attempt, connection),
            partial(self._unfit, connection),
            partial(self._search, connection),
            lambda: self._suspect,
            lambda: self._convicted,
            partial(self._undo, connection),
            lambda: self._took > _TRIPS * self._trip,
        )
        return isolate(tries, rows, patience)

    def _attempt(self, connection: Connection, rows: Sequence[TableRows]) -> RejectedError | None:
        try:
            self.apply(connection, rows)
        except RejectedError as error:
            return error
        return None

    def _unfit(self, connection: Connection, rows: Sequence[TableRows]) -> Refusals:
        found: Refusals = {}
        for table_rows in self._in_order(rows):
            try:
                plan = self._plan(connection, table_rows)
            except RejectedError as refusal:
                found |= dict.fromkeys(table_rows.ordinals, refusal)
            else:
                places = unfit(plan, table_rows)
                found |= {table_rows.ordinals[place]: places[place] for place in sorted(places, reverse=True)}
        for error in set(found.values()):
            self._require_same_type(error)
        return found

    def _search(
        self, connection: Connection, rows: Sequence[TableRows], records: Sequence[int], patience: int | None
    ) -> Refusals | None:
        present = self._in_order(rows)
        if any(self._relations[group.table].rules and not self._plan(connection, group).stage for group in present):
            return None
        if self._cause and not self._cause.sqlstate:  # before the server had a say: some cannot be staged either
            return None
        self._follow(connection)
        late = [_IMMEDIATE, *self._deferral()] if self._checks_late() else []
        suspect = None if self._suspect is None else bisect_left(records, self._suspect)
        try:
            staged = [self._stage(connection, group, records) for group in present]
            statements = block(staged, len(records), patience, self._rules.of_record(), late, self._cause, suspect)
            answer = run(connection, statements)[-1][0][0][0]
        except (psycopg.Error, RejectedError) as error:
            # The data is refused on its way, or the server lacks what is needed here: other ways may do.
            if isinstance(error, psycopg.Error) and not self._translation.may_go_on(error, connection.closed):
                raise
            self._undo(connection)
            return None
        return {records[number]: error for number, error in refusals(answer, staged).items()}

    def _write(self, connection: Connection, rows: TableRows) -> None:
        part = self._part(self._plan(connection, rows), rows)
        with Script(connection, part.statements) as script:
            self._send(connection, script, part)
        if part.rounds:
            with self._instructed(connection, part):
                count = run(connection, part.rounds)[0][0][0][0]
                run(connection, *chain.from_iterable(map(part.round, range(1, count + 1))))

    def _send(self, connection: Connection, script: Script, part: Part) -> None:
        with self._instructed(connection, part):
            part.send(script, listens=self._listens)

    def _part(self, plan: Plan, rows: TableRows) -> Part:
        first = self._staged
        if plan.stage:
            self._stages.add(plan.create)
        if plan.numbered:
            self._staged += len(rows.rows)
        creates = bool(plan.stage) and plan.create not in self._made
        return Part(plan, rows, range(first, first + len(rows.rows)), creates)

    def _stage(self, connection: Connection, rows: TableRows, records: Sequence[int]) -> Staged:
        """Take the rows in for a block; which of them belong to a record is to be seen by their numbers."""
        found = self._trial(connection, rows)
        sizes = Counter(rows.ordinals)
        width, first = max(sizes.values()), self._staged
        numbers: Sequence[int] = range(first, first + len(records))
        if len(rows.rows) < len(records) or width > 1:
            numbers = [first + n * width + i for n, record in enumerate(records) for i in range(sizes[record])]
        self._staged += len(records) * width
        run(connection, *filter(None, [found.raw.create, found.staged.create]))
        with Script(connection, [found.raw.copy]) as script:
            copy(script, found.raw, rows, numbers)
        return Staged(rows.table, found, first, width)

    def _plan(self, connection: Connection, rows: TableRows) -> Plan:
        kind = _kind_of(rows)
        if kind not in self._plans:
            relation = self._relations.get(rows.table) or self._meet(connection, rows.table)
            self._plans[kind] = plan(relation, self._targets.get(rows.table, Target(rows.table)), rows, kind[-1])
        return self._plans[kind]

    def _trial(self, connection: Connection, rows: TableRows) -> Trial:
        kind, plan = _kind_of(rows), self._plan(connection, rows)
        if kind not in self._trials:
            self._trials[kind] = trial(self._relations[rows.table], plan)
        return self._trials[kind]

    def _meet(self, connection: Connection, table: str) -> Relation:
        """Describe a table in the middle of a transaction, under the lock that keeps it as described."""
        if lock := catalogue.lock([self._load(connection, table)]):
            run(connection, lock)
        return self._load(connection, table)

    def _in_order(self, rows: Sequence[TableRows]) -> list[TableRows]:
        present = [table_rows for table_rows in rows if table_rows.rows]
        return sorted(present, key=lambda table_rows: self._order.get(table_rows.table, len(self._order)))

    def _checks_late(self) -> bool:
        return self.defers or any(relation.deferrable for relation in self._relations.values())

    def _follow(self, connection: Connection) -> None:
        """A savepoint after what was applied already, and constraints as they were before their early check."""
        if self._applied:
            run(connection, "release savepoint microbatch", "savepoint microbatch", *self._deferral())
        self._applied = True

    def _undo(self, connection: Connection) -> None:
        began = time.perf_counter()
        run(connection, "rollback to savepoint microbatch")
        self._trip, self._applied = time.perf_counter() - began, False

    def _deferral(self) -> list[str]:
        """The statement after which constraints wait again as they do at the start of a transaction, if any do."""
        if self.defers:
            return ["set constraints all deferred"]
        deferred = ", ".join(dict.fromkeys(name for relation in self._relations.values() for name in relation.deferred))
        return [f"set constraints {deferred} deferred"] if deferred else []

    def _load(self, connection: Connection, table: str) -> Relation:
        self._relations[table] = relation = catalogue.load(connection, table)
        self._known.setdefault(table, relation.table)
        self._plans = {kind: plan for kind, plan in self._plans.items() if kind[0] != table}
        self._trials = {kind: trial for kind, trial in self._trials.items() if kind[0] != table}
        self._opening = catalogue.opening(list(self._relations.values()))
        return relation

    @contextmanager
    def _instructed(self, connection: Connection, part: Part | None = None) -> Iterator[None]:
        """Errors of a write, as instructions that name its table."""
        try:
            yield
        except RejectedError as error:
            error.table = error.table or (part.plan.table if part else None)
            raise
        except psycopg.Error as error:
            if part and part.plan.stage and not part.plan.numbered and error.sqlstate == _SAME_KEY:
                self._forget_each(part)
                raise InTheWayError from None
            raise self._instruction(error, connection, part) from None

    def _instruction(self, error: psycopg.Error, connection: Connection, part: Part | None) -> MicrobatchError:
        number = line(error)
        if part and number and number <= len(part.rows.rows):
            self._suspect = part.rows.ordinals[number - 1]
        table, columns = (part.plan.table, [c.name for c in part.plan.columns]) if part else (None, [])
        found = self._translation.translate(error, connection.closed, table, columns)
        if part and isinstance(found, RejectedError) and of_its_line(error, self._relations[part.plan.table].acts):
            # Another one: what is raised has all rows in its traceback.
            self._convicted = RejectedError(found.reason, found.sqlstate, found.table, found.column, found.constraint)
        return found

    def _forget_each(self, part: Part) -> None:
        """Keys that differ here are the same to the server, and may be again."""
        kind = _kind_of(part.rows)
        self._plans[kind] = replace(self._plans[kind], each=None)

    def _require_same_type(self, refusal: RejectedError) -> None:
        """Rows are made for the columns as they were described; where those have changed, no row is at fault."""
        table, name = refusal.table or "", refusal.column or ""
        if table in self._known and table in self._relations:
            before, now = self._known[table].columns.get(name), self._relations[table].table.columns.get(name)
            if before and now and before.kind is not now.kind:
                message = f"PostgreSQL: column {name} of table {table} was {before.type_name}, and is {now.type_name}"
                raise FatalError(message, "Start again, so that rows are made for the table as it is now.")


def _kind_of(rows: TableRows) -> _Kind:
    """What all rows of one plan have in common."""
    return rows.table, rows.columns, rows.known, rows.deletes is not None and True in rows.deletes

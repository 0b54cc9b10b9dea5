"""SQLite: rows, dead letters and offsets in one transaction of one file (BEGIN IMMEDIATE, WAL, synchronous=FULL).

One writer at a time has the file, whatever partitions it owns: meant for one process a file. More are safe, and wait
for each other; a claim never ends another's transaction, but is unavailable while that one lasts.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from consumer.errors import (
    FatalError,
    FencedError,
    MicrobatchError,
    RejectedError,
    TopicPartition,
    UnavailableError,
)
from consumer.sinks import Claim, Fence, Isolated, Letters, Position, StoredOffset
from consumer.sinks.isolation import isolate
from consumer.sinks.sqlite import letters
from consumer.sinks.sqlite.check import advice
from consumer.sinks.sqlite.codes import Codes
from consumer.sinks.sqlite.file import connect, identity
from consumer.sinks.sqlite.offsets import OffsetTable
from consumer.sinks.sqlite.schema import breaks_a_key, deferring, describe
from consumer.sinks.sqlite.write import TableWriter
from consumer.sinks.transaction import in_steps
from consumer.table import Table, TableRows, Target

_DRIVER = (sqlite3.Error, OverflowError, UnicodeEncodeError)


class SqliteSink:
    """A Sink into the tables of one existing file; `busy_timeout` is the wait in seconds for another writer to end.

    Foreign keys are enforced. Where one is declared INITIALLY DEFERRED, every `apply` to a table that it concerns
    scans the referring table, because SQLite has no other way to tell before COMMIT. A refusal at COMMIT that this
    does not see (by way of a trigger into a third table) is a FatalError.
    """

    def __init__(
        self,
        path: str,
        targets: Sequence[Target],
        group_id: str,
        owner: str,
        *,
        exactly_once: bool = True,
        busy_timeout: float = 5.0,
        verdicts: Mapping[str, str] | None = None,
    ) -> None:
        """`verdicts`: reject, retry or stop, by SQLite's name of a result code or of a family of them; they go before
        those in `codes`. Raises ConfigError for others.
        """
        self.transactional = exactly_once
        self._path, self._busy_timeout = Path(path).absolute(), busy_timeout
        self._targets = {target.table: target for target in targets}
        self._codes = Codes(verdicts or {})
        self._group, self._offsets = group_id, OffsetTable(group_id, owner)
        self.letters: Letters = letters.SqliteLetters(group_id, self._connected, self._joined, self._transaction)
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._interrupted = threading.Event()
        self._described: dict[str, Table] = {}
        self._writers: dict[tuple[str, tuple[str, ...]], TableWriter] = {}
        self._deferring: dict[str, tuple[str, ...]] = {}
        self._schema_version: int | None = None

    def describe(self, table: str) -> Table:
        """See Sink.describe."""
        with self._connected() as connection:
            self._described[table] = found = describe(connection, table)
        return found

    def claim(self, starts: Mapping[TopicPartition, Position]) -> dict[TopicPartition, Claim]:
        """See Sink.claim."""
        if not self.transactional:
            return {partition: Claim(0, position) for partition, position in starts.items()}
        with self._transaction() as connection:
            return self._offsets.claim(connection, starts)

    def confirm(self, fences: Mapping[TopicPartition, Fence]) -> dict[TopicPartition, Fence]:
        """See Sink.confirm."""
        if not self.transactional:
            return dict(fences)
        with self._transaction() as connection:
            return self._offsets.confirm(connection, fences)

    def begin(self, fences: Mapping[TopicPartition, Fence]) -> None:
        """See Sink.begin. UnavailableError also when the file was replaced: what is open is no longer at its path."""
        with self._connected() as connection:
            if identity(self._path) != self._file:
                raise UnavailableError(f"SQLite: {self._path} was replaced; opening it again")
            self._start(connection)
            fenced = self._offsets.fenced(connection, fences) if self.transactional else set()
            (version,) = connection.execute("pragma schema_version").fetchone()
            if version != self._schema_version:
                self._writers.clear()
                self._deferring.clear()
                self._schema_version = version
        if fenced:
            self.rollback()
            raise FencedError(fenced)

    def prepare(self, rows: Sequence[TableRows]) -> None:
        """See Sink.prepare. Of tables that were written before."""
        for group in rows:
            if (writer := self._writers.get((group.table, group.columns))) is not None:
                with suppress(MicrobatchError, *_DRIVER):  # told by `apply`, which meets it again
                    writer.prepare(group)

    def apply(self, rows: Sequence[TableRows]) -> None:
        """See Sink.apply."""
        with self._joined() as connection:
            self._apply(connection, rows)

    def isolate(self, rows: Sequence[TableRows], patience: int | None = None) -> Isolated:
        """See Sink.isolate."""
        with self._joined() as connection:
            self._require_sound(connection, rows)
            return isolate(rows, partial(self._apply, connection), patience)

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """See Sink.commit."""
        with self._joined() as connection:
            if self.transactional:
                self._offsets.advance(connection, next_offsets)
            try:
                connection.execute("commit")
            except sqlite3.IntegrityError as error:
                hint = "Declare the foreign keys of the tables that its triggers write to as not DEFERRED."
                raise FatalError(f"SQLite: refused at COMMIT: {error}", hint) from None

    def transact(
        self,
        fences: Mapping[TopicPartition, Fence],
        rows: Sequence[TableRows],
        next_offsets: Mapping[TopicPartition, int],
        sent: Callable[[], None],
    ) -> float:
        """See Sink.transact."""
        return in_steps(self, fences, rows, next_offsets, sent)

    def rollback(self) -> None:
        """See Sink.rollback."""
        if self._connection is not None and self._connection.in_transaction:
            try:
                self._connection.execute("rollback")
            except sqlite3.Error:
                self.close()

    def offsets(self) -> dict[TopicPartition, StoredOffset]:
        """See Sink.offsets."""
        with self._connected() as connection:
            return self._offsets.all(connection) if self.transactional else {}

    def reset(self, positions: Mapping[TopicPartition, Position]) -> None:
        """See Sink.reset."""
        if self.transactional:
            with self._transaction() as connection:
                letters.reread(connection, self._group, positions)
                self._offsets.reset(connection, positions)

    def check(self, tables: Collection[str]) -> list[str]:
        """See Sink.check."""
        with self._connected() as connection:
            return advice(connection, self._path, [self._targets.get(name, Target(name)) for name in tables])

    def interrupt(self) -> None:
        """See Sink.interrupt. A wait for another writer lasts on until `busy_timeout`: SQLite looks only after it."""
        self._interrupted.set()
        connection = self._connection
        if connection is not None:
            with suppress(sqlite3.ProgrammingError):  # closed meanwhile
                connection.interrupt()

    def close(self) -> None:
        """See Sink.close."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _apply(self, connection: sqlite3.Connection, rows: Sequence[TableRows]) -> None:
        connection.execute("savepoint microbatch")
        try:
            self._write(connection, rows)
        except RejectedError:
            if not connection.in_transaction:
                hint = "Use ABORT instead of ON CONFLICT ROLLBACK and RAISE(ROLLBACK) in the schema."
                raise FatalError("SQLite: the schema ended the whole transaction", hint) from None
            connection.execute("rollback to microbatch")
            connection.execute("release microbatch")
            raise
        connection.execute("release microbatch")

    def _write(self, connection: sqlite3.Connection, rows: Sequence[TableRows]) -> None:
        for group in rows:
            try:
                self._writer(connection, group).write(connection, group)
            except RejectedError as refusal:
                refusal.table = refusal.table or group.table
                raise
            except _DRIVER as error:
                raise self._codes.classify(error, group.table) from None
        for table in self._deferring_to_commit(connection, {group.table for group in rows}):
            if breaks_a_key(connection, table):
                raise RejectedError("FOREIGN KEY constraint failed", "SQLITE_CONSTRAINT_FOREIGNKEY", table)

    def _writer(self, connection: sqlite3.Connection, rows: TableRows) -> TableWriter:
        key = (rows.table, rows.columns)
        if key not in self._writers:
            table = describe(connection, rows.table)
            before = self._described.setdefault(rows.table, table).columns
            for name in rows.columns:
                if name in before and name in table.columns and before[name].kind is not table.columns[name].kind:
                    hint = "Start again: rows are made for the columns that the table had at the start."
                    raise FatalError(f"SQLite: table {rows.table}: the type of column {name} has changed", hint)
            self._writers[key] = TableWriter(table, self._targets.get(rows.table, Target(rows.table)), rows.columns)
        return self._writers[key]

    def _deferring_to_commit(self, connection: sqlite3.Connection, tables: set[str]) -> set[str]:
        for table in tables - self._deferring.keys():
            self._deferring[table] = deferring(connection, table)
        return {referring for table in tables for referring in self._deferring[table]}

    def _require_sound(self, connection: sqlite3.Connection, rows: Sequence[TableRows]) -> None:
        for table in self._deferring_to_commit(connection, {group.table for group in rows}):
            if breaks_a_key(connection, table):  # before any of these rows, none of which is at fault then
                hint = f"Mend them (`pragma foreign_key_check({table})` lists them): nothing gets in until then."
                raise FatalError(f"SQLite: rows of {table} refer to rows that are not there", hint)

    @contextmanager
    def _joined(self) -> Iterator[sqlite3.Connection]:
        """The connection in the open transaction."""
        with self._connected() as connection:
            # SQLite ends it by itself when the disk is full or fails (https://sqlite.org/lang_transaction.html): what
            # came after would be committed statement by statement.
            if not connection.in_transaction:
                raise UnavailableError("SQLite: the transaction has ended; begin again")
            yield connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction of its own, committed at the end."""
        with self._connected() as connection:
            self._start(connection)
            yield connection
            connection.execute("commit")

    def _start(self, connection: sqlite3.Connection) -> None:
        # Not deferred: a transaction that turns from reading to writing gets SQLITE_BUSY at once, without the wait.
        connection.execute("begin immediate")
        if self.transactional:
            self._offsets.create(connection)
            letters.create(connection)

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """The connection, opened if need be. Errors of the driver come out translated, and end the transaction."""
        try:
            if self._interrupted.is_set():
                self._interrupted.clear()
                self.close()
            if self._connection is None:
                self._file, self._connection = identity(self._path), connect(self._path, self._busy_timeout)
            yield self._connection
        except (UnavailableError, FatalError, *_DRIVER) as error:
            failure = self._instruction(error) if isinstance(error, _DRIVER) else error
            if isinstance(failure, UnavailableError):
                self.close()
            else:
                self.rollback()
            raise failure from None

    def _instruction(self, error: Exception) -> MicrobatchError:
        """What an error of a statement that writes no rows asks for: never a rejection."""
        found = self._codes.classify(error)
        if not isinstance(found, RejectedError):
            return found
        hint = "Look for triggers on microbatch's own tables."
        return FatalError(f"SQLite refused one of microbatch's own statements: {found.reason}", hint)

"""Small real implementations of the protocols, in memory; they pass the same contract suites as the real things."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from consumer.dlq.choosing import fits
from consumer.errors import FatalError, FencedError, RejectedError, TopicPartition, UnavailableError
from consumer.letter import OPEN, Coordinates, DeadLetter, Evidence, State
from consumer.outbox import Receipt
from consumer.sinks import PENDING_BYTES, Claim, Fence, Isolated, Letters, Position, Selection, StoredOffset, Tally
from consumer.sinks.conversion import checked
from consumer.sinks.isolation import isolate
from consumer.sinks.transaction import in_steps
from consumer.table import Column, Mode, Table, TableRows, Target

Row = dict[str, Any]


class MemoryTable:
    """Rows under the constraints of `description` and `check`; `defaults` are for the columns that have one."""

    def __init__(
        self,
        description: Table,
        defaults: Mapping[str, Any] | None = None,
        check: Callable[[Row], bool] = lambda _: True,
    ) -> None:
        self.description, self.check = description, check
        self.defaults: Row = {name: None for name in description.columns} | dict(defaults or {})
        self.rows: dict[int, Row] = {}
        self.indexes: dict[tuple[str, ...], dict[tuple[Any, ...], int]] = {key: {} for key in description.keys}
        self._serial = 0

    def find(self, key: tuple[str, ...], row: Row) -> int | None:
        """The number of the row with the same key."""
        index = next(index for names, index in self.indexes.items() if set(names) == set(key))
        names = next(names for names in self.indexes if set(names) == set(key))
        return index.get(tuple(row[name] for name in names))

    def insert(self, row: Row) -> int:
        """Returns the number of the row. Raises RejectedError."""
        self._serial += 1
        self.put(self._serial, self.defaults | row)
        return self._serial

    def put(self, number: int, row: Row | None) -> Row | None:
        """The row of that number becomes this one, or goes. Returns what it was. Raises RejectedError."""
        before = self.rows.get(number)
        if row is not None:
            self._refuse(number, row)
        for names, index in self.indexes.items():
            if before is not None:
                index.pop(tuple(before[name] for name in names), None)
            if row is not None and all(row[name] is not None for name in names):
                index[tuple(row[name] for name in names)] = number
        if row is None:
            self.rows.pop(number, None)
        else:
            self.rows[number] = row
        return before

    def _refuse(self, number: int, row: Row) -> None:
        name = self.description.name
        for column in self.description.columns.values():
            if row[column.name] is None and not column.nullable:
                raise RejectedError("null in a column that forbids it", "23502", name, column.name)
        if not self.check(row):
            raise RejectedError("check failed", "23514", name)
        for names, index in self.indexes.items():
            if index.get(tuple(row[key] for key in names), number) != number:
                raise RejectedError(f"not unique: {', '.join(names)}", "23505", name)


@dataclass
class _Transaction:
    fences: Mapping[TopicPartition, Fence]
    group_id: str
    undo: list[tuple[MemoryTable, int, Row | None]] = field(default_factory=list)
    letters: dict[Coordinates, DeadLetter] = field(default_factory=dict)

    def back(self, length: int) -> None:
        while len(self.undo) > length:
            table, number, row = self.undo.pop()
            table.put(number, row)


class MemoryDatabase:
    """Shared by the sinks of several instances, in one thread or many. One transaction at a time.

    A claim or reset ends the open transaction that holds its partitions. `online` False: nobody is answered.
    """

    def __init__(self, *tables: MemoryTable, busy_timeout: float = 2.0) -> None:
        self.tables = {table.description.name: table for table in tables}
        self.offsets: dict[tuple[str, str, int], StoredOffset] = {}
        self.letters: dict[str, dict[Coordinates, DeadLetter]] = {}
        self.online = True
        self.busy_timeout = busy_timeout
        self.changed = threading.Condition(threading.RLock())
        self.transaction: _Transaction | None = None

    def rows(self, table: str) -> list[Row]:
        """What is committed."""
        with self.changed:
            rows = dict(self.tables[table].rows)
            for changed, number, before in reversed(self.transaction.undo if self.transaction else []):
                if changed is self.tables[table]:
                    rows[number] = before  # type: ignore[assignment]
            return [dict(row) for _, row in sorted(rows.items()) if row is not None]

    def clear(self) -> None:
        """Empty, without offsets and transactions."""
        with self.changed:
            self.end()
            self.offsets.clear()
            self.letters.clear()
            for name, table in self.tables.items():
                self.tables[name] = MemoryTable(table.description, table.defaults, table.check)

    def end(self) -> None:
        """End the open transaction, whosever it is, without a trace."""
        if self.transaction is not None:
            self.transaction.back(0)
            self.transaction = None
            self.changed.notify_all()


class MemorySink:
    """A Sink into a MemoryDatabase."""

    def __init__(
        self,
        database: MemoryDatabase,
        targets: Sequence[Target],
        group_id: str,
        owner: str,
        *,
        exactly_once: bool = True,
    ) -> None:
        self.transactional = exactly_once
        self._database, self._group, self._owner = database, group_id, owner
        self._targets = {target.table: target for target in targets}
        self._transaction: _Transaction | None = None
        self._interrupted = threading.Event()
        self.letters: Letters = MemoryLetters(self, database, group_id)

    def describe(self, table: str) -> Table:
        """See Sink.describe."""
        with self._connected():
            return self._table(table).description

    def claim(self, starts: Mapping[TopicPartition, Position]) -> dict[TopicPartition, Claim]:
        """See Sink.claim."""
        if not self.transactional:
            return {key: Claim(0, position) for key, position in starts.items()}
        with self._connected():
            stored = {key: self._stored(key) for key in starts}
            positions = {key: row.position if row else starts[key] for key, row in stored.items()}
            return {key: Claim(self._raise(key, position), position) for key, position in positions.items()}

    def confirm(self, fences: Mapping[TopicPartition, Fence]) -> dict[TopicPartition, Fence]:
        """See Sink.confirm."""
        if not self.transactional:
            return dict(fences)
        with self._connected():
            stored = {key: self._stored(key) for key in fences}
            ours = {key: row.position for key, row in stored.items() if row and row.epoch == fences[key].epoch}
            self._end_holders(ours)
            return {key: Fence(fences[key].epoch, position.next_offset) for key, position in ours.items()}

    def begin(self, fences: Mapping[TopicPartition, Fence]) -> None:
        """See Sink.begin."""
        with self._connected() as database:
            free = database.changed.wait_for(
                lambda: database.transaction is None or self._interrupted.is_set(), database.busy_timeout
            )
            if not free or self._interrupted.is_set():
                self._interrupted.clear()
                raise UnavailableError("memory: another transaction is open")
            if self.transactional and (fenced := [key for key, fence in fences.items() if not self._holds(key, fence)]):
                raise FencedError(fenced)
            self._transaction = database.transaction = _Transaction(fences if self.transactional else {}, self._group)

    def prepare(self, rows: Sequence[TableRows]) -> None:
        """See Sink.prepare: there is nothing to do."""

    def apply(self, rows: Sequence[TableRows]) -> None:
        """See Sink.apply."""
        with self._connected():
            transaction = self._open()
            before = len(transaction.undo)
            for group in rows:
                try:
                    _Write(
                        self._table(group.table), self._targets.get(group.table, Target(group.table)), transaction
                    ).all(group)
                except RejectedError as refusal:
                    transaction.back(before)
                    refusal.table = group.table
                    raise

    def isolate(self, rows: Sequence[TableRows], patience: int | None = None) -> Isolated:
        """See Sink.isolate."""
        return isolate(rows, self.apply, patience)

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """See Sink.commit."""
        with self._connected() as database:
            transaction = self._open()
            for key, next_offset in next_offsets.items() if self.transactional else ():
                row = self._stored(key)
                assert row is not None
                assert next_offset >= row.position.next_offset, "offsets move forward"
                database.offsets[self._group, *key] = replace(
                    row, position=replace(row.position, next_offset=next_offset)
                )
            database.letters.setdefault(self._group, {}).update(transaction.letters)
            transaction.undo.clear()
            database.end()
            self._transaction = None

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
        with self._database.changed:
            if self._transaction is not None and self._transaction is self._database.transaction:
                self._database.end()
            self._transaction = None

    def offsets(self) -> dict[TopicPartition, StoredOffset]:
        """See Sink.offsets."""
        with self._connected() as database:
            return {
                (topic, part): row for (group, topic, part), row in database.offsets.items() if group == self._group
            }

    def reset(self, positions: Mapping[TopicPartition, Position]) -> None:
        """See Sink.reset."""
        with self._connected():
            self.letters.reread(positions)
            for key, position in positions.items():
                self._raise(key, position)

    def check(self, tables: Collection[str]) -> list[str]:
        """See Sink.check."""
        with self._connected() as database:
            found = [f"Table {name} is not there: create it." for name in tables if name not in database.tables]
            for target in (self._targets[name] for name in tables if name in database.tables and name in self._targets):
                keys = self._table(target.table).description.keys
                if target.mode is not Mode.INSERT and set(_key(target, keys)) not in map(set, keys):
                    found.append(f"Table {target.table}: its key is not unique: create a unique index.")
            return found

    def interrupt(self) -> None:
        """See Sink.interrupt."""
        self._interrupted.set()
        with self._database.changed:
            self._database.changed.notify_all()

    def close(self) -> None:
        """See Sink.close."""
        self.rollback()

    @contextmanager
    def _connected(self) -> Iterator[MemoryDatabase]:
        with self._database.changed:
            if self._interrupted.is_set():
                self._interrupted.clear()
                self.rollback()
            try:
                if not self._database.online:
                    raise UnavailableError("memory: the database is down")
                yield self._database
            except (UnavailableError, FatalError):
                self.rollback()
                raise

    def _open(self) -> _Transaction:
        if self._transaction is None or self._transaction is not self._database.transaction:
            raise UnavailableError("memory: the transaction has ended")
        return self._transaction

    def _table(self, name: str) -> MemoryTable:
        if name not in self._database.tables:
            raise FatalError(f"memory: there is no table {name}", "Create it.")
        return self._database.tables[name]

    def _stored(self, key: TopicPartition) -> StoredOffset | None:
        return self._database.offsets.get((self._group, *key))

    def _holds(self, key: TopicPartition, fence: Fence) -> bool:
        row = self._stored(key)
        return row is not None and Fence(row.epoch, row.position.next_offset) == fence

    def _end_holders(self, keys: Collection[TopicPartition]) -> None:
        holder = self._database.transaction
        if holder is not None and holder.group_id == self._group and not holder.fences.keys().isdisjoint(keys):
            self._database.end()

    def _raise(self, key: TopicPartition, position: Position) -> int:
        """Store the position under a new epoch, and end the transaction that holds the partition."""
        self._end_holders([key])
        row = self._stored(key)
        epoch = row.epoch + 1 if row else 1
        self._database.offsets[self._group, *key] = StoredOffset(position, epoch, self._owner, "2000-01-01T00:00:00Z")
        return epoch


class MemoryLetters:
    """The Letters of a MemorySink."""

    def __init__(self, sink: MemorySink, database: MemoryDatabase, group_id: str) -> None:
        self._sink, self._database, self._group = sink, database, group_id

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """See Letters.keep."""
        with self._sink._connected():
            self._sink._open().letters.update({letter.coordinates: letter for letter in letters})

    def lock(self, coordinates: Collection[Coordinates]) -> set[Coordinates]:
        """See Letters.lock."""
        with self._sink._connected():
            self._sink._open()
            return {key for key in coordinates if key in self._stored() and self._stored()[key].state in OPEN}

    def settle(self, replayed: Collection[Coordinates], failed: Mapping[Coordinates, Evidence]) -> None:
        """See Letters.settle."""
        with self._sink._connected():
            changed = self._sink._open().letters
            for key in self.lock([*replayed, *failed]):
                old = self._stored()[key]
                state, evidence = (old.state, failed[key]) if key in failed else (State.REPLAYED, old.evidence)
                changed[key] = replace(old, state=state, evidence=evidence, replay_count=old.replay_count + 1)

    def pending(self, partitions: Collection[TopicPartition], most: int, size: int = PENDING_BYTES) -> list[DeadLetter]:
        """See Letters.pending."""
        with self._sink._connected():
            found, total = [], 0
            for one in self._pending(partitions)[:most]:
                if total <= size:
                    found.append(one)
                total += len(one.key or b"") + len(one.value or b"")
            return found

    def count_pending(self, partitions: Collection[TopicPartition]) -> int:
        """See Letters.count_pending."""
        with self._sink._connected():
            return len(self._pending(partitions))

    def published(self, coordinates: Collection[Coordinates], *, empty: bool = False) -> None:
        """See Letters.published."""
        with self._sink._connected():
            for key in coordinates:
                if (old := self._stored().get(key)) and old.state is State.PENDING:
                    payload = (None, None, None) if empty else (old.key, old.value, old.headers)
                    names = dict(zip(("key", "value", "headers"), payload, strict=True))
                    self._stored()[key] = replace(old, state=State.PUBLISHED, **names)  # type: ignore[arg-type]

    def select(self, which: Selection, most: int, after: Coordinates | None = None) -> list[DeadLetter]:
        """See Letters.select."""
        with self._sink._connected():
            found = [one for key, one in sorted(self._stored().items()) if after is None or key > after]
            return [one for one in found if fits(which, one)][:most]

    def tally(self, which: Selection) -> list[Tally]:
        """See Letters.tally."""
        groups: dict[tuple[Any, ...], list[DeadLetter]] = {}
        for one in self.select(which, len(self._stored())):
            told = one.evidence
            kind = (one.topic, one.state, told.stage, told.error, told.sqlstate, told.table, told.constraint)
            groups.setdefault(kind, []).append(one)
        tallies = [
            Tally(len(ones), *kind, min(o.first_failed_at for o in ones), max(o.first_failed_at for o in ones))
            for kind, ones in groups.items()
        ]
        return sorted(tallies, key=lambda tally: -tally.count)

    def discard(self, which: Selection) -> int:
        """See Letters.discard."""
        found = [one for one in self.select(which, len(self._stored())) if one.state in OPEN]
        with self._sink._connected():
            self._stored().update({one.coordinates: replace(one, state=State.DISCARDED) for one in found})
        return len(found)

    def reread(self, positions: Mapping[TopicPartition, Position]) -> None:
        """See Sink.reset: discard what is read again."""
        for key, one in self._stored().items():
            position, offset = positions.get(key[:2]), self._database.offsets.get((self._group, *key[:2]))
            again = position and offset and position.topic_id == offset.position.topic_id
            if again and position and one.offset >= position.next_offset and one.state in OPEN:
                self._stored()[key] = replace(one, state=State.DISCARDED)

    def _pending(self, partitions: Collection[TopicPartition]) -> list[DeadLetter]:
        found = [one for _, one in sorted(self._stored().items()) if one.state is State.PENDING]
        return [one for one in found if (one.topic, one.partition) in partitions]

    def _stored(self) -> dict[Coordinates, DeadLetter]:
        return self._database.letters.setdefault(self._group, {})


@dataclass
class MemoryTopics:
    """Where dead letters go; shared by the outboxes of several instances. `online` False: nobody is answered."""

    letters: list[DeadLetter] = field(default_factory=list)
    online: bool = True
    refuses: str = ""


class MemoryOutbox:
    """An Outbox into MemoryTopics: a letter arrives when its receipt is asked for."""

    def __init__(self, topics: MemoryTopics) -> None:
        self._topics = topics
        self._sent: dict[Coordinates, DeadLetter] = {}

    def send(self, letters: Sequence[DeadLetter]) -> None:
        """See Outbox.send."""
        for letter in letters:
            self._sent.setdefault(letter.coordinates, letter)

    def receipts(self) -> list[Receipt]:
        """See Outbox.receipts."""
        if not self._topics.online:
            return []
        sent, self._sent = self._sent, {}
        if self._topics.refuses:
            return [Receipt(key, self._topics.refuses) for key in sent]
        self._topics.letters += sent.values()
        return [Receipt(key) for key in sent]

    @property
    def in_flight(self) -> int:
        """See Outbox.in_flight."""
        return len(self._sent)

    def wait(self, seconds: float) -> None:
        """See Outbox.wait. Here nothing arrives by waiting."""

    def close(self) -> None:
        """See Outbox.close."""
        self._sent.clear()


def _key(target: Target, keys: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    return target.key or next(iter(keys), ())


class _Write:
    """What an apply does to one table."""

    def __init__(self, table: MemoryTable, target: Target, transaction: _Transaction) -> None:
        self._table, self._target, self._transaction = table, target, transaction
        self._key = _key(target, table.description.keys)
        self._deciding = (*self._key, *filter(None, [target.version]))

    def all(self, group: TableRows) -> None:
        deletes = [True] * len(group.rows) if self._target.mode is Mode.DELETE else group.deletes or []
        if unknown := set(group.columns) - self._table.description.columns.keys():
            raise FatalError(f"memory: there is no column {sorted(unknown)[0]}", "Correct the configuration.")
        run: list[Row] = []
        for place, values in enumerate(group.rows):
            row = dict(zip(group.columns, values, strict=True))
            if deletes and deletes[place]:
                self._put(run)
                run = []
                self._delete(self._checked({name: row[name] for name in self._deciding if name in row}))
            else:
                run.append(self._checked(row))
        self._put(run)

    def _checked(self, row: Row) -> Row:
        columns = self._table.description.columns
        return {name: self._value(columns[name], value) for name, value in row.items()}

    def _value(self, column: Column, value: Any) -> Any:
        return checked(column, [value])[0]

    def _require(self, row: Row, names: Collection[str]) -> None:
        for name in names:
            if row.get(name) is None:
                raise RejectedError(f"column {name} is missing or null", "23502", self._table.description.name, name)

    def _put(self, run: list[Row]) -> None:
        if self._target.mode is Mode.INSERT:
            for row in run:
                self._set(None, row)
            return
        if self._target.mode is Mode.INCREMENT:
            run = self._folded(run)
        for row in run:
            self._require(row, self._deciding)
            number = self._table.find(self._key, row)
            old = self._table.rows[number] if number is not None else None
            if old is not None and self._target.mode is Mode.INCREMENT:
                self._set(number, old | self._sum(old, row))
            elif old is None or not self._newer(old, row):
                self._set(number, (old or {}) | row)

    def _folded(self, run: list[Row]) -> list[Row]:
        folded: dict[tuple[Any, ...], Row] = {}
        for row in run:
            self._require(row, [*self._deciding, *(name for name in self._target.add if name in row)])
            key = tuple(row[name] for name in self._key)
            folded[key] = self._sum(folded[key], row) if key in folded else row
        return list(folded.values())

    def _sum(self, old: Row, row: Row) -> Row:
        sums = {name: (old[name] or 0) + row[name] for name in self._target.add if name in row}
        return row | self._checked(sums)

    def _delete(self, row: Row) -> None:
        self._require(row, self._deciding)
        number = self._table.find(self._key, row)
        if number is not None and not self._newer(self._table.rows[number], row):
            self._set(number, None)

    def _newer(self, old: Row, row: Row) -> bool:
        version = self._target.version
        return version is not None and old[version] is not None and old[version] > row[version]

    def _set(self, number: int | None, row: Row | None) -> None:
        if number is None:
            assert row is not None
            self._transaction.undo.append((self._table, self._table.insert(row), None))
        else:
            self._transaction.undo.append((self._table, number, self._table.put(number, row)))

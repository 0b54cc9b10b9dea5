"""Rows of one table and one set of columns into SQLite, as the table's target says."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice, repeat
from typing import Any

from consumer.errors import FatalError, RejectedError
from consumer.sinks.sqlite.statements import Statements, key_of
from consumer.sinks.sqlite.storage import bind
from consumer.table import Kind, Mode, Table, TableRows, Target

Row = Sequence[Any]
# Rows of one INSERT: as many as there are of these, and no more than it may have parameters. [M] From 32 on they take
# two thirds of the time of one by one. More still, because sqlite3 gives the interpreter away for each statement, and
# who else wants it then has it for 5 ms.
_TOGETHER = (2500, 250, 25, 1)


def faults(table: Table, target: Target) -> list[str]:
    """What makes this target impossible: one clause each, with what to do."""
    if target.mode is Mode.INSERT:
        return []
    key = key_of(table, target)
    named = {*key, *target.add, *filter(None, [target.version])}
    found = [f"there is no column {name}: correct the configuration" for name in sorted(named - table.columns.keys())]
    if not key:
        found.append(f"mode {target.mode} needs a primary key, or `key` naming columns that are unique together")
    elif set(key) not in map(set, table.keys):
        found.append(f"its key ({', '.join(key)}) is not unique: create a unique index over exactly these columns")
    if target.mode is Mode.INCREMENT and not target.add:
        found.append("mode increment needs `add`: the columns that are added up")
    for column in (table.columns[name] for name in target.add if name in table.columns):
        if column.kind not in {Kind.INTEGER, Kind.FLOAT}:
            what = f"column {column.name} ({column.type_name}) cannot be added up without loss"
            found.append(f"{what}: make it an INTEGER (of the smallest unit) or a REAL")
    return found


@dataclass(frozen=True, slots=True)
class Bound:
    """The values of rows, one row after the other, as the writer `by` writes them."""

    by: TableWriter
    values: list[Any]


class TableWriter:
    """Writes rows that have these columns. Raises FatalError when the table or its target cannot have them."""

    def __init__(self, table: Table, target: Target, columns: tuple[str, ...]) -> None:
        found = faults(table, target)
        found += [f"there is no column {name}" for name in columns if name not in table.columns]
        if found:
            raise FatalError(f"SQLite: table {table.name}: {found[0]}", "Correct the table or the configuration.")
        self._target, self._table, self._names = target, table.name, columns
        self._columns = [table.columns[name] for name in columns]
        self._key = key_of(table, target)
        self._sql = Statements(table, target, columns)

    def prepare(self, rows: TableRows) -> None:
        """Make what `write` needs of the rows now, so that it need not. Raises what it would."""
        if self._target.mode is not Mode.DELETE and rows.deletes is None:
            rows.prepared = Bound(self, self._kept(rows))

    def write(self, connection: sqlite3.Connection, rows: TableRows) -> None:
        """All of the rows, in order. Raises RejectedError, and what sqlite3 raises."""
        if self._target.mode is Mode.DELETE:
            self._delete(connection, self._doomed(rows.rows))
        elif rows.deletes is None:
            if not (isinstance(rows.prepared, Bound) and rows.prepared.by is self):
                self.prepare(rows)
            self._put(connection, rows.prepared.values, len(rows.rows))
        else:
            self._write_runs(connection, rows, rows.deletes)

    def _write_runs(self, connection: sqlite3.Connection, rows: TableRows, deletes: list[bool]) -> None:
        pairs = list(zip(rows.rows, deletes, strict=True))
        width = len(self._names)
        kept = self._kept(replace(rows, rows=[row for row, delete in pairs if not delete], vectors=(), known=()))
        doomed = iter(self._doomed([row for row, delete in pairs if delete]))
        done = 0
        for deleting, run in groupby(deletes):
            count = sum(1 for _ in run)
            if deleting:
                self._delete(connection, islice(doomed, count))
            else:
                self._put(connection, kept[done * width : (done + count) * width], count)
                done += count

    def _kept(self, rows: TableRows) -> list[Any]:
        """The values of rows to insert or change, as SQLite stores them."""
        if self._target.mode is not Mode.INSERT:
            self._require(rows.rows, (*self._deciding(), *(n for n in self._target.add if n in self._names)))
        return bind(self._columns, rows.rows, rows.known, rows.vectors)

    def _doomed(self, rows: Sequence[Row]) -> Iterable[Row]:
        """What finds the rows to delete: their key, and the version that they must not be newer than."""
        self._require(rows, self._deciding())
        places = [self._names.index(name) for name in self._deciding()] if rows else []
        values = bind([self._columns[i] for i in places], [tuple(row[i] for i in places) for row in rows])
        return _by_row(values, len(places))

    def _deciding(self) -> tuple[str, ...]:
        return self._key if self._target.version is None else (*self._key, self._target.version)

    def _require(self, rows: Sequence[Row], names: Iterable[str]) -> None:
        for name in names if rows else ():
            place = self._names.index(name) if name in self._names else None
            if place is None or any(row[place] is None for row in rows):
                reason = f"column {name} is missing or null, and decides what becomes of the row"
                raise RejectedError(reason, None, self._table, name)

    def _delete(self, connection: sqlite3.Connection, keys: Iterable[Row]) -> None:
        self._run(connection, self._sql.delete, keys)

    def _put(self, connection: sqlite3.Connection, values: list[Any], count: int) -> None:
        if self._target.mode is Mode.INCREMENT:
            self._add(connection, self._folded(_by_row(values, len(self._names))))
        elif self._names:
            self._insert(connection, values)
        else:
            self._run(connection, self._sql.put(1), repeat((), count))

    def _insert(self, connection: sqlite3.Connection, values: list[Any]) -> None:
        width, at = len(self._names), 0
        allowed = connection.getlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER) // width
        for most in _TOGETHER:
            together = max(1, min(most, allowed))
            step = together * width
            end = len(values) - (len(values) - at) % step
            if end > at:
                self._run(connection, self._sql.put(together), (values[i : i + step] for i in range(at, end, step)))
                at = end

    def _folded(self, rows: Iterable[Row]) -> list[Row]:
        """One row a key: numbers summed, of all else the last. The batch is taken by its net effect."""
        places = [self._names.index(name) for name in self._key]
        added = [self._names.index(name) for name in self._target.add if name in self._names]
        folded: dict[Row, Row] = {}
        for row in rows:
            key = tuple(row[place] for place in places)
            if (before := folded.get(key)) is not None:
                total = list(row)
                for place in added:
                    total[place] += before[place]
                folded[key] = total
            else:
                folded[key] = row
        return list(folded.values())

    def _add(self, connection: sqlite3.Connection, rows: list[Row]) -> None:
        """Update, then insert what is missing: ON CONFLICT would test a CHECK on the increment alone, and refuse it."""
        done = self._run(connection, self._sql.add, rows) if rows else 0
        if done < len(rows):
            done += self._run(connection, self._sql.start, rows)
        if done < len(rows):
            raise RejectedError("a sum is outside the range of its column", None, self._table)

    def _run(self, connection: sqlite3.Connection, sql: str, rows: Iterable[Row]) -> int:
        try:
            return connection.executemany(sql, rows).rowcount
        except sqlite3.OperationalError as error:
            # The same code for a table that is not there and for an expression that chokes on a value.
            if error.sqlite_errorcode != sqlite3.SQLITE_ERROR or not _compiles(connection, sql):
                raise
            reason = "an expression of the table (CHECK, generated column or trigger) failed on the row"
            raise RejectedError(reason, "SQLITE_ERROR", self._table) from None


def _by_row(values: list[Any], width: int) -> Iterator[Row]:
    return zip(*[iter(values)] * width, strict=True)


def _compiles(connection: sqlite3.Connection, sql: str) -> bool:
    try:
        connection.execute(f"explain {sql}")
    except sqlite3.ProgrammingError:  # compiled, and then the parameters were missed
        return True
    except sqlite3.Error:
        return False
    return True

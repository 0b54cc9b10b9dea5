"""The SQL of one table, its target and one set of columns.

Parameters are numbered: the value of a row's i-th column is ?i+1 in all statements but `delete`, so that one tuple
serves them all. Names are always quoted; values are never part of the text.
"""

# ruff: noqa: S608

from __future__ import annotations

from dataclasses import dataclass

from consumer.table import Kind, Mode, Table, Target

_TYPE_OF = {Kind.INTEGER: "integer", Kind.FLOAT: "real"}


def quoted(name: str) -> str:
    """The name as an SQL identifier, whatever it holds."""
    return '"' + name.replace('"', '""') + '"'


def key_of(table: Table, target: Target) -> tuple[str, ...]:
    """The columns by which the target finds a row; empty if it has none."""
    return target.key or next(iter(table.keys), ())


@dataclass(frozen=True)
class Statements:
    """Built as asked for: what a mode does not need may be impossible to write."""

    table: Table
    target: Target
    columns: tuple[str, ...]

    def put(self, rows: int) -> str:
        """Insert so many rows, or change those whose key is there already if the target says upsert."""
        if not self.columns:
            return f"insert into {quoted(self.table.name)} default values"
        row = f"({', '.join('?' * len(self.columns))})"
        return f"{self._into()} values {', '.join([row] * rows)}{self._on_conflict()}"

    @property
    def delete(self) -> str:
        """Delete by key; the parameters are the key and, if the target has one, the version."""
        found = " and ".join(f"{quoted(name)} = ?{place}" for place, name in enumerate(self._key(), 1))
        if self.target.version is None:
            return f"delete from {quoted(self.table.name)} where {found}"
        version = quoted(self.target.version)
        newer = f"{version} > ?{len(self._key()) + 1}"
        return f"delete from {quoted(self.table.name)} where {found} and ({newer}) is not true"

    @property
    def add(self) -> str:
        """Add to the row of that key, if it is there and the sums can be held."""
        at, sums = self._parameters(), self._sums()
        changed = [name for name in self.columns if name not in self._key()] or self._key()
        values = ", ".join(f"{quoted(name)} = {sums.get(name, at[name])}" for name in changed)
        # A sum beyond 64 bits would silently become a real, infinity less infinity NULL.
        held = "".join(f" and {self._typed(name, total)}" for name, total in sums.items())
        return f"update {quoted(self.table.name)} set {values} where {self._found()}{held}"

    @property
    def start(self) -> str:
        """Insert the row, if its key is not there."""
        at = self._parameters()
        held = "".join(f" and {self._typed(name, at[name])}" for name in self._sums())
        absent = f"not exists (select 1 from {quoted(self.table.name)} where {self._found()})"
        return f"{self._into()} select {', '.join(at.values())} where {absent}{held}"

    def _into(self) -> str:
        return f"insert into {quoted(self.table.name)} as stored ({', '.join(map(quoted, self.columns))})"

    def _on_conflict(self) -> str:
        if self.target.mode is not Mode.UPSERT:
            return ""
        key = self._key()
        changed = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in self.columns if name not in key)
        conflict = f" on conflict ({', '.join(map(quoted, key))}) do "
        if not changed:
            return conflict + "nothing"
        if self.target.version is None:
            return f"{conflict}update set {changed}"
        version = quoted(self.target.version)
        return f"{conflict}update set {changed} where (stored.{version} > excluded.{version}) is not true"

    def _key(self) -> tuple[str, ...]:
        return key_of(self.table, self.target)

    def _parameters(self) -> dict[str, str]:
        return {name: f"?{place}" for place, name in enumerate(self.columns, 1)}

    def _found(self) -> str:
        return " and ".join(f"{quoted(name)} = {self._parameters()[name]}" for name in self._key())

    def _sums(self) -> dict[str, str]:
        at = self._parameters()
        return {name: f"coalesce({quoted(name)}, 0) + {at[name]}" for name in self.target.add if name in at}

    def _typed(self, name: str, value: str) -> str:
        return f"typeof({value}) = '{_TYPE_OF[self.table.columns[name].kind]}'"

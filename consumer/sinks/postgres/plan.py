"""How rows of one table are written: COPY into it, or into a stage whose rows are then folded into it by key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from psycopg import sql

from consumer.errors import FatalError, RejectedError
from consumer.sinks.conversion import checked
from consumer.sinks.postgres.catalogue import Relation
from consumer.sinks.postgres.merge import DELETE, ROW, Merge, listed
from consumer.sinks.postgres.shape import Shape
from consumer.table import Column, Mode, Target

_HINT = "Make sink.tables and the table agree; `microbatch check` shows what differs."
_INT4, _BOOLEAN = 23, 16


@dataclass(frozen=True, slots=True)
class Plan:
    """How rows of one table with these columns are written.

    `copy` takes them, each with its type in `wire`. Without a stage that is all. With one, `create` makes it, rows are
    preceded by their number and whether they delete, and `merges` are run on those from a given number on; where
    `rounds` is given, for one round after the other. `needed`: key and version, which are never null. `deletes`: all
    rows do, whatever they say.
    """

    table: str
    columns: tuple[Column, ...]
    shape: Shape
    needed: frozenset[str]
    wire: tuple[int, ...]
    copy: str
    create: str = ""
    stage: str = ""
    merges: tuple[str, ...] = ()
    deletes: bool = False
    rounds: str = ""

    def count(self, first: int) -> str:
        """The statement that says how many rounds there are."""
        return f'with every as {self._rows(first)}, {self.rounds} select max("#round") from numbered'  # noqa: S608 (quoted)

    def merge(self, first: int, turn: int) -> str:
        """The statements for the staged rows numbered `first` and above, of this round."""
        staged = f"with staged as {self._rows(first)}"
        if self.rounds:
            chosen = f'(select * from numbered where "#round" = {turn})'  # noqa: S608 (quoted)
            staged = f"with every as {self._rows(first)}, {self.rounds}, staged as {chosen}"
        return "; ".join(f"{staged}, {merge}" for merge in self.merges)

    def _rows(self, first: int) -> str:
        return f'(select * from {self.stage} where "#row" >= {first})'  # noqa: S608 (quoted)


def plan(relation: Relation, target: Target, names: tuple[str, ...], deletes: bool) -> Plan:
    """How to write rows of these columns; `deletes`: some of them delete their key.

    Raises FatalError where table and configuration do not agree, RejectedError where the rows lack the key.
    """
    columns = tuple(_column(relation, name) for name in names)
    wire = tuple(relation.wire[name] for name in names)
    if deletes and target.mode in (Mode.INSERT, Mode.INCREMENT):
        message = f"a row of {target.table} is to be deleted, but its mode is {target.mode}"
        raise FatalError(message, "Use mode: upsert for the table, or on_null: reject for the topic.")
    if target.mode is Mode.INSERT and relation.copies:
        copy = _copy(sql.SQL(relation.name), map(sql.Identifier, names))
        return Plan(target.table, columns, Shape(columns), frozenset(), wire, copy)
    return _staged(relation, target, columns, wire, deletes)


def _staged(
    relation: Relation, target: Target, columns: tuple[Column, ...], wire: tuple[int, ...], deletes: bool
) -> Plan:
    key = _key(relation, target)
    version = target.version if target.mode in (Mode.UPSERT, Mode.DELETE) else None
    needed = frozenset([*key, *filter(None, [version])])
    names = [column.name for column in columns]
    if missing := next((name for name in needed if name not in names), None):
        reason = f"the row has no {missing}, which mode {target.mode} needs"
        raise RejectedError(reason, table=target.table, column=missing)
    never_null = {*needed, *target.add} if target.mode is Mode.INCREMENT else needed
    columns = tuple(replace(column, nullable=column.nullable and column.name not in never_null) for column in columns)
    stage = _stage_name(relation, names)
    qualified = sql.Identifier("pg_temp", stage)
    build = Merge(sql.SQL(relation.name), names, key, target.add, version)
    merges = {
        Mode.INSERT: build.insert,
        Mode.UPSERT: build.mixed if deletes else build.upsert,
        Mode.INCREMENT: build.increment,
        Mode.DELETE: build.delete,
    }[target.mode]()
    return Plan(
        target.table,
        columns,
        Shape(columns),
        needed,
        (_INT4, _BOOLEAN, *wire),
        _copy(qualified, [ROW, DELETE, *map(sql.Identifier, names)]),
        _create(stage, [(name, relation.stages[name]) for name in names]),
        qualified.as_string(),
        tuple(merge.as_string() for merge in merges),
        target.mode is Mode.DELETE,
        build.rounds().as_string() if deletes and version else "",
    )


def _column(relation: Relation, name: str) -> Column:
    column = relation.table.columns.get(name)
    if column is None:
        raise FatalError(f"PostgreSQL: table {relation.table.name} has no column {name}", _HINT)
    checked(column, ())  # that it can be written at all
    return column


def _key(relation: Relation, target: Target) -> tuple[str, ...]:
    if target.mode is Mode.INSERT:
        return ()
    key = target.key or next(iter(relation.table.keys), ())
    if not key:
        hint = f"Give {target.table} a primary key, or name its unique columns as `key`."
        raise FatalError(f"mode {target.mode} needs a key, and table {target.table} has none", hint)
    return key


def _stage_name(relation: Relation, names: Sequence[str]) -> str:
    # Behind pgbouncer a session is shared: a stage found there is used only if it is the same in every column.
    shape = repr((relation.name, sorted(relation.fingerprints), names))
    return f"microbatch_stage_{hashlib.sha256(shape.encode()).hexdigest()[:16]}"


def _create(stage: str, columns: Iterable[tuple[str, str]]) -> str:
    # Kept for the session: a table made in every transaction bloats the catalogue, and takes longer.
    typed = [sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(type_name)) for name, type_name in columns]
    statement = sql.SQL("create temp table if not exists {} ({} int, {} boolean, {}) on commit delete rows")
    return statement.format(sql.Identifier(stage), ROW, DELETE, listed(typed)).as_string()


def _copy(table: sql.Composable, columns: Iterable[sql.Composable]) -> str:
    return sql.SQL("copy {} ({}) from stdin (format binary)").format(table, listed(columns)).as_string()

"""How rows of one table are written: COPY into it, or into a stage whose rows are then folded into it by key."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from psycopg import sql

from consumer.errors import FatalError, RejectedError
from consumer.sinks.conversion import checked
from consumer.sinks.postgres.catalogue import Relation
from consumer.sinks.postgres.merge import DELETE, ROW, Merge, listed
from consumer.sinks.postgres.shape import Shape
from consumer.table import Column, Kind, Mode, TableRows, Target

_HINT = "Make sink.tables and the table agree; `microbatch check` shows what differs."
_HEAD = (20, 16)  # of the numbers of rows, int8, and whether they delete, boolean
_JSON = 114
RECORD = "#record"


@dataclass(frozen=True, slots=True)
class Plan:
    """How rows of one table with these columns are written.

    `copy` takes them, each with its type in `wire`. Without a stage that is all. With one, `create` makes it, and
    `lock`, a query, and `merges` are run on some of the rows there; where `rounds` is given, for one round after the
    other. If they are `numbered`, rows are preceded by their number and whether they delete, and chosen by number.
    `alone`, if there is one, writes a row in the variable RECORD without a stage. `needed`: key and version, which are
    never null. `deletes`: all rows do, whatever they say. `each`: how to write rows that have different keys, `keyed`
    by these columns' places, in less time: it must be alone in its stage.
    """

    table: str
    columns: tuple[Column, ...]
    shape: Shape
    needed: frozenset[str]
    wire: tuple[int, ...]
    copy: str
    alone: str
    create: str = ""
    stage: str = ""
    lock: str = ""
    merges: tuple[str, ...] = ()
    deletes: bool = False
    rounds: str = ""
    numbered: bool = False
    keyed: tuple[int, ...] = ()
    each: Plan | None = None

    def count(self, which: str) -> str:
        """The query that says how many rounds there are. `which`: the staged rows that count, as a condition."""
        return f'with every as {self._rows(which)}, {self.rounds} select max("#round") from numbered'  # noqa: S608 (quoted)

    def queries(self, which: str, turn: int | str) -> list[str]:
        """The queries to begin a round with."""
        return self._over(which, turn, filter(None, [self.lock]))

    def changes(self, which: str, turn: int | str) -> list[str]:
        """The statements that come then."""
        return self._over(which, turn, self.merges)

    def _over(self, which: str, turn: int | str, statements: Iterable[str]) -> list[str]:
        staged = f"with staged as {self._rows(which)}"
        if self.rounds:
            chosen = f'(select * from numbered where "#round" = {turn})'  # noqa: S608 (quoted)
            staged = f"with every as {self._rows(which)}, {self.rounds}, staged as {chosen}"
        return [f"{staged}, {statement}" for statement in statements]

    def _rows(self, which: str) -> str:
        return f"(select * from {self.stage} where {which})"  # noqa: S608 (quoted)


@dataclass(frozen=True, slots=True)
class Probe:
    """A value in the raw stage, by SQL, and what it must fit into: the column's type, and that without domains.

    `cuts`: a cast would make it fit, where the column refuses it.
    """

    column: str
    value: str
    type_name: str
    base: str
    cuts: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """How the same rows are written a few at a time.

    `raw` takes them in, and refuses nothing that only the server can judge. From there `move` takes those that count
    into the table; or, if it has merges, into the stage of `staged`. `index` makes a few rows as quick to have as many,
    `unindex` is for the end. `table`: its name, quoted. `values`: what there is to select in the raw
    stage, under the names that it has in the table. `probes`: of what may not fit.
    """

    table: str
    raw: Plan
    values: str
    index: str
    unindex: str
    staged: Plan
    into: str
    probes: tuple[Probe, ...]

    def move(self, which: str) -> str:
        """The statement that moves rows on; `which` as in Plan."""
        return f'{self.into} from {self.raw.stage} where {which} order by "#row"'

    def take(self, lot: str) -> str:
        """The same for the rows in an array of them, in its order; by SQL."""
        return f"{self.into} from unnest({lot})"


def plan(relation: Relation, target: Target, rows: TableRows, deletes: bool) -> Plan:
    """How to write rows like these; `deletes`: some of them delete their key.

    Raises FatalError where table and configuration do not agree, RejectedError where the rows lack the key.
    """
    names = rows.columns
    columns = tuple(_column(relation, name) for name in names)
    wire = tuple(relation.wire[name] for name in names)
    if deletes and target.mode in (Mode.INSERT, Mode.INCREMENT):
        message = f"a row of {target.table} is to be deleted, but its mode is {target.mode}"
        raise FatalError(message, "Use mode: upsert for the table, or on_null: reject for the topic.")
    if target.mode is Mode.INSERT and relation.copies:
        name = sql.SQL(relation.name)
        copy = _copy(name, map(sql.Identifier, names))
        alone = Merge(name, names, (), (), None).alone(_record(relation, columns), Mode.INSERT)
        return Plan(target.table, columns, Shape(columns, rows.known), frozenset(), wire, copy, alone)
    return _staged(relation, target, columns, rows.known, wire, deletes)


def _staged(
    relation: Relation,
    target: Target,
    columns: tuple[Column, ...],
    known: tuple[Column | None, ...],
    wire: tuple[int, ...],
    deletes: bool,
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
    create, name = _stage(relation, names, relation.stages)
    stage = _qualified(name)
    build = Merge(sql.SQL(relation.name), names, key, target.add, version)
    merges = {
        Mode.INSERT: build.insert,
        Mode.UPSERT: build.mixed if deletes else build.upsert,
        Mode.INCREMENT: build.increment,
        Mode.DELETE: build.delete,
    }[target.mode]()
    deletes = deletes or target.mode is Mode.DELETE
    found = Plan(
        target.table,
        columns,
        Shape(columns, known),
        needed,
        (*_HEAD, *wire),
        _copy(stage, [ROW, DELETE, *map(sql.Identifier, names)]),
        "" if deletes else build.alone(_record(relation, columns), target.mode),
        create,
        stage.as_string(),
        build.lock().as_string() if deletes else "",
        tuple(merge.as_string() for merge in merges),
        target.mode is Mode.DELETE,
        build.rounds().as_string() if deletes and version and target.mode is not Mode.DELETE else "",
        True,
        tuple(names.index(name) for name in key),
    )
    return replace(found, each=_each(relation, found, build)) if target.mode is Mode.UPSERT and not deletes else found


def _each(relation: Relation, plan: Plan, build: Merge) -> Plan:
    names = [column.name for column in plan.columns]
    create, name = _stage(relation, names, relation.stages, numbered=False)
    stage = _qualified(name)
    return replace(
        plan,
        wire=plan.wire[len(_HEAD) :],
        copy=_copy(stage, map(sql.Identifier, names)),
        create=create,
        stage=stage.as_string(),
        merges=tuple(merge.as_string() for merge in build.upsert_each()),
        numbered=False,
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


def trial(relation: Relation, plan: Plan) -> Trial:
    """How to write a few at a time what `plan` writes all at once."""
    names = [column.name for column in plan.columns]
    fields: list[sql.Composable] = list(map(sql.Identifier, names))
    casts = [_cast(relation, column) for column in plan.columns]
    values: list[sql.Composable] = [field + cast for field, cast in zip(fields, casts, strict=True)]
    create, name = _stage(relation, names, relation.loose)
    raw, index = _qualified(name), _qualified(f"{name}_row")
    wire = [_JSON if column.kind is Kind.JSON else relation.wire[column.name] for column in plan.columns]
    taking = replace(
        plan,
        create=create,
        stage=raw.as_string(),
        wire=(*_HEAD, *wire),
        copy=_copy(raw, [ROW, DELETE, *fields]),
        numbered=True,
    )
    probes = [
        Probe(column.name, value.as_string(), column.type_name, relation.stages[column.name], _cuts(column))
        for column, value in zip(plan.columns, values, strict=True)
        if column.type_name != relation.loose[column.name]
    ]
    named = listed(sql.SQL("{} as {}").format(*pair) for pair in zip(values, fields, strict=True))
    into: sql.Composable = sql.SQL(relation.name)
    if plan.stage:
        create, ranged = _stage(relation, names, relation.stages, indexed=True)
        into = _qualified(ranged)
        plan = replace(plan, create=f"{create}; {_index(ranged)}", stage=into.as_string())
        fields, values = [ROW, DELETE, *fields], [ROW, DELETE, *values]
    move = sql.SQL("insert into {} ({}) select {}").format(into, listed(fields), listed(values))
    unindex = sql.SQL("drop index if exists {}").format(index).as_string()
    return Trial(relation.name, taking, named.as_string(), _index(name), unindex, plan, move.as_string(), tuple(probes))


def _record(relation: Relation, columns: Iterable[Column]) -> sql.Composed:
    fields = [(sql.Identifier(RECORD, column.name), _cast(relation, column)) for column in columns]
    return listed(field + cast for field, cast in fields)


def _cast(relation: Relation, column: Column) -> sql.SQL:
    # Text is cast by assignment alone: said aloud, a cast cuts off what is too long.
    return sql.SQL("" if _cuts(column) else f"::{relation.stages[column.name]}")


def _cuts(column: Column) -> bool:
    return column.kind in (Kind.TEXT, Kind.ARRAY)


def _stage(
    relation: Relation,
    names: Sequence[str],
    types: Mapping[str, str],
    *,
    numbered: bool = True,
    indexed: bool = False,
) -> tuple[str, str]:
    """How to make a table for rows on their way, and its name; one that is to be `indexed` is another."""
    # Behind pgbouncer a session is shared: a stage found there is used only if it is the same in every column.
    columns = [(name, types[name]) for name in names]
    shape = repr((relation.name, sorted(relation.fingerprints), columns, numbered, indexed))
    name = f"microbatch_stage_{hashlib.sha256(shape.encode()).hexdigest()[:16]}"
    # Kept for the session: a table made in every transaction bloats the catalogue, and takes longer.
    typed = [sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(type_name)) for column, type_name in columns]
    head = [sql.SQL("{} int8").format(ROW), sql.SQL("{} boolean").format(DELETE)] if numbered else []
    statement = sql.SQL("create temp table if not exists {} ({}) on commit delete rows")
    return statement.format(sql.Identifier(name), listed([*head, *typed])).as_string(), name


def _qualified(name: str) -> sql.Identifier:
    return sql.Identifier("pg_temp", name)


def _index(stage: str) -> str:
    statement = sql.SQL("create index if not exists {} on {} ({})")
    return statement.format(sql.Identifier(f"{stage}_row"), _qualified(stage), ROW).as_string()


def _copy(table: sql.Composable, columns: Iterable[sql.Composable]) -> str:
    return sql.SQL("copy {} ({}) from stdin (format binary)").format(table, listed(columns)).as_string()

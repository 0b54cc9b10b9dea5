"""What the server's catalogue says of a table: its columns and keys, and a fingerprint that tells when they change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from consumer.errors import FatalError
from consumer.sinks.postgres import wire
from consumer.table import Column, Kind, Table

_FOUND = """
select oid::int8, relkind::text, relhasrules, relhastriggers or relkind <> 'r'
from pg_class where oid = to_regclass(%s) and relkind in ('r','p','v','f')
"""
# Domains are followed to their base type. Whether a domain forbids null is left to the server, as its checks are: its
# rules change without a trace in the table's own columns.
_COLUMNS = """
with recursive base (attnum, oid, typmod, forbidden, has_default) as (
  select attnum, atttypid, atttypmod, attnotnull, atthasdef or attidentity <> ''
  from pg_attribute where attrelid = {oid} and attnum > 0 and not attisdropped
  union all
  select attnum, typbasetype, case when typmod = -1 then typtypmod else typmod end,
         forbidden, has_default or typdefault is not null
  from base join pg_type t on t.oid = base.oid where typtype = 'd')
select a.attname, format_type(a.atttypid, a.atttypmod), format_type(b.oid, b.typmod), not b.forbidden, b.has_default,
       a.attgenerated = '' and a.attidentity <> 'a', b.oid::int8, t.typname,
       array(select enumlabel::text from pg_enum where enumtypid = t.oid order by enumsortorder),
       case when t.typcategory = 'A' then i.oid end::int8, i.typname, format_type(i.oid, b.typmod),
       array(select enumlabel::text from pg_enum where enumtypid = i.oid order by enumsortorder),
       case when b.oid in ('json'::regtype, 'jsonb'::regtype) then 'text' else format_type(b.oid, -1) end
from base b join pg_attribute a on a.attrelid = {oid} and a.attnum = b.attnum
join pg_type t on t.oid = b.oid left join pg_type i on i.oid = t.typelem
where t.typtype <> 'd' order by a.attnum
"""
# What ON CONFLICT can use: whole, valid, immediate. https://www.postgresql.org/docs/current/sql-insert.html
_KEYS = """
select array(select attname::text from unnest(indkey[0:indnkeyatts - 1]) with ordinality as k (attnum, position)
             join pg_attribute a on a.attrelid = indrelid and a.attnum = k.attnum order by position)
from pg_index where indrelid = {oid} and indisunique and indisvalid and indimmediate and indpred is null
  and indexprs is null order by indisprimary desc, indexrelid
"""
_NOTHING = "select where false"
_ENUMS = """
with recursive type (oid) as (
  select atttypid from pg_attribute where attrelid = {oid} and attnum > 0 and not attisdropped
  union select unnest(array[typbasetype, typelem]) from type join pg_type t on t.oid = type.oid)
select type.oid::int8 from type join pg_type t on t.oid = type.oid where typtype = 'e'
"""
_DEFERRED = """
select tginitdeferred, nspname, conname from pg_trigger join pg_constraint c on c.oid = tgconstraint
join pg_namespace n on n.oid = connamespace where tgrelid = {oid} and tgdeferrable
"""
# One plain scan without joins: it runs in every transaction, and planning costs more than doing. attrelid is in it:
# a table dropped and made anew counts as changed.
_FINGERPRINTS = """
select hashtextextended(string_agg(concat_ws(' ', attrelid, attnum, attname, atttypid, atttypmod, attnotnull, atthasdef,
  attidentity, attgenerated), ',' order by attnum) collate "C", 0)
from pg_attribute where attrelid in ({names}) and attnum > 0 and not attisdropped group by attrelid"""
_LABELS = """
union all select hashtextextended(string_agg(concat_ws(' ', enumtypid, enumlabel), ',' order by enumsortorder)
  collate "C", 0)
from pg_enum where enumtypid in ({enums}) group by enumtypid"""


@dataclass(frozen=True, slots=True)
class Relation:
    """A table as the catalogue held it at one moment. `name` is quoted, schema and all; `kind` is pg_class.relkind.
    `rules`: it has some, which INSERT follows and COPY does not. `acts`: it may have triggers, or its parts may.

    By column: `wire`, the type under which values are encoded, `stages`, the type without domains, as SQL, and `loose`,
    a type which takes all that the client lets pass.
    `deferred`: the quoted names of constraints that are checked at COMMIT. `fingerprints`: of the columns and `enums`.
    """

    table: Table
    name: str
    kind: str
    rules: bool
    acts: bool
    wire: Mapping[str, int]
    stages: Mapping[str, str]
    loose: Mapping[str, str]
    enums: tuple[int, ...]
    deferrable: bool
    deferred: tuple[str, ...]
    fingerprints: frozenset[int]

    @property
    def copies(self) -> bool:
        """Whether COPY can write into it."""
        return self.kind != "v"


def load(connection: psycopg.Connection[Any], table: str) -> Relation:
    """Read a table's description. Raises FatalError when there is none, psycopg.Error."""
    name, number, kind, rules, acts = _find(connection, table)
    where = {"oid": sql.Literal(number)}
    # Before the columns: a change in between is then taken for one, never missed.
    enums = tuple(row[0] for row in connection.execute(sql.SQL(_ENUMS).format(**where)))
    found = frozenset(row[0] for row in connection.execute(fingerprints([name], enums)))
    columns, wires, stages, loose = {}, {}, {}, {}
    for row in connection.execute(sql.SQL(_COLUMNS).format(**where)):
        column, wires[column.name] = _column(connection, row)
        columns[column.name], stages[column.name], loose[column.name] = column, row[2], row[-1]
    keys = tuple(tuple(row[0]) for row in connection.execute(sql.SQL(_KEYS).format(**where)))
    triggers = connection.execute(sql.SQL(_DEFERRED).format(**where)).fetchall()
    deferred = tuple(dict.fromkeys(sql.Identifier(*row[1:]).as_string(connection) for row in triggers if row[0]))
    described = Table(table, columns, keys)
    return Relation(described, name, kind, rules, acts, wires, stages, loose, enums, bool(triggers), deferred, found)


def fingerprints(names: Iterable[str], enums: Iterable[int]) -> sql.Composed:
    """The statement that answers with one value for each table and enum; they stay as long as the columns do, by name,
    type and rules, and the labels."""
    regclass = sql.SQL("to_regclass({})")
    listed = sql.SQL(", ").join([regclass.format(name) for name in names])
    statement = sql.SQL(_FINGERPRINTS).format(names=listed)
    if numbers := [sql.Literal(number) for number in enums]:
        statement += sql.SQL(_LABELS).format(enums=sql.SQL(", ").join(numbers))
    return statement


def opening(relations: Sequence[Relation]) -> list[str]:
    """What a transaction begins with: the locks of writing taken early, so that no column changes after the
    fingerprints, which come last."""
    enums = {number for relation in relations for number in relation.enums}
    known = fingerprints([relation.name for relation in relations], enums).as_string() if relations else _NOTHING
    return [*filter(None, [lock(relations)]), known]


def lock(relations: Sequence[Relation]) -> str:
    """The statement that takes the locks of writing; empty if there is nothing to lock."""
    names = ", ".join(relation.name for relation in relations if relation.kind in ("r", "p"))
    return f"lock table only {names} in row exclusive mode" if names else ""


def _find(connection: psycopg.Connection[Any], table: str) -> tuple[str, int, str, bool, bool]:
    """The table whose whole name this is (topics like to have dots), else schema and table."""
    parts: list[Sequence[str]] = [[table]]
    if all(split := table.partition(".")[::2]):
        parts.append(split)
    for identifiers in parts:
        name = sql.Identifier(*identifiers).as_string(connection)
        if row := connection.execute(_FOUND, [name]).fetchone():
            return name, *row
    hint = (
        f"Create the table {table}, or name another in sink.tables; without a schema it is looked for in search_path."
    )
    raise FatalError(f"PostgreSQL: there is no table {table}", hint)


def _column(connection: psycopg.Connection[Any], row: tuple[Any, ...]) -> tuple[Column, int]:
    (
        name,
        type_name,
        _,
        nullable,
        has_default,
        writable,
        base,
        base_name,
        labels,
        item,
        item_name,
        item_type,
        item_labels,
        _,
    ) = row
    kind, member = _kind(base, base_name, labels), None
    if item is not None and (item_kind := _kind(item, item_name, item_labels)) is not Kind.OTHER:
        kind = Kind.ARRAY
        low, high = wire.BOUNDS.get(item, (None, None))
        member = Column(name, item_kind, item_type, minimum=low, maximum=high, labels=tuple(item_labels))
        wire.register_items(connection, item_kind, item, base)
    low, high = wire.BOUNDS.get(base, (None, None))
    column = Column(name, kind, type_name, nullable, has_default, writable, low, high, tuple(labels), member)
    return column, wire.oid(kind, base)


def _kind(base: int, name: str, labels: Sequence[str]) -> Kind:
    if labels:
        return Kind.ENUM
    return Kind.TEXT if name == "citext" else wire.KINDS.get(base, Kind.OTHER)

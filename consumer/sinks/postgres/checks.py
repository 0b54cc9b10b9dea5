"""What would fail later, found before: one sentence each, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from consumer.sinks import letters
from consumer.sinks.postgres import offsets, own
from consumer.sinks.postgres.catalogue import Relation
from consumer.table import Kind, Mode, Target

Connection = psycopg.Connection[Any]
_OLDEST = 130000
_NUMBERS = (Kind.INTEGER, Kind.FLOAT, Kind.DECIMAL)
# SELECT FOR UPDATE, which locks rows in key order, needs UPDATE.
_PRIVILEGES = {
    Mode.INSERT: ("INSERT",),
    Mode.UPSERT: ("SELECT", "INSERT", "UPDATE"),
    Mode.INCREMENT: ("SELECT", "INSERT", "UPDATE"),
    Mode.DELETE: ("SELECT", "UPDATE", "DELETE"),
}
_TABLE = "select relpersistence, row_security_active(oid) from pg_class where oid = to_regclass(%s)"

_SEQUENCES = """
select s.oid::regclass::text from pg_attrdef a
join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = a.oid and d.refclassid = 'pg_class'::regclass
join pg_class s on s.oid = d.refobjid
where a.adrelid = to_regclass(%s)
  and case when s.relkind = 'S' then not has_sequence_privilege(s.oid, 'USAGE, UPDATE') end order by 1
"""


def check(connection: Connection, tables: Sequence[tuple[Target, Relation]], transactional: bool) -> list[str]:
    """Look at the server, our own tables (`transactional`) and the others. Raises psycopg.Error."""
    found = list(_server(connection, transactional))
    if transactional:
        found += _own_table(connection, offsets.TABLE, ("SELECT", "INSERT", "UPDATE"))
        found += _own_table(connection, letters.TABLE, ("SELECT", "INSERT", "UPDATE", "DELETE"))
    for target, relation in tables:
        found += _privileges(connection, relation, _PRIVILEGES[target.mode])
        found += _table(connection, relation)
        found += _target(target, relation)
    if any(target.mode is not Mode.INSERT or not relation.copies for target, relation in tables):
        found += _temporary(connection)
    return found


def _server(connection: Connection, transactional: bool) -> Iterator[str]:
    version = connection.info.server_version
    if version < _OLDEST:
        yield f"The server is PostgreSQL {version // 10000}; use 13 or newer."
    for name in ("fsync", "full_page_writes"):
        if _setting(connection, name) == "off":
            yield f"{name} is off, so a crash of the server can destroy the database; turn it on."
    if _setting(connection, "synchronous_commit") == "off" and not transactional:
        yield (
            "synchronous_commit is off, so a crash of the server loses rows whose offsets Kafka has; turn it on, "
            "or use delivery: exactly_once, where rows and offsets are lost together and read again."
        )
    if _value(connection, "select pg_is_in_recovery() or current_setting('transaction_read_only')::bool"):
        yield "The server takes no writes (a standby, or read-only); connect to the primary."


def _own_table(connection: Connection, name: str, privileges: Sequence[str]) -> Iterator[str]:
    if not own.exists(connection, name):
        if not _value(connection, "select coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"):
            yield f"Table {name} is missing and you may not create it; let an administrator create it, or grant CREATE."
        return
    for privilege in privileges:
        if not _value(connection, "select has_table_privilege(%s, %s)", name, privilege):
            yield f"{privilege} on {name} is missing; grant it."
    if _value(connection, "select relpersistence <> 'p' from pg_class where oid = to_regclass(%s)", name):
        yield f"{name} is unlogged, so a crash of the server empties it; run alter table {name} set logged."


def _privileges(connection: Connection, relation: Relation, privileges: Sequence[str]) -> Iterator[str]:
    for privilege in privileges:
        if not _value(connection, "select has_table_privilege(%s, %s)", relation.name, privilege):
            yield f"{privilege} on {relation.name} is missing; grant it."
    if "INSERT" in privileges:
        for (sequence,) in connection.execute(_SEQUENCES, [relation.name]):
            yield f"USAGE on sequence {sequence} is missing, which a default of {relation.name} needs; grant it."


def _table(connection: Connection, relation: Relation) -> Iterator[str]:
    row = connection.execute(_TABLE, [relation.name]).fetchone()
    persistence, row_security = row or ("p", False)
    if persistence == "u":
        yield f"{relation.name} is unlogged, so a crash of the server empties it; run alter table ... set logged."
    if row_security and relation.copies:
        yield f"Row-level security applies to you on {relation.name}, and COPY refuses that; grant BYPASSRLS."
    if relation.kind == "f":
        yield f"{relation.name} is a foreign table, which exactly once does not reach; write into a local table."


def _target(target: Target, relation: Relation) -> Iterator[str]:
    columns, table = relation.table.columns, relation.table.name
    key = target.key or next(iter(relation.table.keys), ())
    for name in (*target.key, *target.add, *filter(None, [target.version])):
        if name not in columns:
            yield f"Table {table} has no column {name}, which the configuration names; correct one of them."
    for column in columns.values():
        if column.writable and column.kind is Kind.OTHER and not column.nullable and not column.has_default:
            yield f"Column {column.name} of {table} must have a value, and type {column.type_name} cannot be written."
    if target.mode is Mode.INSERT:
        return
    if not key:
        yield f"Table {table} has no key, which mode {target.mode} needs; give it a primary key, or configure `key`."
    elif set(key) not in map(set, relation.table.keys):
        yield f"No unique index of {table} is on exactly {', '.join(key)}; create one, or configure another key."
    for name in target.add:
        if name in columns and columns[name].kind not in _NUMBERS:
            yield f"Column {name} of {table} is {columns[name].type_name}, which cannot be added up; choose another."


def _temporary(connection: Connection) -> Iterator[str]:
    if not _value(connection, "select has_database_privilege(current_database(), 'TEMP')"):
        yield "TEMP on the database is missing, which every mode but insert needs; grant it."


def _setting(connection: Connection, name: str) -> Any:
    return _value(connection, "select current_setting(%s)", name)


def _value(connection: Connection, query: str, *parameters: Any) -> Any:
    row = connection.execute(query, parameters).fetchone()
    return row[0] if row else None

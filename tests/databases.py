"""The databases that sinks are tested on: one schema in each, read back by means other than the sink's."""

from __future__ import annotations

import datetime
import json
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row

from consumer.sinks import Sink
from consumer.sinks.sqlite import SqliteSink
from consumer.table import Column, Kind, Table, Target
from tests.fakes import MemoryDatabase, MemorySink, MemoryTable

HOSTILE = "se\"lect; drop table item; -- 'Tämble☃"
_HOSTILE_COLUMNS = ("order", 'a"b', "größe ?1 %s $1", "'")
_PARTS = ("item", "pair", "event", HOSTILE, "kinds")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _schema() -> list[str]:
    order, ab, size, quote = map(_quoted, _HOSTILE_COLUMNS)
    return [
        """create table item (id bigint primary key, name text, amount bigint not null default 7 check (amount >= 0),
                              version bigint)""",
        """create table pair (a bigint not null, b text not null, total bigint, rate double precision, note text,
                              unique (a, b))""",
        "create table event (id bigint, body text)",
        f"create table {_quoted(HOSTILE)} ({order} bigint primary key, {ab} text, {size} bigint,"
        f" {quote} text default 'x')",
        """create table kinds (id bigint primary key, truth boolean, small bigint, real double precision, exact numeric,
                               words text, bytes bytea, day date, hour time, moment timestamptz, uuid uuid,
                               json jsonb)""",
    ]


_REFERRING = [
    "create table child (id bigint primary key, item bigint references item (id) deferrable initially deferred)",
    "create table part (id bigint primary key, item bigint references item (id))",
]
_OWN = ["microbatch_offsets", "microbatch_dead_letters"]


class Database(Protocol):
    """One kind of database with the tables above. `refers`: it has those with foreign keys, too."""

    refers: bool

    def sink(self, targets: tuple[Target, ...], owner: str, exactly_once: bool = True, group: str = "group") -> Sink:
        """A new instance."""

    def rows(self, table: str) -> list[dict[str, Any]]:
        """What is committed, as Python values."""

    def clear(self) -> None:
        """No rows, no offsets, no dead letters."""

    def close(self) -> None:
        """Gone for good."""


class Memory:
    """The fake."""

    refers = False

    def __init__(self) -> None:
        big = {"minimum": -(2**63), "maximum": 2**63 - 1}

        def table(name: str, keys: tuple[tuple[str, ...], ...], *columns: Column, **more: Any) -> MemoryTable:
            return MemoryTable(Table(name, {column.name: column for column in columns}, keys), **more)

        def integer(name: str, nullable: bool = True, has_default: bool = False) -> Column:
            return Column(name, Kind.INTEGER, "bigint", nullable, has_default, **big)  # type: ignore[arg-type]

        def text(name: str, nullable: bool = True, has_default: bool = False) -> Column:
            return Column(name, Kind.TEXT, "text", nullable, has_default)

        order, ab, size, quote = _HOSTILE_COLUMNS
        kinds = {
            "truth": Kind.BOOLEAN,
            "real": Kind.FLOAT,
            "exact": Kind.DECIMAL,
            "words": Kind.TEXT,
            "bytes": Kind.BYTES,
        }
        kinds |= {"day": Kind.DATE, "hour": Kind.TIME, "moment": Kind.TIMESTAMPTZ, "uuid": Kind.UUID, "json": Kind.JSON}
        self._database = MemoryDatabase(
            table(
                "item",
                (("id",),),
                *(integer("id", nullable=False), text("name"), integer("amount", False, True), integer("version")),
                defaults={"amount": 7},
                check=lambda row: row["amount"] >= 0,
            ),
            table(
                "pair",
                (("a", "b"),),
                *(integer("a", nullable=False), text("b", nullable=False), integer("total")),
                *(Column("rate", Kind.FLOAT, "double precision"), text("note")),
            ),
            table("event", (), integer("id"), text("body")),
            table(
                HOSTILE,
                ((order,),),
                *(integer(order, False), text(ab), integer(size), text(quote, has_default=True)),
                defaults={quote: "x"},
            ),
            table(
                "kinds",
                (("id",),),
                *(integer("id", False), integer("small"), *(Column(name, kind, kind) for name, kind in kinds.items())),
            ),
            busy_timeout=0.2,
        )

    def sink(self, targets: tuple[Target, ...], owner: str, exactly_once: bool = True, group: str = "group") -> Sink:
        return MemorySink(self._database, targets, group, owner, exactly_once=exactly_once)

    def rows(self, table: str) -> list[dict[str, Any]]:
        rows = self._database.rows(table)
        return [row | {"json": row["json"] and json.loads(row["json"])} if "json" in row else row for row in rows]

    def clear(self) -> None:
        self._database.clear()

    def close(self) -> None:
        self._database.clear()


_READ: dict[str, Callable[[Any], Any]] = {
    "truth": bool,
    "exact": lambda value: Decimal(repr(value)),
    "day": datetime.date.fromisoformat,
    "hour": datetime.time.fromisoformat,
    "moment": datetime.datetime.fromisoformat,
    "uuid": uuid.UUID,
    "json": lambda value: json.loads(value) if isinstance(value, str) else value,
}


class Sqlite:
    """A file."""

    refers = True

    def __init__(self, folder: Path) -> None:
        self._path = folder / "test.db"
        with closing(sqlite3.connect(self._path)) as connection:
            connection.executescript(";".join([*_schema(), *_REFERRING]))

    def sink(self, targets: tuple[Target, ...], owner: str, exactly_once: bool = True, group: str = "group") -> Sink:
        return SqliteSink(str(self._path), targets, group, owner, exactly_once=exactly_once, busy_timeout=0.2)

    def rows(self, table: str) -> list[dict[str, Any]]:
        with closing(sqlite3.connect(self._path)) as connection:
            connection.row_factory = sqlite3.Row
            found = [dict(row) for row in connection.execute(f"select * from {_quoted(table)}")]
        if table != "kinds":
            return found
        return [
            {name: value if value is None else _READ.get(name, lambda x: x)(value) for name, value in row.items()}
            for row in found
        ]

    def clear(self) -> None:
        with closing(sqlite3.connect(self._path)) as connection:
            for table in ("child", "part", *_PARTS):
                connection.execute(f"delete from {_quoted(table)}")
            for table in _OWN:
                connection.execute(f"drop table if exists {table}")
            connection.commit()

    def close(self) -> None:
        self._path.unlink()


class PostgresDatabase:
    """A schema of its own on the session's server."""

    refers = True

    def __init__(self, dsn: str) -> None:
        self._schema = f"test_{uuid.uuid4().hex}"
        self._admin = psycopg.connect(dsn, autocommit=True, row_factory=dict_row)
        self._admin.execute(sql.SQL("create schema {}").format(sql.Identifier(self._schema)))
        self._admin.execute("set lock_timeout = '10s'")
        self._admin.execute(sql.SQL("set search_path = {}").format(sql.Identifier(self._schema)))
        for statement in [*_schema(), *_REFERRING]:
            self._admin.execute(statement.encode())
        self._dsn = make_conninfo(dsn, options=f"-csearch_path={self._schema}")

    def sink(self, targets: tuple[Target, ...], owner: str, exactly_once: bool = True, group: str = "group") -> Sink:
        from consumer.sinks.postgres import PostgresSink

        return PostgresSink(self._dsn, targets, group, owner, exactly_once=exactly_once)

    def rows(self, table: str) -> list[dict[str, Any]]:
        return self._admin.execute(sql.SQL("select * from {}").format(sql.Identifier(table))).fetchall()

    def clear(self) -> None:
        names = sql.SQL(", ").join(map(sql.Identifier, [*_PARTS, "child", "part"]))
        self._admin.execute(sql.SQL("truncate {}").format(names))
        self._admin.execute(f"drop table if exists {', '.join(_OWN)}".encode())

    def close(self) -> None:
        self._admin.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(self._schema)))
        self._admin.close()


DATABASES: dict[str, Callable[[pytest.FixtureRequest], Database]] = {
    "memory": lambda request: Memory(),
    "sqlite": lambda request: Sqlite(request.getfixturevalue("tmp_path_factory").mktemp("sqlite")),
    "postgres": lambda request: PostgresDatabase(request.getfixturevalue("dsn")),
}

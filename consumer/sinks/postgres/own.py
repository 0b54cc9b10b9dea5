"""The tables that microbatch keeps for itself, beside those that it writes."""

from __future__ import annotations

from typing import Any

import psycopg

Connection = psycopg.Connection[Any]
# IF NOT EXISTS looks before it creates: who loses a race for the name is told so by what the table is made of, its type
# among it, or by the catalogue's keys.
_LOST = (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject)


def exists(connection: Connection, table: str) -> bool:
    """Whether a table of this name is on the search path."""
    row = connection.execute("select to_regclass(%s) is not null", [table]).fetchone()
    return bool(row and row[0])


def create(connection: Connection, table: str, statements: str) -> None:
    """Create the table if it is missing; only then is the privilege for it needed. Safe among many at once."""
    if exists(connection, table):
        return
    try:
        connection.execute(statements.encode())
    except _LOST:
        if not exists(connection, table):
            raise

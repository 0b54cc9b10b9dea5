"""Sinks on every kind of database."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.databases import Database
from tests.sinks import SinkFactory


@pytest.fixture
def sink_factory(database: Database) -> Iterator[SinkFactory]:
    """Makes sinks on one database, which is empty again afterwards."""
    factory = SinkFactory(database)
    yield factory
    factory.close()
    database.clear()


@pytest.fixture
def schema(dsn: str) -> Iterator[str]:
    """Conninfo of a schema of its own."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"create schema {name}".encode())
        yield make_conninfo(dsn, options=f"-csearch_path={name}")
        connection.execute(f"drop schema {name} cascade".encode())

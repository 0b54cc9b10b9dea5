"""Sinks on every kind of database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.databases import Database
from tests.sinks import SinkFactory


@pytest.fixture
def sink_factory(database: Database) -> Iterator[SinkFactory]:
    """Makes sinks on one database, which is empty again afterwards."""
    factory = SinkFactory(database)
    yield factory
    factory.close()
    database.clear()

"""A broker and a database of the campaign's own, because it stops them, and shortens sessions.

A test that fails may leave them so: the next one starts them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.group import Services
from tests.services.kafka import Kafka
from tests.services.postgres import Postgres


@pytest.fixture(scope="session")
def mortal_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """The one of all tests here."""
    broker = Kafka(tmp_path_factory.mktemp("faults-kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def mortal_server() -> Iterator[Postgres]:
    """The one of all tests here."""
    server = Postgres({"deadlock_timeout": "500ms"})
    server.start()
    yield server
    server.recover()  # one that is stopped does not end
    server.stop()


@pytest.fixture
def broker(mortal_broker: Kafka) -> Kafka:
    """A real Kafka that may be killed, if it is started again."""
    mortal_broker.recover()
    return mortal_broker


@pytest.fixture
def server(mortal_server: Postgres) -> Postgres:
    """A real PostgreSQL that may be stopped, if it is started again."""
    mortal_server.recover()
    return mortal_server


@pytest.fixture
def services(broker: Kafka, server: Postgres, tmp_path: Path) -> Iterator[Services]:
    """Both, running, and a folder."""
    with ExitStack() as ends:
        yield Services(broker.bootstrap, server.dsn, tmp_path, ends)

"""A broker and a database of the campaign's own, because it stops them, and shortens sessions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.group import Services
from tests.services.kafka import Kafka
from tests.services.postgres import Postgres


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kafka]:
    """A real Kafka that may be killed, if it is started again."""
    broker = Kafka(tmp_path_factory.mktemp("faults-kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A real PostgreSQL that may be stopped, if it is started again."""
    server = Postgres({"deadlock_timeout": "500ms"})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def services(broker: Kafka, server: Postgres, tmp_path: Path) -> Services:
    """Both, running, and a folder."""
    return Services(broker.bootstrap, server.dsn, tmp_path)

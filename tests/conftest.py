"""Services for the whole session: real ones, existing or started here."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from tests.databases import DATABASES, Database
from tests.services.kafka import Kafka
from tests.services.postgres import Postgres


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The plugin of Hypothesis imports all of it for its summary, also where no test used it: for a second."""
    if "hypothesis" not in sys.modules:
        session.config.pluginmanager.unregister(name="hypothesispytest")


@pytest.fixture(scope="session", autouse=True)
def history(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No run of a test goes into the history of who runs the tests."""
    os.environ["XDG_STATE_HOME"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real Kafka; KAFKA_BOOTSTRAP_SERVERS uses an existing one."""
    if existing := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
        yield existing
        return
    broker = Kafka(tmp_path_factory.mktemp("kafka"), archives=True)
    broker.start()
    yield broker.bootstrap
    broker.stop()


@pytest.fixture(scope="session")
def dsn() -> Iterator[str]:
    """A real PostgreSQL; DATABASE_URL uses an existing one."""
    if existing := os.environ.get("DATABASE_URL"):
        yield existing
        return
    server = Postgres()
    server.start()
    yield server.dsn
    server.stop()


@pytest.fixture(scope="module", params=DATABASES)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Each kind of database, the fake among them."""
    database = DATABASES[request.param](request)
    yield database
    database.close()

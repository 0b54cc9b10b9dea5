"""A database that a group reaches by a proxy, and what can befall the two of them."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.faults.campaign import PARTITIONS
from tests.faults.group import CLASSIC, SESSION_MS, Group, Services
from tests.faults.waiting import until
from tests.services.postgres import CommitCut, Postgres, SmallDiskPostgres, deadlock, sessions_of
from tests.services.proxy import Proxy

DEADLINE_MS = 1000
_SETTINGS = {"retry": {"max_delay_ms": 500}}
_ROLE = """
create role app login; grant create on schema public to app;
alter default privileges grant all on tables to app; alter default privileges grant all on sequences to app;
"""


class Site:
    """See this module; the server's deadlock_timeout must be longer than a moment."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._do(f"do $$ begin if to_regrole('app') is null then {_ROLE} end if; end $$")
        self._do("grant all on all tables in schema public to app")  # those that others have made here
        parts = conninfo_to_dict(server.dsn)
        self.proxy = Proxy(str(parts["host"]), int(str(parts["port"])))
        self.dsn = make_conninfo(server.dsn, port=self.proxy.port, user="app")

    def group(self, services: Services, topic: str, name: str, protocol: str = CLASSIC, **more: Any) -> Group:
        """A group that writes here; `more` are settings, and librdkafka's properties under `kafka`."""
        services, kafka = replace(services, dsn=self.server.dsn), more.pop("kafka", {})
        sink = {"dsn": self.dsn, "write_deadline_ms": DEADLINE_MS}
        return Group(services, name, topic, PARTITIONS, protocol, kafka=kafka, sink=sink, settings=_SETTINGS | more)

    def close(self) -> None:
        """Only the proxy: the server is somebody else's."""
        self.proxy.close()

    def terminate(self, group: Group, random_: random.Random) -> None:
        """An administrator ends all sessions."""
        self._do(sessions_of("app"))

    def restart(self, group: Group, random_: random.Random) -> None:
        """The server ends at once, and comes back."""
        self.server.crash()
        time.sleep(random_.uniform(0, 1))
        self.server.start()
        group.reconnect()

    def freeze(self, group: Group, random_: random.Random) -> None:
        """The server does nothing for longer than the members' sessions with Kafka last."""
        self.server.freeze()
        time.sleep(random_.uniform(1.1, 1.5) * SESSION_MS[CLASSIC] / 1000)
        self.server.thaw()

    def cut(self, moment: str, group: Group, random_: random.Random) -> None:
        """The connections are cut before the server has a COMMIT, or while, or after it did it."""
        cut = CommitCut(self.proxy, moment)
        until(cut.done.is_set, f"{group.name} commits")

    def read_only(self, group: Group, random_: random.Random) -> None:
        """The server becomes a standby, and a primary again."""
        with self._role("default_transaction_read_only = on"):
            time.sleep(random_.uniform(0.2, 1.5))

    def fill_disk(self, group: Group, random_: random.Random) -> None:
        """There is no room for rows, offsets and dead letters."""
        assert isinstance(self.server, SmallDiskPostgres)
        self.server.fill()
        time.sleep(random_.uniform(0.2, 1.5))
        self.server.empty()

    def deadlock(self, group: Group, random_: random.Random) -> None:
        """A transaction is ended for the sake of another one."""
        deadlock(self.server.dsn, group.name, "app")

    def lock(self, group: Group, random_: random.Random) -> None:
        """Somebody has the table for himself, for less or more than a write may take."""
        with psycopg.connect(self.server.dsn) as connection:
            connection.execute(f"lock table {group.name}")
            time.sleep(random_.uniform(0.2, 2) * DEADLINE_MS / 1000)

    def lock_timeout(self, group: Group, random_: random.Random) -> None:
        """The same, and sessions do not wait for long."""
        with self._role("lock_timeout = '100ms'"):
            self.lock(group, random_)

    @contextmanager
    def _role(self, setting: str) -> Iterator[None]:
        self._do(f"alter role app set {setting}", sessions_of("app"))
        try:
            yield
        finally:
            self._do("alter role app reset all", sessions_of("app"))

    def _do(self, *statements: str) -> None:
        with psycopg.connect(self.server.dsn, autocommit=True) as admin:
            for statement in statements:
                admin.execute(statement)

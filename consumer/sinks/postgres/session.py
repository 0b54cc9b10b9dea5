"""One connection to PostgreSQL, made when it is needed, and broken from another thread when it hangs."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import TransactionStatus

from consumer.errors import ConfigError
from consumer.sinks.postgres import wire
from consumer.sinks.postgres.translation import refused_login

_DEFAULTS = {"connect_timeout": "10", "keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
_OPEN = (TransactionStatus.ACTIVE, TransactionStatus.INTRANS, TransactionStatus.INERROR)


def application_name(owner: str) -> str:
    """How a session of this owner is called in pg_stat_activity: ASCII, and cut where the server would cut it."""
    return f"microbatch:{owner}".encode("ascii", "replace")[:63].decode()


class Session:
    """Autocommit, so that transactions are only what the sink says. Nothing is kept in the session that pgbouncer's
    transaction mode would lose: no prepared statements, and settings by SET LOCAL, but for those that it carries over.

    `connected` is called with each new connection, before its first use.
    """

    def __init__(self, dsn: str, owner: str) -> None:
        """Raises ConfigError when the DSN cannot be parsed; the error does not repeat it."""
        try:
            self._parameters = _DEFAULTS | {k: str(v) for k, v in conninfo_to_dict(dsn).items() if v is not None}
        except psycopg.Error:
            raise ConfigError("sink.dsn", None, "is not a PostgreSQL connection string") from None
        self._parameters |= {"application_name": application_name(owner), "client_encoding": "UTF8"}
        self._connection: psycopg.Connection[Any] | None = None
        self._first = True
        # A duplicate of the connection's descriptor: libpq closes its own whenever it likes, and the number may then
        # be another file's. Guarded, because `interrupt` comes from another thread.
        self._socket: socket.socket | None = None
        self._guard = threading.Lock()

    @property
    def in_transaction(self) -> bool:
        """Whether there is a connection with one open, failed or not."""
        return self._connection is not None and self._connection.info.transaction_status in _OPEN

    def connection(self, connected: Callable[[], None]) -> psycopg.Connection[Any]:
        """The connection, new if there is none. Raises UnavailableError, FatalError when the first login is refused."""
        if self._connection is None or self._connection.closed:
            self.close()
            try:
                self._connection = self._connect()
            except psycopg.Error as error:
                self.close()
                raise refused_login(error, self._first) from None
            self._first = False
            connected()
        return self._connection

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(**self._parameters, autocommit=True, prepare_threshold=None)  # type: ignore[arg-type]
        with self._guard:
            self._socket = socket.socket(fileno=os.dup(connection.fileno()))
        wire.register(connection)
        connection.execute("set timezone = 'UTC'; set datestyle = 'ISO'")
        return connection

    def interrupt(self) -> None:
        """Shut the connection's socket down: the one thing that ends a call blocked on a silent peer at once."""
        with self._guard:
            if self._socket is not None:
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)

    def end_transaction(self) -> None:
        """Roll back what is open, if anything; never raises."""
        if self.in_transaction and self._connection is not None:
            try:
                self._connection.execute("rollback")
            except psycopg.Error:
                self.close()

    def close(self) -> None:
        """Give the connection up; `connection` makes another."""
        with self._guard:
            if self._socket is not None:
                self._socket.close()
                self._socket = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

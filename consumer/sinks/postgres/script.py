"""Statements sent as one query, COPY among them, and answered in turn: one round trip, and one more for each COPY.

psycopg's cursors run COPY only alone; libpq, which it lends as `psycopg.pq`, takes it anywhere in a query
(https://www.postgresql.org/docs/current/libpq-copy.html).
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from typing import Any, Protocol, Self

import psycopg
from psycopg import sql
from psycopg.abc import Buffer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult

Answer = tuple[list[tuple[Any, ...]], str | None]
Statement = sql.Composable | str
_PIECE = 1 << 20  # bytes that libpq is given before it must have sent them: it keeps no more, whatever the batch


class Encoder(Protocol):
    """psycopg's, of rows for a binary COPY. It gives bytes back now and then, and the rest at the end."""

    def write_row(self, row: Sequence[Any], /) -> Buffer:
        """One row. Raises whatever its types' dumpers do."""

    def end(self) -> Buffer:
        """No more rows come."""


def run(connection: psycopg.Connection[Any], *statements: Statement) -> list[Answer]:
    """Run statements without parameters, no COPY among them, in one round trip; each answers with its rows and its
    command tag."""
    cursor = connection.execute(_joined(connection, statements))
    answers: list[Answer] = []
    while True:
        answers.append((cursor.fetchall() if cursor.description else [], cursor.statusmessage))
        if not cursor.nextset():
            return answers


class Script:
    """To be entered, which sends it. At the end the answers that are left are taken in; a COPY that lacks rows fails
    then, and nothing after it is run: so a script that is left before its last `end` commits nothing.

    Everything raises psycopg.Error, the end only where nothing else was raised.
    """

    def __init__(
        self,
        connection: psycopg.Connection[Any],
        statements: Iterable[Statement],
        sent: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is sent yet. `sent` is called whenever a COPY has been given all its rows."""
        self._connection, self._pgconn, self._query = connection, connection.pgconn, _joined(connection, statements)
        self._poll = select.poll()
        self._poll.register(connection.fileno(), select.POLLIN)
        self._unflushed, self._sent = 0, sent

    def __enter__(self) -> Self:
        self._pgconn.send_query(self._query)
        return self

    def __exit__(self, raised: type[BaseException] | None, *_: object) -> None:
        left = []
        with suppress(psycopg.Error) if raised else nullcontext():
            while (result := self._result()) is not None:
                if result.status == ExecStatus.COPY_IN:
                    self.abandon("left early")
                left.append(result)
        for result in [] if raised else left:
            _require_success(result)

    def next(self) -> Answer:
        """What the next statement answers: its rows, as text, and its command tag.

        A COPY answers twice, when it wants rows and when it has them.
        """
        result = self._result()
        if result is None:
            raise psycopg.OperationalError("the server does not answer every statement")
        _require_success(result)
        cells = ([_text(result.get_value(row, i)) for i in range(result.nfields)] for row in range(result.ntuples))
        return [tuple(row) for row in cells], (result.command_status or b"").decode()

    def put(self, data: Buffer) -> None:
        """Rows for the COPY that wants them."""
        view = memoryview(data)
        for start in range(0, len(view), _PIECE):
            piece = view[start : start + _PIECE]
            self._give(self._pgconn.put_copy_data, piece)
            self._unflushed += len(piece)
            if self._unflushed >= _PIECE:
                self._flush()
                self._unflushed = 0

    def encoder(self, types: Sequence[int]) -> Encoder:
        """What encodes rows of these types; what it gives back is to be `put`."""
        channel = psycopg.Copy(self._connection.cursor(), binary=True)
        channel.set_types(types)
        return channel.formatter

    def end(self) -> None:
        """These were all the rows."""
        self._give(self._pgconn.put_copy_end, None)
        self._sent()

    def abandon(self, why: str) -> None:
        """The rows are not to count, and what comes after them is not to be run."""
        self._give(self._pgconn.put_copy_end, why.encode())

    @property
    def interrupted(self) -> bool:
        """Whether the server says something, which it does in a COPY only if it has to."""
        return bool(self._poll.poll(0))

    def _give(self, put: Callable[[Any], int], what: Buffer | None) -> None:
        """libpq answers 0 where it has no room, which it gets once all is sent, unless memory is used up."""
        if not put(what):
            self._flush()
            if not put(what):
                raise psycopg.OperationalError("libpq takes no more rows: there is no memory for them")

    def _result(self) -> PGresult | None:
        self._flush()
        while self._pgconn.is_busy():
            self._poll.poll()
            self._pgconn.consume_input()
        return self._pgconn.get_result()

    def _flush(self) -> None:
        if not self._pgconn.flush():
            return
        either = select.poll()
        either.register(self._pgconn.socket, select.POLLIN | select.POLLOUT)
        while self._pgconn.flush():
            # What the server says is taken in meanwhile: it may wait for that before it takes in more.
            if any(event & ~select.POLLOUT for _, event in either.poll()):
                self._pgconn.consume_input()


def _joined(connection: psycopg.Connection[Any], statements: Iterable[Statement]) -> bytes:
    return b"; ".join(
        one.as_bytes(connection) if isinstance(one, sql.Composable) else one.encode() for one in statements
    )


def _require_success(result: PGresult) -> None:
    if result.status not in (ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK, ExecStatus.COPY_IN):
        raise error_from_result(result)


def _text(cell: bytes | None) -> str | None:
    return None if cell is None else cell.decode()

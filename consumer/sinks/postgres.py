"""PostgreSQL: binary COPY in one transaction with the offsets.

Classified by SQLSTATE and the state of the connection, never by exception class.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import sql

from consumer.errors import FatalError, FencedError, MicrobatchError, RejectedError, TopicPartition, UnavailableError
from consumer.sinks import Fence

_OFFSETS = """
create table if not exists microbatch_offsets (
  group_id text not null, topic text not null, partition int not null,
  next_offset bigint not null, owner_epoch bigint not null, owner text not null,
  updated_at timestamptz not null default now(),
  primary key (group_id, topic, partition))
"""
_CLAIM = """
insert into microbatch_offsets as o (group_id, topic, partition, next_offset, owner_epoch, owner)
values (%s, %s, %s, %s, 1, %s)
on conflict (group_id, topic, partition) do update
  set owner_epoch = o.owner_epoch + 1, owner = excluded.owner, updated_at = now()
returning owner_epoch, next_offset
"""
_CONFIRM = """
update microbatch_offsets set owner_epoch = owner_epoch + 1, updated_at = now()
where group_id = %s and topic = %s and partition = %s and owner_epoch = %s
returning owner_epoch, next_offset
"""
_LOCK = """
select topic, partition, owner_epoch, next_offset from microbatch_offsets
where group_id = %s and topic = any(%s) order by topic, partition for update
"""
_ADVANCE = """
update microbatch_offsets set next_offset = %s, updated_at = now()
where group_id = %s and topic = %s and partition = %s
"""
_RECORD = {"22", "23", "54", "P0", "44"}
_RETRY = {"08", "40", "53", "57", "25"}


def classify(error: psycopg.Error, broken: bool) -> MicrobatchError:
    """Turn a driver error into an instruction: reject the data, retry the batch, or stop."""
    state = error.sqlstate
    if broken or (state or "")[:2] in _RETRY or state in {"55P03", "55006"}:
        return UnavailableError(f"PostgreSQL: {type(error).__name__} ({state or 'connection lost'})")
    if state is None or state[:2] in _RECORD:
        return RejectedError(error.diag.message_primary or type(error).__name__, state)
    reason = f"PostgreSQL refused the set-up: {error.diag.message_primary} ({state})"
    return FatalError(reason, "Check that the table, its columns and the privileges are as the configuration says.")


class PostgresSink:
    """One table in insert mode, exactly once: rows and offsets share each COMMIT."""

    def __init__(self, dsn: str, table: str, group_id: str, owner: str) -> None:
        self._dsn, self._table, self._group, self._owner = dsn, table, group_id, owner
        self._connection: psycopg.Connection[Any] | None = None
        self._types: dict[str, int] = {}

    def columns(self) -> dict[str, str]:
        """The columns that can be written, by name, with PostgreSQL's name of their type, in the table's order."""
        query = """select attname, atttypid, format_type(atttypid, null) from pg_attribute
                   where attrelid = to_regclass(%s) and attnum > 0 and not attisdropped and attgenerated = ''
                   order by attnum"""
        with self._translated() as connection:
            name = sql.Identifier(*self._table.split(".")).as_string(connection)
            rows = connection.execute(query, [name]).fetchall()
            connection.rollback()
        if not rows:
            hint = f"Create the table {self._table}, or name another in sink.table."
            raise FatalError(f"PostgreSQL: there is no table {self._table}", hint)
        self._types = {row[0]: row[1] for row in rows}
        return {row[0]: row[2] for row in rows}

    def claim(self, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, Fence]:
        """See Sink.claim."""
        with self._translated() as connection:
            connection.execute(_OFFSETS)
            fences = {}
            for (topic, partition), start in sorted(starts.items()):
                row = connection.execute(_CLAIM, [self._group, topic, partition, start, self._owner]).fetchone()
                fences[topic, partition] = Fence(*row)  # type: ignore[misc]
            self._finish(connection)
        return fences

    def confirm(self, fences: Mapping[TopicPartition, Fence]) -> dict[TopicPartition, Fence]:
        """See Sink.confirm."""
        with self._translated() as connection:
            ours = {}
            for (topic, partition), fence in sorted(fences.items()):
                row = connection.execute(_CONFIRM, [self._group, topic, partition, fence.epoch]).fetchone()
                if row:
                    ours[topic, partition] = Fence(*row)
            self._finish(connection)
        return ours

    def begin(self, fences: Mapping[TopicPartition, Fence]) -> None:
        """See Sink.begin."""
        with self._translated() as connection:
            found = connection.execute(_LOCK, [self._group, sorted({topic for topic, _ in fences})])
            stored = {(topic, partition): Fence(epoch, offset) for topic, partition, epoch, offset in found}
        fenced = [key for key, fence in fences.items() if stored.get(key) != fence]
        if fenced:
            self.rollback()
            raise FencedError(fenced)

    def apply(self, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """See Sink.apply."""
        statement = sql.SQL("copy {} ({}) from stdin (format binary)").format(
            sql.Identifier(*self._table.split(".")), sql.SQL(", ").join(map(sql.Identifier, columns))
        )
        with (
            self._translated() as connection,
            connection.transaction(),
            connection.cursor() as cursor,
            cursor.copy(statement) as copy,
        ):
            copy.set_types([self._types[column] for column in columns])
            for row in rows:
                copy.write_row(row)

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """See Sink.commit."""
        with self._translated() as connection:
            for (topic, partition), offset in sorted(next_offsets.items()):
                connection.execute(_ADVANCE, [offset, self._group, topic, partition])
            self._finish(connection)

    def rollback(self) -> None:
        """See Sink.rollback."""
        if self._connection is not None and not self._connection.broken:
            self._connection.rollback()

    def close(self) -> None:
        """See Sink.close."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _finish(self, connection: psycopg.Connection[Any]) -> None:
        """COMMIT; a failed transaction answers ROLLBACK without raising, so the tag is what counts."""
        tag = connection.execute("commit").statusmessage
        if tag != "COMMIT":
            raise FatalError(f"PostgreSQL answered {tag} to COMMIT", "This is a defect of microbatch; report it.")

    @contextmanager
    def _translated(self) -> Iterator[psycopg.Connection[Any]]:
        try:
            if self._connection is None or self._connection.closed:
                name = f"microbatch:{self._owner}"[:63]
                self._connection = psycopg.connect(self._dsn, application_name=name, connect_timeout=10)
            yield self._connection
        except (psycopg.Error, UnicodeEncodeError) as error:
            connecting = self._connection is None or self._connection.closed
            if isinstance(error, UnicodeEncodeError):
                raise RejectedError("text holds a lone surrogate") from None
            raise classify(error, connecting) from error

"""The offset table in SQLite: who owns a partition, and where it goes on. The caller opens and ends transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from consumer.errors import FatalError, TopicPartition
from consumer.sinks import Claim, Fence, Position, StoredOffset

_CREATE = """
create table if not exists microbatch_offsets (
  group_id text not null, topic text not null, partition integer not null,
  next_offset integer not null, owner_epoch integer not null, owner text not null,
  cluster_id text not null, topic_id text not null,
  updated_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
  primary key (group_id, topic, partition))
"""
_EXISTS = "select 1 from sqlite_schema where type = 'table' and name = 'microbatch_offsets'"
_NOW = "updated_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
_INSERT = """
insert into microbatch_offsets as o
  (group_id, topic, partition, next_offset, owner_epoch, owner, cluster_id, topic_id) values (?, ?, ?, ?, 1, ?, ?, ?)
on conflict (group_id, topic, partition) do update set owner_epoch = o.owner_epoch + 1,
"""
_CLAIM = f"{_INSERT} owner = excluded.owner, {_NOW} returning owner_epoch, next_offset, cluster_id, topic_id"
_RESET = f"""{_INSERT} next_offset = excluded.next_offset, cluster_id = excluded.cluster_id,
  topic_id = excluded.topic_id, {_NOW}"""
_CONFIRM = """
select owner_epoch, next_offset from microbatch_offsets
where group_id = ? and topic = ? and partition = ? and owner_epoch = ?
"""
_FENCES = "select topic, partition, owner_epoch, next_offset from microbatch_offsets where group_id = ?"
_ADVANCE = f"""
update microbatch_offsets set next_offset = ?1, {_NOW}
where group_id = ?2 and topic = ?3 and partition = ?4 and next_offset <= ?1
"""  # noqa: S608 - constants
_ALL = """
select topic, partition, next_offset, cluster_id, topic_id, owner_epoch, owner, updated_at
from microbatch_offsets where group_id = ? order by topic, partition
"""


class OffsetTable:
    """The rows of one consumer group, as one instance, `owner`, sees them. Raises what sqlite3 raises."""

    def __init__(self, group_id: str, owner: str) -> None:
        self._group, self._owner = group_id, owner

    def create(self, connection: sqlite3.Connection) -> None:
        """Make the table if there is none."""
        connection.execute(_CREATE)

    def claim(
        self, connection: sqlite3.Connection, starts: Mapping[TopicPartition, Position]
    ) -> dict[TopicPartition, Claim]:
        """See Sink.claim."""
        claims = {}
        for partition, start in sorted(starts.items()):
            ((epoch, *position),) = connection.execute(_CLAIM, self._row(partition, start)).fetchall()
            claims[partition] = Claim(epoch, Position(*position))
        return claims

    def confirm(
        self, connection: sqlite3.Connection, fences: Mapping[TopicPartition, Fence]
    ) -> dict[TopicPartition, Fence]:
        """See Sink.confirm."""
        ours = {}
        for partition, fence in sorted(fences.items()):
            for row in connection.execute(_CONFIRM, [self._group, *partition, fence.epoch]).fetchall():
                ours[partition] = Fence(*row)
        return ours

    def fenced(self, connection: sqlite3.Connection, fences: Mapping[TopicPartition, Fence]) -> set[TopicPartition]:
        """The partitions of which the database says otherwise."""
        found = connection.execute(_FENCES, [self._group])
        stored = {(topic, partition): Fence(epoch, offset) for topic, partition, epoch, offset in found}
        return {partition for partition, fence in fences.items() if stored.get(partition) != fence}

    def advance(self, connection: sqlite3.Connection, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Store these offsets. Raises FatalError when a partition was never claimed or would go back."""
        moved = [(offset, self._group, *partition) for partition, offset in next_offsets.items()]
        if moved and connection.executemany(_ADVANCE, moved).rowcount < len(moved):
            hint = "This is a defect of microbatch; report it."
            raise FatalError(f"offsets would move back, or belong to nobody: {dict(next_offsets)}", hint)

    def reset(self, connection: sqlite3.Connection, positions: Mapping[TopicPartition, Position]) -> None:
        """See Sink.reset."""
        for partition, position in sorted(positions.items()):
            connection.execute(_RESET, self._row(partition, position))

    def all(self, connection: sqlite3.Connection) -> dict[TopicPartition, StoredOffset]:
        """See Sink.offsets."""
        if connection.execute(_EXISTS).fetchone() is None:
            return {}
        return {
            (topic, partition): StoredOffset(Position(offset, cluster, topic_id), epoch, owner, updated)
            for topic, partition, offset, cluster, topic_id, epoch, owner, updated in connection.execute(
                _ALL, [self._group]
            )
        }

    def _row(self, partition: TopicPartition, position: Position) -> list[str | int]:
        return [
            self._group,
            *partition,
            position.next_offset,
            self._owner,
            position.cluster_id,
            position.topic_id,
        ]

"""The offset table: how partitions are claimed, fenced and moved on. Rows are always locked in one order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from consumer.errors import TopicPartition
from consumer.sinks import Claim, Fence, Position, StoredOffset
from consumer.sinks.postgres import own
from consumer.sinks.postgres.session import application_name

Connection = psycopg.Connection[Any]
TABLE = "microbatch_offsets"
_CREATE = """
create table if not exists microbatch_offsets (
  group_id text not null, topic text not null, partition int not null,
  next_offset bigint not null, owner_epoch bigint not null, owner text not null,
  cluster_id text not null, topic_id text not null, updated_at timestamptz not null default now(),
  primary key (group_id, topic, partition))
"""
_CLAIM = """
insert into microbatch_offsets as o (group_id, topic, partition, next_offset, owner_epoch, owner, cluster_id, topic_id)
select %s, topic, partition, next_offset, 1, %s, cluster_id, topic_id
from unnest(%s::text[], %s::int[], %s::bigint[], %s::text[], %s::text[])
  as n (topic, partition, next_offset, cluster_id, topic_id) order by topic, partition
on conflict (group_id, topic, partition) do update
  set owner_epoch = o.owner_epoch + 1, updated_at = now(), {change}
returning topic, partition, owner_epoch, next_offset, cluster_id, topic_id
"""
_OWN = "owner = excluded.owner"
_MOVE = "next_offset = excluded.next_offset, cluster_id = excluded.cluster_id, topic_id = excluded.topic_id"
# By epoch: who was fenced waits for nobody. The new owner may be stopped in the middle of a transaction, and whoever
# takes its partitions over may be the very one that would wait for it here.
_LOCK = """
select topic, partition, owner_epoch, next_offset from microbatch_offsets o
join unnest({topics}::text[], {partitions}::int[], {epochs}::bigint[]) as n (topic, partition, owner_epoch)
  using (topic, partition, owner_epoch)
where group_id = {group} order by topic, partition for update of o"""
_ADVANCE = """
update microbatch_offsets o set next_offset = n.next_offset, updated_at = now()
from unnest({topics}::text[], {partitions}::int[], {offsets}::bigint[]) as n (topic, partition, next_offset)
where group_id = {group} and o.topic = n.topic and o.partition = n.partition"""
_STORED = """
select topic, partition, next_offset, cluster_id, topic_id, owner_epoch, owner,
  to_char(updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
from microbatch_offsets where group_id = %s order by topic, partition
"""
_OWNERS = """
select distinct owner from microbatch_offsets
join unnest(%s::text[], %s::int[]) as n (topic, partition) using (topic, partition) where group_id = %s
"""
_SESSIONS = """
from pg_stat_activity where application_name = any(%s) and usename = current_user and datname = current_database()
  and pid <> pg_backend_pid()
"""


def create(connection: Connection) -> None:
    """Create the table if it is missing, as `own.create` does."""
    own.create(connection, TABLE, _CREATE)


def claim(
    connection: Connection, group: str, owner: str, starts: Mapping[TopicPartition, Position], move: bool = False
) -> dict[TopicPartition, Claim]:
    """Raise the epochs, all in one statement. `move`: the positions change and the owner stays, not the other way."""
    topics, partitions = _columns(starts)
    offsets, clusters, ids = zip(*((p.next_offset, p.cluster_id, p.topic_id) for p in starts.values()), strict=True)
    query = sql.SQL(_CLAIM).format(change=sql.SQL(_MOVE if move else _OWN))
    found = connection.execute(query, [group, owner, topics, partitions, list(offsets), list(clusters), list(ids)])
    return {(topic, partition): Claim(epoch, Position(*rest)) for topic, partition, epoch, *rest in found}


def confirm(connection: Connection, group: str, fences: Mapping[TopicPartition, Fence]) -> dict[TopicPartition, Fence]:
    """Those whose epochs are still as here, and their next offsets; locked, so that no transaction is open on them."""
    return held(connection.execute(lock(group, fences)))


def lock(group: str, fences: Mapping[TopicPartition, Fence]) -> sql.Composed:
    """The statement that locks the rows that still have these epochs; `held` reads its answer."""
    topics, partitions = _columns(fences)
    epochs = [fence.epoch for fence in fences.values()]
    return sql.SQL(_LOCK).format(topics=topics, partitions=partitions, epochs=epochs, group=group)


def held(answer: Iterable[Sequence[Any]]) -> dict[TopicPartition, Fence]:
    """What was locked, with its next offsets; numbers may be text."""
    return {(topic, int(partition)): Fence(int(epoch), int(at)) for topic, partition, epoch, at in answer}


def advance(group: str, next_offsets: Mapping[TopicPartition, int]) -> sql.Composed:
    """The statement that moves these rows, which are locked, on."""
    topics, numbers = _columns(next_offsets)
    offsets = list(next_offsets.values())
    return sql.SQL(_ADVANCE).format(topics=topics, partitions=numbers, offsets=offsets, group=group)


def stored(connection: Connection, group: str) -> dict[TopicPartition, StoredOffset]:
    """Everything of this group."""
    if not own.exists(connection, TABLE):
        return {}
    return {
        (topic, partition): StoredOffset(Position(offset, cluster, number), epoch, owner, updated)
        for topic, partition, offset, cluster, number, epoch, owner, updated in connection.execute(_STORED, [group])
    }


def owners_sessions(connection: Connection, group: str, partitions: Collection[TopicPartition]) -> list[str]:
    """The names under which the owners of these partitions are connected."""
    owners = connection.execute(_OWNERS, [*_columns(partitions), group])
    return [application_name(owner) for (owner,) in owners]


def terminate(connection: Connection, names: list[str]) -> None:
    """End these sessions of our own user in our own database, but for this one."""
    connection.execute("select pg_terminate_backend(pid)" + _SESSIONS, [names])


def alive(connection: Connection, names: list[str]) -> bool:
    """Whether any of these sessions is left."""
    return connection.execute("select 1" + _SESSIONS + "limit 1", [names]).fetchone() is not None


def _columns(keys: Iterable[TopicPartition]) -> tuple[list[str], list[int]]:
    pairs = list(keys)
    return [topic for topic, _ in pairs], [partition for _, partition in pairs]

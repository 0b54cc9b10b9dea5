"""The table of dead letters. Its rows are always locked in one order, after the offsets."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import psycopg

from consumer.errors import TopicPartition
from consumer.letter import OPEN, Coordinates, DeadLetter, Evidence, State
from consumer.sinks import PENDING_BYTES, Position, Selection, Tally
from consumer.sinks.letters import COLUMNS, TABLE, json_of, letter_of, parameters_of, row_of
from consumer.sinks.postgres import own

# ruff: noqa: S608 - constants

Connection = psycopg.Connection[Any]
_ORDER = 'topic, partition, "offset"'  # by code points, as Python orders text, whatever the database's collation
_CREATE = f"""
create table if not exists {TABLE} (
  group_id text not null, topic text collate "C" not null, partition int not null, "offset" bigint not null,
  state text not null, stage text not null, evidence jsonb not null,
  key bytea, value bytea, headers json, timestamp_type int not null, timestamp_ms bigint not null,
  replay_count int not null, first_failed_at timestamptz not null, published_at timestamptz,
  primary key (group_id, {_ORDER}));
create index if not exists {TABLE}_pending on {TABLE} (group_id, {_ORDER}) where state = 'pending'
"""
_READ = COLUMNS.replace("evidence", "evidence::text").replace("headers", "headers::text")
_COPY = f"copy {TABLE} (group_id, {COLUMNS}) from stdin (format binary)"
_TYPES = ["text", "text", "int4", "int8", "text", "text", "jsonb", "bytea", "bytea", "json"]
_TYPES += ["int4", "int8", "int4", "timestamptz"]
_GIVEN = f"unnest(%(topics)s::text[], %(partitions)s::int[], %(offsets)s::bigint[]) as n ({_ORDER})"
# The right to delete is needed for what comes seldom, and asked for at once.
_THERE = f"""
with none as (delete from {TABLE} where false)
select exists (select from {TABLE} d
  join unnest(%(topics)s::text[], %(partitions)s::int[], %(firsts)s::bigint[], %(lasts)s::bigint[])
    as n (topic, partition, first, last) using (topic, partition)
  where group_id = %(group)s and "offset" between first and last)
"""
_HELD = f"""
select {_ORDER} from {TABLE} d join {_GIVEN} using ({_ORDER})
where group_id = %(group)s and state = any(%(states)s::text[]) order by {_ORDER} for update of d
"""
_THOSE = 'd.group_id = %(group)s and (d.topic, d.partition, d."offset") = (held.topic, held.partition, held."offset")'
_REPLACE = f"with held as ({_HELD}) delete from {TABLE} d using held where {_THOSE}"
_CHANGE = f"with held as ({_HELD}) update {TABLE} d set {{change}} from held where {_THOSE}"
_REPLAYED = _CHANGE.format(change="state = 'replayed', replay_count = replay_count + 1")
_FAILED = f"""
update {TABLE} d set evidence = n.evidence, stage = n.stage, replay_count = replay_count + 1
from unnest(%s::text[], %s::int[], %s::bigint[], %s::jsonb[], %s::text[]) as n ({_ORDER}, evidence, stage)
where d.group_id = %s and (d.topic, d.partition, d."offset") = (n.topic, n.partition, n."offset")
"""
_PUBLISHED = _CHANGE.format(change="state = 'published', published_at = now()")
_EMPTIED = _CHANGE.format(change="state = 'published', published_at = now(), key = null, value = null, headers = null")
# A look into the index for each partition: what others have pending, and how much, costs nothing.
_PENDING = f"""
select {_READ} from (
  select p.*, sum(p.size) over (order by p.topic, p.partition, p."offset") - p.size as before
  from unnest(%(topics)s::text[], %(partitions)s::int[]) as n (topic, partition) cross join lateral (
    select d.*, coalesce(octet_length(key), 0) + coalesce(octet_length(value), 0) as size from {TABLE} d
    where group_id = %(group)s and d.topic = n.topic and d.partition = n.partition and state = 'pending'
    order by "offset" limit %(most)s) as p) as l
where before <= %(size)s order by {_ORDER} limit %(most)s
"""
_REREAD = f"""
with moved as (
  select topic, partition, n.next_offset
  from microbatch_offsets o
  join unnest(%(topics)s::text[], %(partitions)s::int[], %(offsets)s::bigint[], %(ids)s::text[])
    as n (topic, partition, next_offset, topic_id) using (topic, partition, topic_id)
  where group_id = %(group)s order by topic, partition for update of o)
update {TABLE} d set state = 'discarded' from moved
where d.group_id = %(group)s and d.topic = moved.topic and d.partition = moved.partition
  and d."offset" >= moved.next_offset and d.state = any(%(states)s::text[])
"""
_COUNT = f"""
select count(*) from {TABLE} join unnest(%(topics)s::text[], %(partitions)s::int[]) as n (topic, partition)
  using (topic, partition) where group_id = %(group)s and state = 'pending'
"""
_SELECTED = f"""
group_id = %(group)s and state = any(%(states)s::text[])
and (%(topic)s::text is null or topic = %(topic)s)
and (%(partition)s::int is null or partition = %(partition)s)
and (%(stage)s::text is null or stage = %(stage)s)
and (%(reason)s::text is null or position(lower(%(reason)s) in lower(evidence->>'reason')) > 0)
and (%(sqlstate)s::text is null or evidence->>'sqlstate' = %(sqlstate)s)
and (%(table)s::text is null or evidence->>'table' = %(table)s)
and (%(constraint)s::text is null or evidence->>'constraint' = %(constraint)s)
and (%(since)s::timestamptz is null or first_failed_at >= %(since)s)
and (%(until)s::timestamptz is null or first_failed_at < %(until)s)
and (%(topics)s::text[] is null or ({_ORDER}) in (select * from {_GIVEN}))
"""
_SELECT = f"""
select {_READ} from {TABLE}
where {_SELECTED} and ({_ORDER}) > (%(after_topic)s, %(after_partition)s, %(after_offset)s)
order by {_ORDER} limit %(most)s
"""
_KIND = "topic, state, stage, evidence->>'error', evidence->>'sqlstate', evidence->>'table', evidence->>'constraint'"
_TALLY = f"""
select count(*), {_KIND}, min(first_failed_at), max(first_failed_at) from {TABLE}
where {_SELECTED} group by {_KIND} order by count(*) desc, {_KIND}
"""
_DISCARD = f"""
with held as (select {_ORDER} from {TABLE} where {_SELECTED} order by {_ORDER} for update),
changed as (
  update {TABLE} d set state = 'discarded' from held where {_THOSE} returning 1)
select count(*) from changed
"""


def create(connection: Connection) -> None:
    """Create the table if it is missing, as `own.create` does."""
    own.create(connection, TABLE, _CREATE)


def reread(connection: Connection, group: str, positions: Mapping[TopicPartition, Position]) -> None:
    """See Sink.reset: discard what is read again; before these positions are stored, in the same transaction."""
    topics, partitions = map(list, zip(*positions, strict=True))
    offsets, ids = map(list, zip(*((p.next_offset, p.topic_id) for p in positions.values()), strict=True))
    given = {"topics": topics, "partitions": partitions, "offsets": offsets, "ids": ids}
    connection.execute(_REREAD.encode(), given | {"group": group, "states": [state.value for state in OPEN]})


class PostgresLetters:
    """See Letters. `translated` gives the connection, with its errors as instructions; `join` is called where something
    is written into the sink's open transaction, and raises FatalError if there is none.
    """

    def __init__(
        self, group: str, translated: Callable[[], AbstractContextManager[Connection]], join: Callable[[], None]
    ) -> None:
        self._group, self._translated, self._join = group, translated, join

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """See Letters.keep."""
        last = {letter.coordinates: letter for letter in letters}
        with self._translated() as connection:
            self._join()
            if not last:
                return
            # Seldom: none of them was here before.
            ((there,),) = connection.execute(_THERE.encode(), self._spanned(last)).fetchall()
            if there:
                connection.execute(_REPLACE.encode(), self._given(last, tuple(State)))
            with connection.cursor() as cursor, cursor.copy(_COPY.encode()) as channel:
                channel.set_types(_TYPES)
                for letter in last.values():
                    channel.write_row((self._group, *row_of(letter)))

    def lock(self, coordinates: Collection[Coordinates]) -> set[Coordinates]:
        """See Letters.lock."""
        with self._translated() as connection:
            self._join()
            return set(connection.execute(_HELD.encode(), self._given(coordinates, OPEN)).fetchall())

    def settle(self, replayed: Collection[Coordinates], failed: Mapping[Coordinates, Evidence]) -> None:
        """See Letters.settle."""
        with self._translated() as connection:
            self._join()
            if replayed:
                connection.execute(_REPLAYED.encode(), self._given(replayed, OPEN))
            if still := self.lock(failed):
                told = [(json_of(failed[key]).decode(), failed[key].stage) for key in still]
                columns = map(list, (*zip(*still, strict=True), *zip(*told, strict=True)))
                connection.execute(_FAILED.encode(), [*columns, self._group])

    def pending(self, partitions: Collection[TopicPartition], most: int, size: int = PENDING_BYTES) -> list[DeadLetter]:
        """See Letters.pending."""
        given = self._of(partitions) | {"most": most, "size": size}
        return [letter_of(row) for row in self._read(_PENDING, given)]

    def count_pending(self, partitions: Collection[TopicPartition]) -> int:
        """See Letters.count_pending."""
        return sum(count for (count,) in self._read(_COUNT, self._of(partitions)))

    def published(self, coordinates: Collection[Coordinates], *, empty: bool = False) -> None:
        """See Letters.published."""
        with self._translated() as connection:
            change = _EMPTIED if empty else _PUBLISHED
            connection.execute(change.encode(), self._given(coordinates, [State.PENDING]))

    def select(self, which: Selection, most: int, after: Coordinates | None = None) -> list[DeadLetter]:
        """See Letters.select."""
        names = ("after_topic", "after_partition", "after_offset")
        beyond = dict(zip(names, after or ("", -1, -1), strict=True))
        return [letter_of(row) for row in self._read(_SELECT, self._selected(which) | beyond | {"most": most})]

    def tally(self, which: Selection) -> list[Tally]:
        """See Letters.tally."""
        found = self._read(_TALLY, self._selected(which))
        return [Tally(count, topic, State(state), *rest) for count, topic, state, *rest in found]

    def discard(self, which: Selection) -> int:
        """See Letters.discard."""
        return sum(count for (count,) in self._read(_DISCARD, self._selected(which, OPEN)))

    def _read(self, query: str, parameters: dict[str, Any]) -> list[tuple[Any, ...]]:
        """What a statement of its own answers; nothing if the table was never made."""
        with self._translated() as connection:
            try:
                return connection.execute(query.encode(), parameters, binary=True).fetchall()
            except psycopg.errors.UndefinedTable:
                return []

    def _given(self, coordinates: Collection[Coordinates], states: Sequence[State]) -> dict[str, Any]:
        """Rows by their coordinates, as far as they are in one of these states."""
        topics, partitions, offsets = map(list, zip(*coordinates, strict=True)) if coordinates else ([], [], [])
        given = {"topics": topics, "partitions": partitions, "offsets": offsets}
        return given | {"group": self._group, "states": [state.value for state in states]}

    def _spanned(self, coordinates: Collection[Coordinates]) -> dict[str, Any]:
        """The partitions, with the first and the last of their offsets."""
        firsts: dict[TopicPartition, int] = {}
        lasts: dict[TopicPartition, int] = {}
        for topic, partition, offset in sorted(coordinates):
            firsts.setdefault((topic, partition), offset)
            lasts[topic, partition] = offset
        return self._of(lasts) | {"firsts": list(firsts.values()), "lasts": list(lasts.values())}

    def _of(self, partitions: Collection[TopicPartition]) -> dict[str, Any]:
        topics, numbers = map(list, zip(*partitions, strict=True)) if partitions else ([], [])
        return {"group": self._group, "topics": topics, "partitions": numbers}

    def _selected(self, which: Selection, among: Sequence[State] = tuple(State)) -> dict[str, Any]:
        states = [state for state in which.states if state in among]
        given = self._given(which.coordinates or (), states)
        if which.coordinates is None:
            given |= {"topics": None, "partitions": None, "offsets": None}
        return parameters_of(which) | given | {"since": which.since, "until": which.until}

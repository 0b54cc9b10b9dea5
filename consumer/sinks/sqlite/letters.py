"""The table of dead letters in SQLite."""

from __future__ import annotations

import datetime
import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from consumer.errors import TopicPartition
from consumer.letter import OPEN, Coordinates, DeadLetter, Evidence, State
from consumer.sinks import PENDING_BYTES, Position, Selection, Tally
from consumer.sinks.letters import COLUMNS, TABLE, json_of, letter_of, parameters_of, row_of

# ruff: noqa: S608 - constants

_ORDER = 'topic, partition, "offset"'
_CREATE = f"""
create table if not exists {TABLE} (
  group_id text not null, topic text not null, partition integer not null, "offset" integer not null,
  state text not null, stage text not null, evidence text not null,
  key blob, value blob, headers text, timestamp_type integer not null, timestamp_ms integer not null,
  replay_count integer not null, first_failed_at text not null, published_at text,
  primary key (group_id, {_ORDER}))
"""
_INDEX = f"create index if not exists {TABLE}_pending on {TABLE} (group_id, {_ORDER}) where state = 'pending'"
_EXISTS = f"select 1 from sqlite_schema where type = 'table' and name = '{TABLE}'"
_JSON = "cast(? as text)"
_KEEP = f"""
insert or replace into {TABLE} (group_id, {COLUMNS})
values (?, ?, ?, ?, ?, ?, {_JSON}, ?, ?, {_JSON}, ?, ?, ?, ?)
"""
_OPEN = ", ".join(f"'{state}'" for state in OPEN)
_ONE = 'group_id = ? and topic = ? and partition = ? and "offset" = ?'
_LOCK = f"select {_ORDER} from {TABLE} where {_ONE} and state in ({_OPEN})"
_REPLAYED = f"""
update {TABLE} set state = 'replayed', replay_count = replay_count + 1 where {_ONE} and state in ({_OPEN})
"""
_FAILED = f"""
update {TABLE} set evidence = {_JSON}, stage = ?, replay_count = replay_count + 1 where {_ONE} and state in ({_OPEN})
"""
_NOW = "strftime('%Y-%m-%d %H:%M:%f+00:00', 'now')"
_PUBLISHED = f"""
update {TABLE} set state = 'published', published_at = {_NOW}{{more}} where {_ONE} and state = 'pending'
"""
_OF_PARTITION = f"from {TABLE} where group_id = ? and topic = ? and partition = ? and state = 'pending'"
_SIZE = "(coalesce(length(key), 0) + coalesce(length(value), 0))"
_PENDING = f"""
select {COLUMNS} from (
  select *, sum({_SIZE}) over (order by "offset") - {_SIZE} as before {_OF_PARTITION} order by "offset" limit ?)
where before <= ? order by "offset"
"""
_REREAD = f"""
update {TABLE} set state = 'discarded'
where group_id = ?1 and topic = ?2 and partition = ?3 and "offset" >= ?4 and state in ({_OPEN}) and exists (
  select 1 from microbatch_offsets where group_id = ?1 and topic = ?2 and partition = ?3 and topic_id = ?5)
"""
_COUNT = f"select count(*) {_OF_PARTITION}"
_SELECTED = f"""
group_id = :group and state in (select value from json_each(:states))
and (:topic is null or topic = :topic)
and (:partition is null or partition = :partition)
and (:stage is null or stage = :stage)
and (:reason is null or instr(lower(evidence->>'reason'), lower(:reason)) > 0)
and (:sqlstate is null or evidence->>'sqlstate' = :sqlstate)
and (:table is null or evidence->>'table' = :table)
and (:constraint is null or evidence->>'constraint' = :constraint)
and (:since is null or first_failed_at >= :since)
and (:until is null or first_failed_at < :until)
and (:coordinates is null
     or ({_ORDER}) in (select value->>0, value->>1, value->>2 from json_each(:coordinates)))
"""
_SELECT = f"""
select {COLUMNS} from {TABLE}
where {_SELECTED} and ({_ORDER}) > (:after_topic, :after_partition, :after_offset) order by {_ORDER} limit :most
"""
_KIND = "topic, state, stage, evidence->>'error', evidence->>'sqlstate', evidence->>'table', evidence->>'constraint'"
_TALLY = f"""
select count(*), {_KIND}, min(first_failed_at), max(first_failed_at) from {TABLE}
where {_SELECTED} group by {_KIND} order by count(*) desc, {_KIND}
"""
_DISCARD = f"update {TABLE} set state = 'discarded' where {_SELECTED}"
_Connected = Callable[[], AbstractContextManager[sqlite3.Connection]]


def create(connection: sqlite3.Connection) -> None:
    """Make the table if there is none."""
    connection.execute(_CREATE)
    connection.execute(_INDEX)


def reread(connection: sqlite3.Connection, group: str, positions: Mapping[TopicPartition, Position]) -> None:
    """See Sink.reset: discard what is read again; before these positions are stored, in the same transaction."""
    given = ((group, *key, position.next_offset, position.topic_id) for key, position in positions.items())
    connection.executemany(_REREAD, given)


class SqliteLetters:
    """See Letters. `connected` gives the connection, `joined` that of the sink's open transaction (or raises
    UnavailableError), `transaction` one in a transaction of its own; errors on them become instructions.
    """

    def __init__(self, group: str, connected: _Connected, joined: _Connected, transaction: _Connected) -> None:
        self._group, self._connected, self._joined, self._transaction = group, connected, joined, transaction

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """See Letters.keep."""
        with self._joined() as connection:
            rows = map(row_of, letters)
            connection.executemany(_KEEP, ((self._group, *row, _text(failed_at)) for *row, failed_at in rows))

    def lock(self, coordinates: Collection[Coordinates]) -> set[Coordinates]:
        """See Letters.lock."""
        with self._joined() as connection:
            return {row for one in self._each(coordinates) for row in connection.execute(_LOCK, one)}

    def settle(self, replayed: Collection[Coordinates], failed: Mapping[Coordinates, Evidence]) -> None:
        """See Letters.settle."""
        with self._joined() as connection:
            connection.executemany(_REPLAYED, self._each(replayed))
            told = ((json_of(evidence), evidence.stage, self._group, *key) for key, evidence in failed.items())
            connection.executemany(_FAILED, told)

    def pending(self, partitions: Collection[TopicPartition], most: int, size: int = PENDING_BYTES) -> list[DeadLetter]:
        """See Letters.pending."""
        found: list[DeadLetter] = []
        for partition in sorted(partitions):
            size_left = size - sum(len(one.key or b"") + len(one.value or b"") for one in found)
            found += map(_letter, self._read(_PENDING, (self._group, *partition, most - len(found), size_left)))
        return found

    def count_pending(self, partitions: Collection[TopicPartition]) -> int:
        """See Letters.count_pending."""
        return sum(count for key in partitions for (count,) in self._read(_COUNT, (self._group, *key)))

    def published(self, coordinates: Collection[Coordinates], *, empty: bool = False) -> None:
        """See Letters.published."""
        with self._transaction() as connection:
            more = ", key = null, value = null, headers = null" if empty else ""
            connection.executemany(_PUBLISHED.format(more=more), self._each(coordinates))

    def select(self, which: Selection, most: int, after: Coordinates | None = None) -> list[DeadLetter]:
        """See Letters.select."""
        names = ("after_topic", "after_partition", "after_offset")
        beyond = dict(zip(names, after or ("", -1, -1), strict=True))
        return [_letter(row) for row in self._read(_SELECT, self._selected(which) | beyond | {"most": most})]

    def tally(self, which: Selection) -> list[Tally]:
        """See Letters.tally."""
        return [
            Tally(count, topic, State(state), *kind, *map(_time, (first, last)))
            for count, topic, state, *kind, first, last in self._read(_TALLY, self._selected(which))
        ]

    def discard(self, which: Selection) -> int:
        """See Letters.discard."""
        with self._transaction() as connection:
            return connection.execute(_DISCARD, self._selected(which, OPEN)).rowcount

    def _read(self, query: str, parameters: Any) -> list[tuple[Any, ...]]:
        """What is found; nothing if the table was never made."""
        with self._connected() as connection:
            there = connection.execute(_EXISTS).fetchone()
            return connection.execute(query, parameters).fetchall() if there else []

    def _each(self, coordinates: Iterable[Coordinates]) -> Iterable[tuple[Any, ...]]:
        return ((self._group, *key) for key in coordinates)

    def _selected(self, which: Selection, among: Sequence[State] = tuple(State)) -> dict[str, Any]:
        return parameters_of(which) | {
            "group": self._group,
            "states": json.dumps([state for state in which.states if state in among]),
            "since": which.since and _text(which.since),
            "until": which.until and _text(which.until),
            "coordinates": None if which.coordinates is None else json.dumps(which.coordinates),
        }


def _letter(row: tuple[Any, ...]) -> DeadLetter:
    return letter_of((*row[:-1], _time(row[-1])))


def _text(time: datetime.datetime) -> str:
    """Of one width, so that text compares as the times do."""
    return time.astimezone(datetime.UTC).isoformat(" ", "microseconds")


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)

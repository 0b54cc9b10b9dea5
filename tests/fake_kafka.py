"""Kafka in memory: a small real broker, and the Source and Cluster on it. Passes tests/contract/test_source.py."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from consumer.cluster import LogState, Start
from consumer.errors import TopicPartition
from consumer.record import Headers
from consumer.source import Listener

Partitions = frozenset[TopicPartition]


@dataclass(frozen=True, slots=True)
class MemoryMessage:
    """One record as read."""

    name: str
    number: int
    place: int
    body: bytes | None
    label: bytes | None = None
    millis: int = 1_700_000_000_000

    def topic(self) -> str:
        return self.name

    def partition(self) -> int:
        return self.number

    def offset(self) -> int:
        return self.place

    def value(self) -> bytes | None:
        return self.body

    def key(self) -> bytes | None:
        return self.label

    def headers(self) -> Headers | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return (1, self.millis)

    def __len__(self) -> int:
        return len(self.body or b"")


@dataclass
class _Log:
    topic_id: str
    messages: list[MemoryMessage] = field(default_factory=list)
    end: int = 0


class MemoryBroker:
    """Topics, groups' offsets, and the assignment of each group's members; safe from any thread."""

    def __init__(self, topics: Mapping[str, int]) -> None:
        self.changed = threading.Condition()
        self.logs: dict[TopicPartition, _Log] = {}
        self.committed: dict[tuple[str, TopicPartition], int] = {}
        self.members: dict[str, list[MemorySource]] = {}
        self.cluster_id = "memory"
        for topic, count in topics.items():
            self.create(topic, count)

    def create(self, topic: str, partitions: int) -> None:
        """A topic, new or anew: its id is another one each time."""
        with self.changed:
            identity = f"{topic}-{time.monotonic_ns()}"
            self.logs |= {(topic, number): _Log(identity) for number in range(partitions)}

    def produce(self, topic: str, partition: int, value: bytes | None, key: bytes | None = None) -> int:
        """Append a record; returns its offset."""
        with self.changed:
            log = self.logs[topic, partition]
            log.messages.append(MemoryMessage(topic, partition, log.end, value, key))
            log.end += 1
            self.changed.notify_all()
            return log.end - 1

    def mark(self, topic: str, partition: int) -> None:
        """Append what is no record, as the end of a transaction is: an offset that nobody gets."""
        with self.changed:
            self.logs[topic, partition].end += 1
            self.changed.notify_all()

    def delete_before(self, topic: str, partition: int, offset: int) -> None:
        """Retention: the records before `offset` go."""
        with self.changed:
            log = self.logs[topic, partition]
            log.messages = [m for m in log.messages if m.offset() >= offset]

    def low(self, partition: TopicPartition) -> int:
        log = self.logs[partition]
        return log.messages[0].offset() if log.messages else log.end

    def wanted(self, source: MemorySource) -> Partitions:
        """What this member is to own: partitions dealt out in turn."""
        members = self.members.get(source.group, [])
        if source not in members:
            return frozenset()
        keys = sorted(key for key in self.logs if key[0] in source.topics)
        return frozenset(keys[members.index(source) :: len(members)])

    def free(self, partitions: Partitions, source: MemorySource) -> Partitions:
        """Those that no other member still holds."""
        held = {key for member in self.members.get(source.group, []) if member is not source for key in member.owned}
        return partitions - held


class MemorySource:
    """Source on a MemoryBroker; rebalances happen inside poll, cooperatively."""

    def __init__(self, broker: MemoryBroker, group: str, topics: Collection[str]) -> None:
        self.broker, self.group, self.topics = broker, group, frozenset(topics)
        self.owned: Partitions = frozenset()
        self._listener: Listener | None = None
        self._next: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._ended: dict[TopicPartition, int] = {}  # as told last

    def open(self, listener: Listener) -> None:
        self._listener = listener
        self._join()

    def poll(self, records: int, timeout: float) -> list[MemoryMessage]:
        end = time.monotonic() + timeout
        self._rebalance()
        taken: list[MemoryMessage] = []
        with self.broker.changed:
            while True:
                lost = self._take(records, taken)
                left = end - time.monotonic()
                if lost or len(taken) >= records or left <= 0:
                    break
                self.broker.changed.wait(left)
        for key in lost:
            self._paused.add(key)
            self._told().out_of_range(key)
        for key in sorted(self.owned - self._paused):
            end = self.broker.logs[key].end
            if self._next[key] == end and self._ended.get(key) != end:
                self._ended[key] = end
                self._told().ended(key, end)
        return taken

    def start(self, positions: Mapping[TopicPartition, int]) -> None:
        self.seek(positions)
        self.resume(positions)

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        self._next |= positions
        for key in positions:
            self._ended.pop(key, None)

    def pause(self, partitions: Collection[TopicPartition]) -> None:
        self._paused |= set(partitions)

    def resume(self, partitions: Collection[TopicPartition]) -> None:
        self._paused -= set(partitions)

    def commit(self, next_offsets: Mapping[TopicPartition, int], wait: bool) -> None:
        with self.broker.changed:
            self.broker.committed |= {(self.group, key): offset for key, offset in next_offsets.items()}

    def high_watermark(self, partition: TopicPartition) -> int | None:
        return self.broker.logs[partition].end

    def rejoin(self) -> None:
        self.close()
        self._join()

    def connected(self) -> bool:
        return True

    def renew(self) -> None:
        if self.owned:
            self.lose()
        self.vanish()
        self._join()

    def close(self) -> None:
        if self.owned:
            self._told().revoked(self.owned)
        self.vanish()

    def vanish(self) -> None:
        """Be gone without a word, as a killed process is."""
        with self.broker.changed:
            self.owned = frozenset()
            self.broker.members[self.group].remove(self)
            self.broker.changed.notify_all()

    def lose(self) -> None:
        """As after a pause longer than the session time-out: what was ours is somebody else's already."""
        lost, self.owned = self.owned, frozenset()
        self._told().lost(lost)

    def _join(self) -> None:
        with self.broker.changed:
            self.broker.members.setdefault(self.group, []).append(self)

    def _told(self) -> Listener:
        assert self._listener is not None
        return self._listener

    def _rebalance(self) -> None:
        with self.broker.changed:
            wanted = self.broker.wanted(self)
            going, coming = self.owned - wanted, self.broker.free(wanted - self.owned, self)
        if going:
            self._told().revoked(going)
        with self.broker.changed:
            coming = self.broker.free(coming, self)
            self.owned = (self.owned - going) | coming
            self._paused |= coming
            self.broker.changed.notify_all()
        if coming:
            self._told().assigned(coming)

    def _take(self, records: int, taken: list[MemoryMessage]) -> list[TopicPartition]:
        lost = []
        for key in sorted(self.owned - self._paused):
            at = self._next[key]
            if at < self.broker.low(key) or at > self.broker.logs[key].end:
                lost.append(key)
                continue
            left = [m for m in self.broker.logs[key].messages if m.offset() >= at]
            part = left[: records - len(taken)]
            if part:
                taken += part
                self._next[key] = part[-1].offset() + 1
            if len(part) == len(left):
                self._next[key] = self.broker.logs[key].end
        return lost


class MemoryCluster:
    """Cluster on a MemoryBroker."""

    def __init__(self, broker: MemoryBroker, group: str) -> None:
        self._broker, self._group = broker, group

    def states(self, partitions: Collection[TopicPartition]) -> dict[TopicPartition, LogState]:
        with self._broker.changed:
            return {key: self._state(key) for key in partitions}

    def existing(self) -> set[TopicPartition]:
        with self._broker.changed:
            return set(self._broker.logs)

    def start(self, start: Start, states: Mapping[TopicPartition, LogState]) -> dict[TopicPartition, int]:
        return {key: state.high if start == "latest" else state.low for key, state in states.items()}

    def ask_ids(self, topics: Collection[str]) -> Callable[[], dict[str, str] | None]:
        ids = {topic: self._broker.logs[topic, 0].topic_id for topic in topics}
        return lambda: ids

    def ask_ends(self, partitions: Collection[TopicPartition]) -> Callable[[], dict[TopicPartition, int] | None]:
        ends = {key: self._broker.logs[key].end for key in partitions}
        return lambda: ends

    def _state(self, key: TopicPartition) -> LogState:
        log = self._broker.logs[key]
        committed = self._broker.committed.get((self._group, key))
        return LogState(self._broker.low(key), log.end, committed, self._broker.cluster_id, log.topic_id)


@dataclass
class Notes:
    """A listener that keeps what it was told."""

    owned: set[TopicPartition] = field(default_factory=set)
    revoked_once: set[TopicPartition] = field(default_factory=set)
    gone_out_of_range: list[TopicPartition] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    ends: dict[TopicPartition, int] = field(default_factory=dict)

    def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        self.owned |= partitions

    def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        self.owned -= partitions
        self.revoked_once |= partitions

    def lost(self, partitions: frozenset[TopicPartition]) -> None:
        self.owned -= partitions

    def out_of_range(self, partition: TopicPartition) -> None:
        self.gone_out_of_range.append(partition)

    def ended(self, partition: TopicPartition, next_offset: int) -> None:
        self.ends[partition] = next_offset

    def commit_failed(self, reason: str) -> None:
        self.troubles.append(reason)

    def trouble(self, reason: str) -> None:
        self.troubles.append(reason)

    def away(self, reason: str) -> None:
        self.troubles.append(reason)

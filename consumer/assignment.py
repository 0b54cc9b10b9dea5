"""What becomes of each partition between its assignment and its end; pure book-keeping, with the clock handed in.

assigned -> UNCLAIMED -> CLAIMING -> FLOWING
                ^            |          | fenced: somebody else claimed it
                |            v          v
                +-- 10 s -- HELD      FENCED -- still ours by Kafka after 10 s: join the group anew

From anywhere to PAUSED while an operator wants it left alone; then UNCLAIMED again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from consumer.cluster import LogState
from consumer.errors import TopicPartition
from consumer.sinks import Claim

HOLD_SECONDS = 10.0
ORPHAN_SECONDS = 10.0
DESERTED_SECONDS = 60.0  # twice as long each time, up to an hour
_LONGEST_SECONDS = 3600.0


class Phase(StrEnum):
    """Where a partition stands; only FLOWING ones are read."""

    UNCLAIMED = "unclaimed"
    CLAIMING = "claiming"
    FLOWING = "flowing"
    HELD = "held"
    FENCED = "fenced"
    PAUSED = "paused"


@dataclass(slots=True)
class _Entry:
    serial: int
    phase: Phase
    since: float
    reason: str = ""
    topic_id: str = ""


class Assignment:
    """The partitions that Kafka says are ours. A serial tells one assignment of a partition from the next.

    `stops`: whether an operator wants this one left alone; when its answers change, `steer` is to be called.
    """

    def __init__(self, stops: Callable[[TopicPartition], bool] = lambda _: False) -> None:
        self._stops = stops
        self._entries: dict[TopicPartition, _Entry] = {}
        self._serial = 0
        self._lost_at: float | None = None
        self._wait = DESERTED_SECONDS

    def assigned(self, partitions: Iterable[TopicPartition], now: float) -> None:
        """These have come, and are to be claimed."""
        self._serial += 1
        self._lost_at, self._wait = None, DESERTED_SECONDS
        for key in partitions:
            self._entries[key] = _Entry(self._serial, self._allowed(key, Phase.UNCLAIMED), now)

    def removed(self, partitions: Iterable[TopicPartition]) -> None:
        """These have gone."""
        for key in partitions:
            self._entries.pop(key, None)

    def lost(self, now: float) -> None:
        """What has just gone was taken from a member that the group took for dead: it has to join again."""
        self._lost_at = now

    def to_claim(self, now: float) -> dict[TopicPartition, int]:
        """What is to be claimed now, with its serial; from here on it is CLAIMING."""
        due = {}
        for key, entry in self._entries.items():
            again = entry.phase is Phase.HELD and now - entry.since >= HOLD_SECONDS
            if entry.phase is Phase.UNCLAIMED or again:
                entry.phase, entry.since = Phase.CLAIMING, now
                due[key] = entry.serial
        return due

    def current(self, claimed: Mapping[TopicPartition, int]) -> set[TopicPartition]:
        """Those of an answered claim that are still the same assignment."""
        entries = self._entries
        return {
            key
            for key, serial in claimed.items()
            if key in entries and entries[key].serial == serial and entries[key].phase is Phase.CLAIMING
        }

    def flow(self, partition: TopicPartition, topic_id: str) -> None:
        """This one is claimed and read from now on; `topic_id` is what it was claimed as."""
        entry = self._entries[partition]
        entry.phase, entry.topic_id, entry.reason = Phase.FLOWING, topic_id, ""

    def hold(self, partition: TopicPartition, reason: str, now: float) -> bool:
        """This one waits for its operator; it is claimed again after 10 s. Returns whether the reason is a new one."""
        entry = self._entries[partition]
        fresh = entry.reason != reason
        entry.phase, entry.reason, entry.since = Phase.HELD, reason, now
        return fresh

    def again(self, partitions: Iterable[TopicPartition], now: float) -> None:
        """These are to be claimed anew: what was known of them does not hold any more."""
        for key in partitions:
            self._enter(key, Phase.UNCLAIMED, now)

    def fenced(self, partitions: Iterable[TopicPartition], now: float) -> None:
        """Somebody else has claimed these: Kafka should take them away soon."""
        for key in partitions:
            self._enter(key, Phase.FENCED, now)

    def steer(self, now: float) -> set[TopicPartition]:
        """Ask again which are to be left alone. Returns those that are from now on; the others are to be claimed."""
        paused = self.partitions(Phase.PAUSED)
        wanted = {key for key in self._entries if self._stops(key)}
        for key in wanted ^ paused:
            self._enter(key, Phase.UNCLAIMED, now)
        return wanted - paused

    def _enter(self, partition: TopicPartition, phase: Phase, now: float) -> None:
        if entry := self._entries.get(partition):
            entry.phase, entry.since = self._allowed(partition, phase), now

    def _allowed(self, partition: TopicPartition, phase: Phase) -> Phase:
        return Phase.PAUSED if self._stops(partition) else phase

    def orphaned(self, now: float) -> bool:
        """Whether Kafka still gives us a fenced partition after 10 s: then nobody reads it.

        A late claim by an older member did that; the cure is to leave the group and join it again.
        """
        fenced = (entry for entry in self._entries.values() if entry.phase is Phase.FENCED)
        return any(now - entry.since >= ORPHAN_SECONDS for entry in fenced)

    def deserted(self, since: float, now: float) -> bool:
        """Whether nothing has come since what was here was lost, for 60 s; then for twice as long, up to an hour.

        `since`: when Kafka was back, if it was away; from then on it counts.
        Others may have it all. But a client may also find its coordinator no more after a broker was killed, though it
        reaches brokers, without a word (seen, rarely, with librdkafka 2.16): the cure is another client.
        """
        if self._lost_at is None or self._entries or now - max(since, self._lost_at) < self._wait:
            return False
        self._lost_at, self._wait = now, min(2 * self._wait, _LONGEST_SECONDS)
        return True

    def recreated(self, topic_ids: Mapping[str, str]) -> set[TopicPartition]:
        """The flowing partitions whose topic has another id now than when they were claimed."""
        return {
            key
            for key, entry in self._entries.items()
            if entry.phase is Phase.FLOWING and entry.topic_id != topic_ids.get(key[0], entry.topic_id)
        }

    def partitions(self, *phases: Phase) -> set[TopicPartition]:
        """Those in one of `phases`; all of them if none is given."""
        return {key for key, entry in self._entries.items() if not phases or entry.phase in phases}

    def reasons(self) -> dict[TopicPartition, str]:
        """Why each held partition is held."""
        return {key: entry.reason for key, entry in self._entries.items() if entry.phase is Phase.HELD}

    def phase_of(self) -> dict[TopicPartition, Phase]:
        """Where each partition stands."""
        return {key: entry.phase for key, entry in self._entries.items()}

    def phases(self) -> dict[Phase, int]:
        """How many partitions are in each phase."""
        counts = dict.fromkeys(Phase, 0)
        for entry in self._entries.values():
            counts[entry.phase] += 1
        return counts


def gap(claim: Claim, state: LogState) -> str | None:
    """Why reading must not go on at the claimed position; None if it may.

    An unknown identity (an older broker, librdkafka's mock) differs from none.
    """
    stored = claim.position
    if stored.cluster_id and state.cluster_id and stored.cluster_id != state.cluster_id:
        return f"the stored offset is of cluster {stored.cluster_id}, this is cluster {state.cluster_id}"
    if stored.topic_id and state.topic_id and stored.topic_id != state.topic_id:
        return f"the topic was recreated: the stored offset is of id {stored.topic_id}, it now has {state.topic_id}"
    if stored.next_offset < state.low:
        first, last, count = stored.next_offset, state.low - 1, state.low - stored.next_offset
        return f"Kafka no longer holds the next records: offsets {first} to {last} are gone, {count} in all"
    if stored.next_offset > state.high:
        return f"the stored next offset {stored.next_offset} is beyond the end of the partition, {state.high}"
    return None


def hint(partitions: Collection[TopicPartition]) -> str:
    """How an operator lets held partitions go on."""
    topics = sorted({topic for topic, _ in partitions})
    return f"To go on: microbatch offsets reset CONFIG --topic {topics[0]} --to earliest (or another place)."

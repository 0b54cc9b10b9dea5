"""Where the group stands, in the database and in Kafka; and setting it by hand."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import astuple, dataclass

from consumer.cluster import KafkaCluster, LogState
from consumer.config import Settings
from consumer.config.rules import subscribes
from consumer.errors import ConfigError, TopicPartition
from consumer.sinks import Position, Sink, StoredOffset
from consumer.sinks.opening import open_sink
from consumer.source import verify


@dataclass(frozen=True, slots=True)
class Standing:
    """One partition. None: not known, or there is none. `lag` counts from where the daemon would go on.

    `remark` says why the stored offset means nothing here, if so.
    """

    topic: str
    partition: int
    next_offset: int | None
    committed: int | None
    log_start: int | None
    end: int | None
    lag: int | None
    owner: str | None
    epoch: int | None
    updated: str | None
    remark: str


@dataclass(frozen=True, slots=True)
class Change:
    """A partition's next offset as it is and as it shall be."""

    topic: str
    partition: int
    before: int | None
    after: Position


def standings(settings: Settings) -> list[Standing]:
    """Every partition of the configured topics, and all else that is stored for the group.

    Raises ConfigError, UnavailableError, FatalError.
    """
    cluster = cluster_of(settings)
    with closing(open_sink(settings, "offsets")) as sink:
        stored = sink.offsets()
    there = cluster.topics()
    wanted = {name for name in there if any(subscribes(topic, name) for topic in settings.topics)}
    wanted |= {topic for topic, _ in stored}
    states = cluster.states([(topic, n) for topic in wanted for n in range(there.get(topic, 0))])
    keys = sorted(states.keys() | stored.keys())
    return [_standing(key, stored.get(key), states.get(key)) for key in keys]


def lines(found: Sequence[Standing]) -> list[str]:
    """A table for people."""
    rows = [[name.replace("_", " ") for name in Standing.__slots__]]
    rows += [["-" if value is None else str(value) for value in astuple(one)] for one in found]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def planned(settings: Settings, topic: str, partitions: Collection[int], to: str) -> list[Change]:
    """What `reset` would do; `to` is `earliest`, `latest`, an offset or a time, no `partitions` means all.

    Raises ConfigError when there is no such topic or partition, or Kafka does not hold the offset (the end counts as
    held); UnavailableError, FatalError.
    """
    cluster = cluster_of(settings)
    count = cluster.topics().get(topic)
    if count is None:
        raise ConfigError("--topic", topic, "there is no such topic in this Kafka")
    if missing := [number for number in partitions if number not in range(count)]:
        raise ConfigError("--partition", missing[0], f"{topic} has the partitions 0 to {count - 1}")
    states = cluster.states([(topic, number) for number in sorted(partitions or range(count))])
    offsets = _target(to)(cluster, states)
    with closing(open_sink(settings, "offsets")) as sink:
        stored = sink.offsets()
        before = {key: _next_offset(key, states[key], stored, sink) for key in states}
    return [
        Change(*key, before[key], Position(_within(key, offsets[key], state), state.cluster_id, state.topic_id))
        for key, state in states.items()
    ]


def reset(settings: Settings, changes: Sequence[Change]) -> None:
    """Make the changes, all or none: a running owner is fenced and goes on from there.

    Where the database keeps no offsets they are set in Kafka, which takes them only while the group is stopped.
    Raises UnavailableError, FatalError.
    """
    positions = {(change.topic, change.partition): change.after for change in changes}
    with closing(open_sink(settings, "offsets")) as sink:
        if sink.transactional:
            sink.reset(positions)
        else:
            cluster_of(settings).move({key: position.next_offset for key, position in positions.items()})


def cluster_of(settings: Settings, group: str | None = None) -> KafkaCluster:
    """Kafka, with the offsets of the settings' group, or of another. Raises ConfigError for a property it refuses."""
    verify(settings.kafka)
    return KafkaCluster(settings.kafka, str(settings.kafka["group.id"]) if group is None else group)


def _standing(key: TopicPartition, stored: StoredOffset | None, state: LogState | None) -> Standing:
    next_offset = stored.position.next_offset if stored else None
    goes_on = next_offset if stored else state.committed if state else None
    remark = _remark(stored, state)
    return Standing(
        *key,
        next_offset,
        state.committed if state else None,
        state.low if state else None,
        state.high if state else None,
        state.high - goes_on if state and goes_on is not None and not remark else None,
        stored.owner if stored else None,
        stored.epoch if stored else None,
        stored.updated_at if stored else None,
        remark,
    )


def _remark(stored: StoredOffset | None, state: LogState | None) -> str:
    if stored is None:
        return ""
    if state is None:
        return "Kafka has no such partition"
    position = stored.position
    if position.cluster_id != state.cluster_id:
        return "stored for another cluster"
    if state.topic_id and position.topic_id != state.topic_id:
        return "the topic was created anew since"
    if position.next_offset < state.low:
        return f"{state.low - position.next_offset} records are gone from Kafka"
    return "beyond the end" if position.next_offset > state.high else ""


Target = Callable[[KafkaCluster, Mapping[TopicPartition, LogState]], dict[TopicPartition, int]]


def _target(to: str) -> Target:
    """What `--to` means. Raises ConfigError."""
    if to.isdecimal():
        return lambda _, states: dict.fromkeys(states, int(to))
    if to in ("earliest", "latest"):
        return lambda cluster, states: cluster.start("earliest" if to == "earliest" else "latest", states)
    try:
        moment = datetime.datetime.fromisoformat(to)
    except ValueError:
        raise ConfigError("--to", to, "must be earliest, latest, an offset or a time: 2026-01-31T08:00:00Z") from None
    if moment.tzinfo is None:
        raise ConfigError("--to", to, "a time needs a zone: put Z (for UTC) or +02:00 behind it")
    return lambda cluster, states: cluster.start(moment, states)


def _within(key: TopicPartition, offset: int, state: LogState) -> int:
    if not state.low <= offset <= state.high:
        reason = f"Kafka holds {state.low} to {state.high} of {key[0]} partition {key[1]} ({state.high} is the end)"
        raise ConfigError("--to", offset, reason)
    return offset


def _next_offset(
    key: TopicPartition, state: LogState, stored: Mapping[TopicPartition, StoredOffset], sink: Sink
) -> int | None:
    if not sink.transactional:
        return state.committed
    return stored[key].position.next_offset if key in stored else None

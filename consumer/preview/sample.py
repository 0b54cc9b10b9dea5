"""Which records a preview looks at, and reading them: nothing of the group moves, and nobody joins it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from consumer.cluster import LogState
from consumer.config import Settings
from consumer.config.rules import subscribes
from consumer.errors import ConfigError, TopicPartition
from consumer.excerpt import Excerpt
from consumer.offsets import Standing, cluster_of, standings
from consumer.preview import Begin
from consumer.record import Message


@dataclass(frozen=True, slots=True)
class Span:
    """What is read of one partition: at most `most` records of the offsets `start` <= o < `end`."""

    start: int
    end: int
    most: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Records as read, of `topics`.

    `next_offsets`: where the group goes on; records before it were handled already. Not of partitions that are new to
    it, nor of those whose stored offset means nothing here: `remarks` say so.
    """

    topics: Sequence[str]
    messages: Sequence[Message] = ()
    next_offsets: Mapping[TopicPartition, int] = field(default_factory=dict)
    remarks: Sequence[str] = ()


def sample(settings: Settings, begin: Begin, most: int) -> Sample:
    """At most `most` records and `batch.max_bytes`, of all partitions about as many.

    Raises ConfigError where none of the topics is there, UnavailableError, FatalError.
    """
    found = [one for one in standings(settings) if any(subscribes(topic, one.topic) for topic in settings.topics)]
    there = {(one.topic, one.partition): _log(one) for one in found if one.end is not None}
    _require_topics(settings, {topic for topic, _ in there})
    remarks = [f"{one.topic}/{one.partition}: {one.remark}; `run` holds it" for one in found if one.remark]
    known = {
        (one.topic, one.partition): one.committed if one.next_offset is None else one.next_offset
        for one in found
        if not one.remark
    }
    goes_on = {key: offset for key, offset in known.items() if offset is not None and key in there}
    starts = cluster_of(settings).start(settings.start, {k: log for k, log in there.items() if k not in goes_on})
    spans = spans_of(begin, there, starts | goes_on, most)
    messages = _read(settings, spans)
    return Sample(sorted({topic for topic, _ in there}), messages, goes_on, remarks)


def spans_of(
    begin: Begin, logs: Mapping[TopicPartition, LogState], positions: Mapping[TopicPartition, int], most: int
) -> dict[TopicPartition, Span]:
    """What to read of the partitions that hold something; `positions`: where the group goes on, or would start."""
    low = {key: log.low for key, log in logs.items()}
    if begin is Begin.STORED:
        low = {key: max(log.low, positions[key]) for key, log in logs.items()}
    newest = {key for key, log in logs.items() if begin is Begin.LATEST or low[key] >= log.high}
    held = {key: log.high - (log.low if key in newest else low[key]) for key, log in logs.items()}
    return {
        key: Span(logs[key].high - count if key in newest else low[key], logs[key].high, count)
        for key, count in shares(held, most).items()
        if count
    }


def shares(held: Mapping[TopicPartition, int], most: int) -> dict[TopicPartition, int]:
    """How many of each, `most` in all: as evenly as what they hold allows."""
    found, left = dict[TopicPartition, int](), most
    for place, key in enumerate(sorted(held, key=lambda key: (held[key], key))):
        found[key] = min(held[key], -(-left // (len(held) - place)))
        left -= found[key]
    return found


def _log(standing: Standing) -> LogState:
    return LogState(standing.log_start or 0, standing.end or 0, standing.committed, "", "")


def _require_topics(settings: Settings, there: set[str]) -> None:
    for number, topic in enumerate(settings.topics):
        if not any(subscribes(topic, name) for name in there):
            what = "no topic of this Kafka matches it" if topic.startswith("^") else "there is no such topic"
            raise ConfigError(f"topics.{number}", topic, f"{what}: create it, or correct the name")


def _read(settings: Settings, spans: Mapping[TopicPartition, Span]) -> list[Message]:
    starts, ends = ({key: getattr(span, name) for key, span in spans.items()} for name in ("start", "end"))
    messages, size, counts = list[Message](), 0, Counter[TopicPartition]()
    with closing(Excerpt(settings.kafka, str(settings.kafka["group.id"]), starts, ends)) as excerpt:
        for batch in excerpt.batches(sum(span.most for span in spans.values()) or 1):
            for message in batch:
                key = message.topic(), message.partition()
                if counts[key] == spans[key].most:
                    continue
                if messages and size + len(message) > settings.batch.max_bytes:
                    return messages
                messages.append(message)
                counts[key], size = counts[key] + 1, size + len(message)
            excerpt.leave([key for key, count in counts.items() if count == spans[key].most])
    return messages

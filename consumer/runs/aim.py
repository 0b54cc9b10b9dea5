"""The goal of a job: where every partition of its topics ends now, or at a time; and where they stand."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

from consumer.backoff import delay
from consumer.cluster import KafkaCluster
from consumer.config import Settings
from consumer.config.rules import subscribes
from consumer.errors import FatalError, TopicPartition, UnavailableError
from consumer.goal import Goal
from consumer.offsets import Standing, standings
from consumer.sinks.opening import open_sink

_START_SECONDS = 10.0


def aim(settings: Settings, until: datetime.datetime | None, cluster: KafkaCluster) -> Goal:
    """To the ends as they are now, or to the first record that is not older than `until`, if that is before the end.

    An open transaction is not waited for (with `isolation.level: read_uncommitted` its records count). Raises
    FatalError where there is nothing to read, or no answer within 10 s: for so long a coordinator may move.
    """
    deadline, failures = time.monotonic() + _START_SECONDS, 0
    while True:
        try:
            return _aim(settings, until, cluster)
        except UnavailableError as error:
            if time.monotonic() > deadline:
                hint = "Start it again when Kafka answers; nothing was read yet."
                reason = f"where the topics end is not known after {_START_SECONDS:g} s: {error}"
                raise FatalError(reason, hint) from None
            failures += 1
            time.sleep(delay(failures, cap=1.0))


def _aim(settings: Settings, until: datetime.datetime | None, cluster: KafkaCluster) -> Goal:
    there = cluster.topics()
    wanted = [name for name in there if any(subscribes(topic, name) for topic in settings.topics)]
    missing = [topic for topic in settings.topics if not topic.startswith("^") and topic not in there]
    if missing or not wanted:
        hint = "Create it, or correct `topics`; a job ends at what is there at its start."
        raise FatalError(f"Kafka has no topic {(missing or settings.topics)[0]}", hint)
    states = cluster.states([(topic, number) for topic in wanted for number in range(there[topic])])
    ends = cluster.readable(states)
    if until is not None:
        ends = {key: min(ends[key], offset) for key, offset in cluster.start(until, states).items()}
    fresh = cluster.start(settings.start, states)
    committed = {key: state.committed for key, state in states.items() if state.committed is not None}
    return Goal(ends, fresh | committed | _stored(settings), Stored(settings).ask)


def checkpoints(settings: Settings) -> dict[TopicPartition, int]:
    """The next offsets as they are stored, where they mean something. Raises UnavailableError, FatalError."""
    stored = {(one.topic, one.partition): _meant(settings, one) for one in standings(settings)}
    return {key: offset for key, offset in stored.items() if offset is not None}


class Stored:
    """Asks for `checkpoints` in a thread of its own: what one member cannot know of the others."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(1, "stored")

    def ask(self) -> Callable[[], Mapping[TopicPartition, int] | None]:
        """The function returned gives the answer, or None while it is out, or raises UnavailableError, FatalError."""
        future = self._pool.submit(checkpoints, self._settings)
        return lambda: future.result() if future.done() else None


def _stored(settings: Settings) -> dict[TopicPartition, int]:
    """Only for showing progress, so a database that is away is no reason to wait."""
    try:
        with closing(open_sink(settings, "job")) as sink:
            return {key: one.position.next_offset for key, one in sink.offsets().items()} if sink.transactional else {}
    except UnavailableError:
        return {}


def _meant(settings: Settings, standing: Standing) -> int | None:
    if standing.remark:
        return None
    return standing.next_offset if settings.delivery == "exactly_once" else standing.committed

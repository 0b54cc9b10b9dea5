"""Whether Kafka is there, and whether our client reaches it: asked now and then, without waiting for the answers."""

from __future__ import annotations

from collections.abc import Callable, Collection

from consumer.cluster import Cluster
from consumer.errors import UnavailableError
from consumer.source import Source
from consumer.telemetry import Telemetry

_SECONDS = 10.0
_AWAY_SECONDS = 1.0
_UNREACHED_SECONDS = 60.0  # until the client is replaced: by default a group has forgotten it then (45 s)


class Presence:
    """Asked by one thread, about once a second. Kafka counts as present until it is found out that it is not."""

    def __init__(self, source: Source, cluster: Cluster, telemetry: Telemetry, now: float) -> None:
        self._source, self._cluster, self._telemetry = source, cluster, telemetry
        self._asked_at = now
        self._answer: Callable[[], dict[str, str] | None] | None = None
        self.since: float | None = now
        """Since when Kafka is there, as far as is known; None while it is away."""
        self._unreached_since: float | None = None

    def away(self, reason: str) -> None:
        """Nobody answers. What is asked from now on shows when that is over."""
        self.since = self._answer = None
        self._telemetry.kafka_away(reason)

    def look(self, topics: Collection[str], now: float) -> dict[str, str] | None:
        """The ids that these topics had when they were asked for last, once that is known; every 10 s if all is well.

        While Kafka answers that, and the client of the group knows no broker for a minute, the client is replaced.
        """
        if self._answer is None:
            if now - self._asked_at >= (_AWAY_SECONDS if self.since is None else _SECONDS):
                self._asked_at, self._answer = now, self._cluster.ask_ids(topics)
            return None
        try:
            ids = self._answer()
        except UnavailableError as error:
            self._unreached_since = None  # nobody is reached: that is not our client's fault
            self._telemetry.trouble(str(error))
            self.away(str(error))
            return None
        if ids is not None:
            self._present(now)
        return ids

    def _present(self, now: float) -> None:
        self._answer = None
        if self.since is None:
            self.since = now
            self._telemetry.kafka_back()
        if self._source.connected():
            self._unreached_since = None
        elif self._unreached_since is None:
            self._unreached_since = now
        elif now - self._unreached_since >= _UNREACHED_SECONDS:
            self._unreached_since = None
            self._telemetry.trouble("Kafka answers, but this client knows no broker any more: joining by another one")
            self._source.renew()

"""Whether Kafka is there, and whether our client reaches it: asked now and then, without waiting for the answers."""

from __future__ import annotations

from collections.abc import Callable, Collection

from consumer.cluster import Cluster
from consumer.errors import UnavailableError
from consumer.source import Source
from consumer.telemetry import Telemetry

_SECONDS = 10.0
_AWAY_SECONDS = 1.0
_UNREACHED = 6  # times in turn, until the client is replaced: by default a group has forgotten it then (45 s)


class Presence:
    """Asked by one thread, about once a second. Kafka counts as present until it is found out that it is not."""

    def __init__(self, source: Source, cluster: Cluster, telemetry: Telemetry, now: float) -> None:
        self._source, self._cluster, self._telemetry = source, cluster, telemetry
        self._asked_at = now
        self._answer: Callable[[], dict[str, str] | None] | None = None
        self._away = False
        self._unreached = 0

    @property
    def is_away(self) -> bool:
        """Whether nobody has answered lately."""
        return self._away

    def away(self, reason: str) -> None:
        """Nobody answers. What is asked from now on shows when that is over."""
        self._away, self._answer = True, None
        self._telemetry.kafka_away(reason)

    def look(self, topics: Collection[str], now: float) -> dict[str, str] | None:
        """The ids that these topics had when they were asked for last, once that is known; every 10 s if all is well.

        When Kafka answers that, but not the client of the group, six times in turn, the client is replaced.
        """
        if self._answer is None:
            if now - self._asked_at >= (_AWAY_SECONDS if self._away else _SECONDS):
                self._asked_at, self._answer = now, self._cluster.ask_ids(topics)
            return None
        try:
            ids = self._answer()
        except UnavailableError as error:
            self._telemetry.trouble(str(error))
            self.away(str(error))
            return None
        if ids is not None:
            self._present()
        return ids

    def _present(self) -> None:
        self._answer = None
        if self._away:
            self._away = False
            self._telemetry.kafka_back()
        self._unreached = 0 if self._source.connected() else self._unreached + 1
        if self._unreached == _UNREACHED:
            self._unreached = 0
            self._telemetry.trouble("Kafka answers, but this client knows no broker any more: joining by another one")
            self._source.renew()

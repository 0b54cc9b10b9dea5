"""Where each partition ends: as fetching tells it, and asked for where nothing is fetched, so that its lag is known."""

from __future__ import annotations

from collections.abc import Callable, Collection

from consumer.cluster import Cluster
from consumer.errors import TopicPartition, UnavailableError

_SECONDS = 5.0


class Ends:
    """Asked by one thread, about once a second; never waits. `heard` is what fetching told last."""

    def __init__(self, heard: Callable[[TopicPartition], int | None], cluster: Cluster) -> None:
        self._heard, self._cluster = heard, cluster
        self._asked_at = float("-inf")
        self._answer: Callable[[], dict[TopicPartition, int] | None] | None = None
        self._known: dict[TopicPartition, int] = {}

    def look(
        self, read: Collection[TopicPartition], unread: Collection[TopicPartition], now: float
    ) -> dict[TopicPartition, int | None]:
        """The ends of partitions that are read, and of those that are not, these up to 5 s old; None: not known yet."""
        self._take()
        self._known = {key: end for key, end in self._known.items() if key in unread}
        if unread and self._answer is None and now - self._asked_at >= _SECONDS:
            self._asked_at, self._answer = now, self._cluster.ask_ends(unread)
        heard = {key: self._heard(key) for key in {*read, *unread}}
        return heard | {key: max(end, heard[key] or 0) for key, end in self._known.items()}

    def _take(self) -> None:
        try:
            if self._answer and (found := self._answer()) is not None:
                self._known, self._answer = found, None
        except UnavailableError:
            self._answer = None  # what was known stays; that Kafka is away is told by others

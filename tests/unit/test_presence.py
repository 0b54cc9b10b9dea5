"""Whether Kafka is there, and whether our client reaches it."""

from __future__ import annotations

from collections.abc import Callable, Collection

from consumer.errors import UnavailableError
from consumer.metrics import Metrics
from consumer.presence import Presence
from consumer.telemetry import Telemetry
from tests.fake_kafka import MemoryBroker, MemoryCluster, MemorySource, Notes


class Asked(MemoryCluster):
    """Answers at once, or not at all; counts."""

    there, count = True, 0

    def ask_ids(self, topics: Collection[str]) -> Callable[[], dict[str, str] | None]:
        self.count += 1
        answer = super().ask_ids(topics)

        def look() -> dict[str, str] | None:
            if not self.there:
                raise UnavailableError("nobody there")
            return answer()

        return look


class Reaching(MemorySource):
    """Reaches its broker, or does not; counts how often it was renewed."""

    reaches, renewed = True, 0

    def connected(self) -> bool:
        return self.reaches

    def renew(self) -> None:
        self.renewed += 1
        super().renew()


def world() -> tuple[Presence, Asked, Reaching, Metrics]:
    broker, metrics = MemoryBroker({"t": 1}), Metrics()
    cluster, source = Asked(broker, "g"), Reaching(broker, "g", ["t"])
    source.open(Notes())
    return Presence(source, cluster, Telemetry(metrics), 0.0), cluster, source, metrics


def test_ids_are_asked_for_every_ten_seconds_and_told_once() -> None:
    """At the next look."""
    presence, cluster, _, _ = world()
    told = [presence.look(["t"], second) for second in range(1, 23)]
    assert cluster.count == 2
    assert [second for second, ids in enumerate(told, 1) if ids] == [11, 21]


def test_who_is_away_is_asked_every_second_and_told_to_be_back() -> None:
    """Whether it is a question that had no answer, or the client that said so."""
    presence, cluster, _, metrics = world()
    cluster.there = False
    for second in range(10, 20):
        presence.look(["t"], second)
    assert cluster.count == 5
    assert metrics.total("unavailable") == 1
    cluster.there = True
    presence.look(["t"], 20)
    presence.look(["t"], 21)
    assert metrics.total("unavailable") == 0
    presence.away("all brokers are down")
    assert metrics.total("unavailable") == 1
    presence.look(["t"], 22)
    presence.look(["t"], 23)
    assert metrics.total("unavailable") == 0


def test_a_client_is_replaced_that_for_a_minute_does_not_reach_who_answers() -> None:
    """Less may be a broker that has just come back; and as long as nobody gets an answer, it is Kafka that is away."""
    presence, cluster, source, _ = world()
    now = 0.0

    def go_on(seconds: int) -> None:
        nonlocal now
        for _ in range(seconds):
            now += 1
            presence.look([], now)

    source.reaches = False
    go_on(60)
    source.reaches = True
    go_on(10)
    source.reaches = False
    go_on(60)
    assert source.renewed == 0
    cluster.there = False
    go_on(100)
    cluster.there = True
    go_on(60)
    assert source.renewed == 0
    go_on(20)
    assert source.renewed == 1


def test_a_client_that_says_again_and_again_that_all_are_away_is_not_replaced_any_sooner_or_later() -> None:
    """It brings the questions to Kafka forward, and says nothing of how long it has been so."""
    presence, _, source, _ = world()
    source.reaches = False
    for second in range(1, 62):
        if second % 5 == 0:
            presence.away("all brokers are down")
        presence.look([], second)
    assert source.renewed == 0
    for second in range(62, 75):
        if second % 5 == 0:
            presence.away("all brokers are down")
        presence.look([], second)
    assert source.renewed == 1


def test_since_when_kafka_is_there() -> None:
    """None while it is away, then from when it answered."""
    presence, _, _, _ = world()
    assert presence.since == 0
    presence.away("all brokers are down")
    assert presence.since is None
    presence.look([], 30)
    presence.look([], 31)
    assert presence.since == 31

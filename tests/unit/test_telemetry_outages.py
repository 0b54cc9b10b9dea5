"""What the metrics tell of an outage, and from which moment on they can be compared with later ones."""

from __future__ import annotations

import pytest

from consumer.batch import Batch
from consumer.metrics import Metrics
from consumer.telemetry import Telemetry
from consumer.writer import Published


def waited_for(metrics: Metrics, service: str, reason: str) -> bool:
    return bool(metrics.value("unavailable", service=service, reason=reason))


@pytest.mark.parametrize(
    ("told", "service", "code"),
    [
        ("PostgreSQL: could not extend file: No space left on device (53100)", "database", "53100"),
        ("PostgreSQL: the connection is lost", "database", "connection"),
        ("SQLite: database is locked (SQLITE_BUSY)", "database", "SQLITE_BUSY"),
        ("SQLite: a file (of the user's)", "database", "connection"),
        ("Kafka does not answer in time", "kafka", "connection"),
        ("schema registry at http://x: HTTP 503", "registry", "connection"),
        ("schema registry: it does not know schema id 7 (40403)", "registry", "40403"),
    ],
)
def test_an_outage_is_told_by_service_and_code_until_it_is_over(told: str, service: str, code: str) -> None:
    """The code is what the sentence ends with; one without a code is a lost connection."""
    metrics = Metrics()
    telemetry = Telemetry(metrics)
    telemetry.unavailable(told, 1, 0.1)
    assert waited_for(metrics, service, code)
    assert metrics.value("write_retries", reason=code) == 1
    telemetry.claimed({})
    assert not metrics.total("unavailable")


def test_an_outage_that_changes_is_told_once() -> None:
    """First there is no room, then no connection."""
    metrics = Metrics()
    telemetry = Telemetry(metrics)
    telemetry.unavailable("PostgreSQL: no room (53100)", 1, 0.1)
    telemetry.unavailable("PostgreSQL: the connection is lost", 2, 0.1)
    assert metrics.total("unavailable") == 1
    assert waited_for(metrics, "database", "connection")


def test_the_registry_is_waited_for_whatever_the_topic_of_dead_letters_does() -> None:
    """That dead letters are published tells nothing of it. A batch that meets the database has passed the registry."""
    metrics = Metrics()
    telemetry = Telemetry(metrics)
    telemetry.unavailable("schema registry at http://x: HTTP 503", 1, 0.1)
    telemetry.published(Published(1, [], 0, 0))
    assert waited_for(metrics, "registry", "connection")
    assert telemetry.health().reason == "schema registry at http://x: HTTP 503"
    telemetry.unavailable("PostgreSQL: the connection is lost", 2, 0.1, Batch())
    assert metrics.total("unavailable") == 1
    telemetry.published(Published(1, [], 0, 0))
    assert not metrics.total("unavailable")


def test_kafka_is_waited_for_until_it_is_back_whatever_the_database_does() -> None:
    """An answer of the database is none of Kafka's."""
    metrics = Metrics()
    telemetry = Telemetry(metrics)
    telemetry.kafka_away("Kafka: all brokers are down")
    telemetry.unavailable("PostgreSQL: the connection is lost", 1, 0.1)
    telemetry.claimed({})
    assert waited_for(metrics, "kafka", "connection")
    telemetry.kafka_back()
    assert not metrics.total("unavailable")


def test_the_ledger_of_a_topic_begins_at_zero() -> None:
    """Else Prometheus would not see the first ones as an increase."""
    metrics = Metrics("orders")
    Telemetry(metrics).rebalanced("assigned", [("t", 0), ("t", 1)])
    zero = [sample for family in metrics.collect() for sample in family.samples if sample.labels == {"topic": "t"}]
    assert {sample.name.removeprefix("microbatch_records_") for sample in zero} == {
        "consumed_total",
        "written_total",
        "filtered_total",
        "duplicate_total",
        "released_total",
        "in_flight",
    }
    assert {sample.value for sample in zero} == {0}


def test_a_scrape_tells_the_group() -> None:
    """By which the boards find the instances of one."""
    samples = [sample for family in Metrics("orders").collect() for sample in family.samples]
    assert [s.labels["group"] for s in samples if s.name == "microbatch_build_info"] == ["orders"]

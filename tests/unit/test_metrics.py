"""The catalogue of metrics, and what a scrape sees of it."""

from __future__ import annotations

import threading

import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from consumer.metrics import CATALOGUE, MAX_PARTITIONS, MAX_REASONS, PREFIX, Metrics


def scrape(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def test_every_metric_says_what_it_means_and_names_its_unit() -> None:
    """Names are unique, in base units, and without the suffix that Prometheus adds."""
    names = [spec.name for spec in CATALOGUE]
    assert len(set(names)) == len(names)
    for spec in CATALOGUE:
        assert spec.help.endswith(".")
        assert not spec.name.endswith("_total")
        assert bool(spec.buckets) == (spec.kind == "histogram")
        assert not any(unit in spec.name for unit in ("_ms", "millis", "_kb", "_mb"))


def test_values_come_out_as_prometheus_wants_them() -> None:
    """Counters with _total, gauges as they are, histograms with cumulative buckets."""
    metrics = Metrics()
    metrics.count("records_consumed", 3, topic="t")
    metrics.set("partitions_assigned", 2)
    with metrics.update() as update:
        update.observe("batch_records", 7)
        update.observe("batch_records", 700)
    found = scrape(metrics)
    assert found[PREFIX + "records_consumed_total", frozenset({("topic", "t")})] == 3
    assert found[PREFIX + "partitions_assigned", frozenset()] == 2
    assert found[PREFIX + "batch_records_bucket", frozenset({("le", "10.0")})] == 1
    assert found[PREFIX + "batch_records_bucket", frozenset({("le", "+Inf")})] == 2
    assert found[PREFIX + "batch_records_sum", frozenset()] == 707


def test_a_metric_that_the_catalogue_does_not_have_is_an_error() -> None:
    """A typing mistake shows in the first test that runs over it."""
    with pytest.raises(KeyError):
        Metrics().count("records_eaten", 1)


def test_reasons_and_partitions_are_bounded() -> None:
    """Whatever is told, a scrape stays small."""
    metrics = Metrics()
    with metrics.update() as update:
        for number in range(1000):
            update.count("write_retries", 1, reason=str(number))
            update.set("consumer_lag", 1, topic="t", partition=str(number))
    found = scrape(metrics)
    reasons = {key: value for key, value in found.items() if key[0] == PREFIX + "write_retries_total"}
    assert len(reasons) == MAX_REASONS + 1
    assert sum(reasons.values()) == 1000
    assert sum(key[0] == PREFIX + "consumer_lag" for key in found) == MAX_PARTITIONS


def test_series_of_a_partition_end_when_it_leaves() -> None:
    """A lag that nobody measures any more is not shown."""
    metrics = Metrics()
    metrics.set("consumer_lag", 5, topic="t", partition="1")
    metrics.set("consumer_lag", 5, topic="t", partition="2")
    with metrics.update() as update:
        update.forget("t", 1)
    assert [key for key in scrape(metrics) if key[0] == PREFIX + "consumer_lag"] == [
        (PREFIX + "consumer_lag", frozenset({("topic", "t"), ("partition", "2")}))
    ]


def test_a_scrape_never_sees_half_of_an_update() -> None:
    """consumed and in flight change together."""
    metrics, stop = Metrics(), threading.Event()

    def work() -> None:
        while not stop.is_set():
            with metrics.update() as update:
                update.count("records_consumed", 1, topic="t")
                update.add("records_in_flight", 1, topic="t")

    worker = threading.Thread(target=work)
    worker.start()
    label = frozenset({("topic", "t")})
    for _ in range(10):
        found = scrape(metrics)
        consumed = found.get((PREFIX + "records_consumed_total", label), 0)
        assert consumed == found.get((PREFIX + "records_in_flight", label), 0)
    stop.set()
    worker.join()

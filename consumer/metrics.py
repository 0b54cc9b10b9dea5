"""The one catalogue of metrics, and their values: changed together under one lock, scraped as one snapshot."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from consumer import __version__

PREFIX = "microbatch_"
MAX_PARTITIONS = 200
MAX_REASONS = 50
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_RECORDS = (1.0, 10.0, 100.0, 500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 50_000.0)
_BYTES = (1e3, 1e4, 1e5, 5e5, 1e6, 2e6, 4e6, 8e6, 16e6, 64e6)
Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One metric: its name without the prefix (and without `_total`), its labels, and what it means, with its unit."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: Labels
    help: str
    buckets: tuple[float, ...] = ()


CATALOGUE: tuple[MetricSpec, ...] = (
    MetricSpec("records_consumed", "counter", ("topic",), "Records read, since this process started."),
    MetricSpec("records_written", "counter", ("topic",), "Records committed by the sink with at least one row."),
    MetricSpec(
        "records_filtered", "counter", ("topic",), "Records that made no row: skipped by a rule you configured."
    ),
    MetricSpec(
        "records_dead_lettered",
        "counter",
        ("topic", "stage", "reason"),
        "Records at fault: by stage (decode, map, write), and by SQLSTATE or error class.",
    ),
    MetricSpec(
        "records_duplicate", "counter", ("topic",), "Records found to be committed by an earlier try without an answer."
    ),
    MetricSpec(
        "records_released", "counter", ("topic",), "Records given back unwritten, at a revoke, a fence or the end."
    ),
    MetricSpec("records_in_flight", "gauge", ("topic",), "Records read, and in none of the counters above yet."),
    MetricSpec("dead_letters_pending", "gauge", (), "Dead letters kept, of own partitions, that their topic lacks."),
    MetricSpec("dead_letters_published", "counter", (), "Dead letters that their topic confirmed."),
    MetricSpec("dead_letter_publish_failures", "counter", (), "Dead letters that their topic did not take yet."),
    MetricSpec("isolation_seconds", "histogram", (), "Seconds spent to find a batch's records at fault.", _SECONDS),
    MetricSpec("breaker_open", "gauge", (), "1 while too many records are at fault, and nothing is written."),
    MetricSpec(
        "hold", "gauge", ("reason",), "1 while nothing is written until somebody looks: limits, dead_letters_pending."
    ),
    MetricSpec(
        "unknown_fields",
        "gauge",
        ("topic",),
        "Names of fields that no column takes, and that are dropped: as far as seen, in one record of each batch; at "
        "most 50.",
    ),
    MetricSpec("rows_affected", "counter", ("table",), "Rows sent to a table, and committed."),
    MetricSpec("batch_records", "histogram", (), "Records of a committed batch.", _RECORDS),
    MetricSpec("batch_bytes", "histogram", (), "Bytes of values of a committed batch.", _BYTES),
    MetricSpec(
        "batches_closed",
        "counter",
        ("trigger",),
        "Batches by what closed them: ready, records, bytes, wait, drain, end.",
    ),
    MetricSpec(
        "stage_seconds",
        "histogram",
        ("stage",),
        "Seconds of a batch by stage: map (with decoding), while another is written; write, with isolate and commit.",
        _SECONDS,
    ),
    MetricSpec("write_duration_seconds", "histogram", ("outcome",), "Seconds of one try to write or claim.", _SECONDS),
    MetricSpec(
        "write_retries",
        "counter",
        ("reason",),
        "Tries that failed because something was away, by the code of PostgreSQL, SQLite or the registry, or else "
        "`connection`.",
    ),
    MetricSpec(
        "unavailable",
        "gauge",
        ("service", "reason"),
        "1 while a service is waited for: database, kafka or registry; reason as of write_retries.",
    ),
    MetricSpec("end_to_end_latency_seconds", "histogram", (), "Age of a batch's last record when committed.", _SECONDS),
    MetricSpec("claims", "counter", ("outcome",), "Partitions taken over in the offset table."),
    MetricSpec("fenced", "counter", (), "Partitions found to be owned by another instance."),
    MetricSpec("watchdog_kills", "counter", (), "Connections cut because a write passed sink.write_deadline_ms."),
    MetricSpec("commit_failures", "counter", (), "Commits of offsets to Kafka that failed."),
    MetricSpec("consumer_lag", "gauge", ("topic", "partition"), "Records between what is committed and the end."),
    MetricSpec(
        "consumer_lag_seconds",
        "gauge",
        ("topic", "partition"),
        "Age of the last committed record, by its timestamp; 0 where nothing is left to read.",
    ),
    MetricSpec("oldest_unwritten_seconds", "gauge", (), "Seconds since the oldest record that waits here was read."),
    MetricSpec("poll_gap_seconds", "gauge", (), "Seconds between the last two turns of the loop."),
    MetricSpec("partitions_assigned", "gauge", (), "Partitions that Kafka gives to this instance."),
    MetricSpec(
        "partitions_paused",
        "gauge",
        ("reason",),
        "Partitions not read: backpressure, turn (of others, which are late), unclaimed, held, fenced, operator.",
    ),
    MetricSpec("rebalances", "counter", ("kind",), "Times that partitions came or went: assigned, revoked, lost."),
    MetricSpec(
        "config_changes", "counter", ("outcome",), "Settings changed while it ran: set, reload; refused: a wrong file."
    ),
    MetricSpec(
        "notifications",
        "counter",
        ("outcome",),
        "Notifications: delivered, failed (given up), superseded (by a later one of the same kind).",
    ),
    MetricSpec("state", "gauge", ("state",), "1 for the state it is in: starting, claiming, running, unavailable, ..."),
    MetricSpec("last_success_timestamp_seconds", "gauge", (), "Unix time of the last committed batch."),
    MetricSpec("build_info", "gauge", ("group", "version"), "1; the labels tell the group and the version."),
)


@dataclass(slots=True)
class _Histogram:
    counts: list[int]
    sum: float = 0.0


@dataclass(slots=True)
class _Series:
    spec: MetricSpec
    values: dict[Labels, float] = field(default_factory=dict)
    histograms: dict[Labels, _Histogram] = field(default_factory=dict)


class Update:
    """Changes made together; see `Metrics.update`."""

    def __init__(self, series: dict[str, _Series]) -> None:
        self._series = series

    def count(self, name: str, amount: float, **labels: str) -> None:
        """Raise a counter. Raises KeyError for a metric or label that the catalogue does not have."""
        self.add(name, amount, **labels)

    def add(self, name: str, amount: float, **labels: str) -> None:
        """Add to a gauge."""
        values, key = self._at(name, labels)
        if key is not None:
            values[key] = values.get(key, 0.0) + amount

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        values, key = self._at(name, labels)
        if key is not None:
            values[key] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add one observation to a histogram."""
        series = self._series[name]
        key = tuple(labels[label] for label in series.spec.labels)
        buckets = series.spec.buckets
        histogram = series.histograms.setdefault(key, _Histogram([0] * (len(buckets) + 1)))
        histogram.counts[bisect_left(buckets, value)] += 1
        histogram.sum += value

    def forget(self, topic: str, partition: int) -> None:
        """End the series of a partition that has gone."""
        for series in self._series.values():
            if series.spec.labels == ("topic", "partition"):
                series.values.pop((topic, str(partition)), None)

    def _at(self, name: str, labels: dict[str, str]) -> tuple[dict[Labels, float], Labels | None]:
        """The values of a metric, and the key in them; None where the series would be one too many."""
        series = self._series[name]
        key = tuple(labels[label] for label in series.spec.labels)
        if key in series.values:
            return series.values, key
        if "partition" in series.spec.labels and len(series.values) >= MAX_PARTITIONS:
            return series.values, None
        if "reason" in series.spec.labels and len(series.values) >= MAX_REASONS:
            key = tuple("other" if label == "reason" else labels[label] for label in series.spec.labels)
        return series.values, key


class Metrics(Collector):
    """The values of CATALOGUE, in a registry of their own. Safe from any thread; a scrape sees whole updates only.

    `group` is the consumer group that they are about. Beside them the registry has `process_*`, which prometheus_client
    reads at each scrape: CPU, memory, open files, and the start.
    """

    def __init__(self, group: str = "") -> None:
        self._lock = threading.Lock()
        self._series = {spec.name: _Series(spec) for spec in CATALOGUE}
        self._update = Update(self._series)
        for spec in CATALOGUE:
            if not spec.labels and spec.kind != "histogram":
                self._update.set(spec.name, 0)
        self._update.set("build_info", 1, group=group, version=__version__)
        self.registry = CollectorRegistry()
        self.registry.register(self)
        ProcessCollector(registry=self.registry)

    @contextmanager
    def update(self) -> Iterator[Update]:
        """Change several values as one: no scrape sees half of it."""
        with self._lock:
            yield self._update

    def count(self, name: str, amount: float, **labels: str) -> None:
        """Raise one counter."""
        with self._lock:
            self._update.count(name, amount, **labels)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set one gauge."""
        with self._lock:
            self._update.set(name, value, **labels)

    def value(self, name: str, **labels: str) -> float:
        """What a counter or gauge is at now; 0 if nothing was ever told of it."""
        with self._lock:
            series = self._series[name]
            return series.values.get(tuple(labels[label] for label in series.spec.labels), 0.0)

    def by(self, name: str) -> dict[Labels, float]:
        """The series of a counter or gauge, by the values of its labels."""
        with self._lock:
            return dict(self._series[name].values)

    def total(self, name: str) -> float:
        """The sum of all series of a counter or gauge; of a histogram how often something was observed."""
        with self._lock:
            series = self._series[name]
            observed = sum(sum(histogram.counts) for histogram in series.histograms.values())
            return sum(series.values.values()) + observed

    def collect(self) -> Iterator[Metric]:
        """One snapshot, as prometheus_client wants it."""
        with self._lock:
            families = [_family(series) for series in self._series.values()]
        yield from families

    def describe(self) -> Iterator[Metric]:
        """Nothing to compare with: the registry holds nothing else."""
        yield from ()


def _family(series: _Series) -> Metric:
    name, text, labels = PREFIX + series.spec.name, series.spec.help, series.spec.labels
    if series.spec.kind == "histogram":
        histograms = HistogramMetricFamily(name, text, labels=labels)
        for key, histogram in series.histograms.items():
            histograms.add_metric(key, _cumulative(series.spec.buckets, histogram), histogram.sum)
        return histograms
    make = CounterMetricFamily if series.spec.kind == "counter" else GaugeMetricFamily
    family = make(name, text, labels=labels)
    for key, value in series.values.items():
        family.add_metric(key, value)
    return family


def _cumulative(buckets: tuple[float, ...], histogram: _Histogram) -> list[tuple[str, float]]:
    total, found = 0, []
    for bound, count in zip((*map(str, buckets), "+Inf"), histogram.counts, strict=True):
        total += count
        found.append((bound, float(total)))
    return found

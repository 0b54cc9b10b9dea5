"""Everything that could keep the daemon from working, looked at before it starts; nothing is changed by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from consumer.check import broker, database, formats
from consumer.check.finding import Finding
from consumer.cluster import KafkaCluster
from consumer.config import Settings
from consumer.errors import ConfigError
from consumer.mapping.opening import load_transform
from consumer.sinks.opening import open_sink
from consumer.source import verify

__all__ = ["Finding", "findings"]


def findings(settings: Settings) -> Iterator[Finding]:
    """One after the other, as it is found; a failure ends only what depends on it."""
    yield Finding("configuration", True, "valid")
    topics: list[str] = [topic for topic in settings.topics if not topic.startswith("^")]
    try:
        verify(settings.kafka)
    except ConfigError as error:
        yield _wrong("properties", error)
    else:
        yield Finding("properties", True, "librdkafka takes them")
        topics = yield from broker.findings(settings, KafkaCluster(settings.kafka, str(settings.kafka["group.id"])))
    yield from formats.findings(settings)
    try:
        sink = open_sink(settings, "check")
    except ConfigError as error:
        yield _wrong("database", error)
    else:
        with closing(sink):
            yield from database.findings(settings, sink, topics)
    if settings.transform:
        yield _transform(settings.transform)


def _transform(path: str) -> Finding:
    try:
        load_transform(path)
    except ConfigError as error:
        return _wrong("transform", error)
    return Finding("transform", True, f"{path} can be called")


def _wrong(subject: str, error: ConfigError) -> Finding:
    return Finding(subject, False, str(error), configuration=True)

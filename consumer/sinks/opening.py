"""From settings to a sink."""

from __future__ import annotations

from consumer.config import Settings, TableSettings
from consumer.sinks import Sink
from consumer.sinks.postgres import PostgresSink
from consumer.sinks.sqlite import SqliteSink
from consumer.table import Target

_SQLITE = "sqlite:///"


def open_sink(settings: Settings, owner: str) -> Sink:
    """The sink of `sink.dsn`; it connects when first used. Raises ConfigError when the DSN cannot be parsed."""
    dsn, group = settings.sink.dsn.get_secret_value(), str(settings.kafka["group.id"])
    exactly_once = settings.delivery == "exactly_once"
    targets, errors = targets_of(settings), settings.sink.errors
    if dsn.startswith(_SQLITE):
        path = dsn.removeprefix(_SQLITE)
        return SqliteSink(path, targets, group, owner, exactly_once=exactly_once, verdicts=errors)
    return PostgresSink(dsn, targets, group, owner, exactly_once=exactly_once, verdicts=errors)


def targets_of(settings: Settings) -> list[Target]:
    """The tables that are written, in the order in which they are locked; not those of topics known only by regex."""
    if settings.sink.tables:
        return [target_of(name, table) for name, table in settings.sink.tables.items()]
    return [Target(topic) for topic in settings.topics if not topic.startswith("^")]


def target_of(name: str, table: TableSettings) -> Target:
    """How one table is written."""
    return Target(name, table.mode, tuple(table.key), tuple(table.add), table.version)

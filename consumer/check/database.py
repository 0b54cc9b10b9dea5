"""The database: whether it answers, has the tables, and can take what the records hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from consumer.check.columns import faults_of, schemas_of
from consumer.check.finding import Finding
from consumer.config import Settings, TableSettings
from consumer.errors import FatalError, UnavailableError
from consumer.mapping.opening import tables_of
from consumer.sinks import Sink
from consumer.table import Table


def findings(settings: Settings, sink: Sink, topics: Sequence[str]) -> Iterator[Finding]:
    """Findings about the tables of these topics."""
    try:
        general = sink.check([])
    except FatalError as error:
        yield Finding("database", False, f"{error}: {error.hint}")
        return
    except UnavailableError as error:
        yield Finding("database", False, f"{error}: correct sink.dsn, or start the database")
        return
    yield Finding("database", True, "answers; " + _offsets(settings))
    yield from (Finding("database", False, sentence) for sentence in general)
    tables = dict(settings.sink.tables) or {name: tables_of(settings, name)[name] for name in topics}
    found = []
    for name, table in tables.items():
        try:
            described = sink.describe(name)
        except (FatalError, UnavailableError) as error:
            yield Finding(f"table {name}", False, f"{error}: {getattr(error, 'hint', 'try again')}")
            continue
        found.append(name)
        yield from _table(settings, table, described)
    yield from _rest(sink, found, general)


def _offsets(settings: Settings) -> str:
    if settings.delivery == "exactly_once":
        return "offsets are kept there (exactly once)"
    return "offsets are kept in Kafka (at least once)"


def _table(settings: Settings, table: TableSettings, described: Table) -> Iterator[Finding]:
    subject = f"table {described.name}"
    yield Finding(subject, True, f"{len(described.columns)} columns, mode {table.mode}")
    if settings.transform:
        return
    failed = False
    for fault in faults_of(settings, table, described, schemas_of(settings.format)):
        failed = True
        yield Finding(subject, False, fault)
    if not failed:
        yield Finding(subject, True, "its columns can take the records' fields")


def _rest(sink: Sink, tables: Sequence[str], known: Sequence[str]) -> Iterator[Finding]:
    """Keys, privileges and settings."""
    try:
        found = [sentence for sentence in sink.check(tables) if sentence not in known]
    except (FatalError, UnavailableError) as error:
        found = [str(error)]
    for sentence in found:
        yield Finding("tables", False, sentence)
    if tables and not found:
        yield Finding("tables", True, "keys are unique, privileges suffice")

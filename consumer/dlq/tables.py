"""Dead letters into the tables that their records were meant for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from consumer.config import Settings, TableSettings
from consumer.dlq.replay import Delivery
from consumer.dlq.stored import StoredMessage
from consumer.errors import ConfigError, FatalError, MicrobatchError
from consumer.letter import DeadLetter
from consumer.mapping import Mapped
from consumer.mapping.opening import open_mapper, tables_of
from consumer.mapping.topics import TopicMapper
from consumer.mapping.transform import TransformMapper
from consumer.sinks import Sink
from consumer.sinks.opening import open_sink, targets_of
from consumer.sinks.transaction import write
from consumer.table import Mode, Table, TableRows

_OWNER = "dlq"
_ADVICE = "name the column of it that grows with each change as `version`, or give --overwrite"


class TableDestination:
    """See Destination. `guarded`: the tables of which a replay may delete rows, because they have a version."""

    def __init__(
        self,
        sink: Sink,
        mapper: TopicMapper | TransformMapper,
        describe: Callable[[str], Table],
        guarded: Callable[[str], bool] = lambda _: True,
    ) -> None:
        self._sink, self._mapper, self._describe, self._guarded = sink, mapper, describe, guarded
        self._known: dict[tuple[str, str], MicrobatchError | None] = {}  # what cannot be written, and why

    def prepare(self, letters: Sequence[DeadLetter]) -> Delivery:
        """See Destination.prepare: maps them. What cannot be mapped for want of a table is left as it is."""
        errors: dict[int, MicrobatchError] = {}
        for place, letter in enumerate(letters):
            if error := self._trial("topic", letter.topic, self._open):
                errors[place] = error
        messages = {place: StoredMessage(letter) for place, letter in enumerate(letters) if place not in errors}
        places, mapped = self._map(messages, errors)
        errors |= {places[number]: error for number, error in self._unfit(mapped.rows).items()}

        def deliver(kept: Sequence[int]) -> dict[int, MicrobatchError]:
            wanted = set(kept)
            numbers = [n for n, place in enumerate(places) if place in wanted and place not in errors]
            part = mapped.only(numbers)
            failures = [*part.failures, *write(self._sink, part.rows)]
            found = {places[numbers[failure.ordinal]]: failure.error for failure in failures}
            return {place: error for place, error in errors.items() if place in wanted} | found

        return deliver

    def _map(
        self, messages: Mapping[int, StoredMessage], errors: dict[int, MicrobatchError]
    ) -> tuple[list[int], Mapped]:
        """What those that can be mapped at all become, and their places; adds the others to `errors`."""
        try:
            return list(messages), self._mapper.map(list(messages.values())) if messages else Mapped()
        except FatalError:  # such as a framed value among plain ones: that of one record is no matter for the others
            for place, message in messages.items():
                try:
                    self._mapper.map([message])
                except FatalError as error:
                    errors[place] = error
        places = [place for place in messages if place not in errors]
        return places, self._mapper.map([messages[place] for place in places]) if places else Mapped()

    def _unfit(self, rows: Sequence[TableRows]) -> dict[int, MicrobatchError]:
        """The ordinals of rows that are not to be written, and why."""
        found: dict[int, MicrobatchError] = {}
        for group in rows:
            if error := self._trial("table", group.table, self._require_table):
                found |= dict.fromkeys(group.ordinals, error)
            elif group.deletes and not self._guarded(group.table):
                refusal = FatalError(f"it deletes a row of {group.table}, which has no version", _ADVICE)
                found |= {o: refusal for o, delete in zip(group.ordinals, group.deletes, strict=True) if delete}
        return found

    def _trial(self, kind: str, name: str, act: Callable[[str], None]) -> MicrobatchError | None:
        """What comes of it; tried once."""
        if (kind, name) not in self._known:
            try:
                act(name)
            except (FatalError, ConfigError) as error:
                self._known[kind, name] = error
            else:
                self._known[kind, name] = None
        return self._known[kind, name]

    def _open(self, topic: str) -> None:
        if isinstance(self._mapper, TopicMapper):
            self._mapper.open([topic])

    def _require_table(self, table: str) -> None:
        self._describe(table)


def require_guard(settings: Settings, topics: Collection[str], *, to_topic: bool) -> None:
    """Raises ConfigError where an old record of these topics could overwrite what a newer one has written."""
    for name, table in sorted(_tables(settings, topics).items()):
        if table.mode not in (Mode.UPSERT, Mode.DELETE):
            continue
        if table.version is None:
            reason = f"has no version: a dead letter could overwrite what a newer record has written; {_ADVICE}"
            raise ConfigError(f"sink.tables.{name}.version", None, reason)
        source = table.columns.get(table.version)
        if to_topic and source in ("$offset", "$timestamp"):
            reason = (
                f"comes from {source}, and back in its topic an old record gets a new one: it would overwrite what "
                "newer records have written; replay it into the table, or give --overwrite"
            )
            raise ConfigError(f"sink.tables.{name}.version", table.version, reason)


@contextmanager
def open_destination(settings: Settings, *, overwrite: bool) -> Iterator[tuple[Sink, TableDestination]]:
    """The tables of these settings, but for those that are not there (any longer). Raises ConfigError."""
    sink = open_sink(_present(settings), _OWNER)
    try:
        mapper = open_mapper(settings, sink.describe)
        yield sink, TableDestination(sink, mapper, sink.describe, lambda name: overwrite or _versioned(settings, name))
    finally:
        sink.close()


def _tables(settings: Settings, topics: Collection[str]) -> dict[str, TableSettings]:
    if settings.transform:
        return dict(settings.sink.tables)
    return {name: table for topic in topics for name, table in tables_of(settings, topic).items()}


def _versioned(settings: Settings, table: str) -> bool:
    return table in settings.sink.tables and settings.sink.tables[table].version is not None


def _present(settings: Settings) -> Settings:
    """The settings without tables that cannot be described: a sink begins no transaction while it is to write one.

    As they are where no table would be left: what is wrong is the same for all then.
    """
    sink = open_sink(settings, _OWNER)
    try:
        missing = {target.table for target in targets_of(settings) if _missing(sink, target.table)}
    finally:
        sink.close()
    if settings.sink.tables:
        tables = {name: table for name, table in settings.sink.tables.items() if name not in missing}
        return settings.model_copy(
            update={"sink": settings.sink.model_copy(update={"tables": tables})} if tables else {}
        )
    return settings.model_copy(update={"topics": [topic for topic in settings.topics if topic not in missing]})


def _missing(sink: Sink, table: str) -> bool:
    try:
        sink.describe(table)
    except FatalError:
        return True
    return False

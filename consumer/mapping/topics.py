"""Which tables the records of each topic go into."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import islice

from consumer.errors import TopicPartition
from consumer.mapping import Mapped
from consumer.mapping.fields import FieldMapper
from consumer.record import Message
from consumer.table import TableRows


class TopicMapper:
    """Maps records by their topic; see `writer.Mapper`. `open_topic` makes the mappers of a topic, once.

    The unit is the record: one that fails for one table has no row in any.
    """

    def __init__(self, open_topic: Callable[[str], Sequence[FieldMapper]]) -> None:
        self._open_topic, self._mappers = open_topic, dict[str, Sequence[FieldMapper]]()

    def open(self, topics: Collection[str]) -> None:
        """Make the mappers of these topics now. Raises what `open_topic` raises: FatalError, UnavailableError."""
        for topic in topics:
            if topic not in self._mappers:
                self._mappers[topic] = self._open_topic(topic)

    def map(self, messages: Sequence[Message]) -> Mapped:
        """See Mapper.map."""
        kind = type(messages[0])
        topics = set(map(kind.topic, messages))
        if len(topics) == 1:
            return self._topic(topics.pop(), messages, range(len(messages)))
        mapped = Mapped()
        for topic in sorted(topics):
            ordinals = [ordinal for ordinal, message in enumerate(messages) if message.topic() == topic]
            part = self._topic(topic, [messages[ordinal] for ordinal in ordinals], ordinals)
            mapped.rows.extend(part.rows)
            mapped.failures.extend(part.failures)
            mapped.dropped.update(part.dropped)
        mapped.failures.sort(key=lambda failure: failure.ordinal)
        return mapped

    def unmapped(self, topic: str, messages: Sequence[Message]) -> list[str]:
        """The top-level fields of these records, which can all be mapped, that no column of any table takes."""
        found = [mapper.unmapped(messages) for mapper in self._mappers[topic]] if messages else []
        return sorted(set[str].intersection(*found)) if found else []

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """See Mapper.forget: nothing is kept from record to record."""

    def _topic(self, topic: str, messages: Sequence[Message], ordinals: Sequence[int]) -> Mapped:
        self.open([topic])
        parts = [mapper.map(messages, ordinals) for mapper in self._mappers[topic]]
        failures = {failure.ordinal: failure for part in reversed(parts) for failure in part.failures}
        rows = [rows for part in parts for rows in part.rows]
        if failures and len(parts) > 1:
            rows = [_without(table, failures) for table in rows]
        # Of one record: to look at the names in each would cost as much as decoding them anew.
        first = islice((m for m, ordinal in zip(messages, ordinals, strict=True) if ordinal not in failures), 1)
        names = self.unmapped(topic, list(first))
        dropped = {topic: frozenset(names)} if names else {}
        return Mapped(rows, [failures[ordinal] for ordinal in sorted(failures)], dropped)


def _without(table: TableRows, ordinals: Collection[int]) -> TableRows:
    kept = [index for index, ordinal in enumerate(table.ordinals) if ordinal not in ordinals]
    deletes = table.deletes and [table.deletes[index] for index in kept]
    rows = [table.rows[index] for index in kept]
    return TableRows(table.table, table.columns, rows, [table.ordinals[index] for index in kept], deletes)

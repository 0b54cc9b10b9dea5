"""The user's own function from a record to rows."""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any

from consumer.decode import Decoder
from consumer.errors import Failure, MappingError, MicrobatchError, RecordError, TopicPartition
from consumer.mapping import Mapped
from consumer.mapping.arrange import Arranger, Item
from consumer.mapping.sources import Inputs, decoded, headers_of, moments
from consumer.record import Message, Record, Row
from consumer.table import Mode, TableRows, Target

Transform = Callable[[Record], Mapping[str, Any] | Row | Iterable[Mapping[str, Any] | Row] | None]
_Row = tuple[str, tuple[str, ...], tuple[Any, ...], bool]
_Result = RecordError | dict[str, Any] | list[_Row]
_ROWS = (Row, dict)
_RECORD = partial(tuple.__new__, Record)


class TransformMapper:
    """Calls the transform once for each record, in order. See `writer.Mapper`.

    A record is handed over a second time only if its batch had to be put together anew, after a fence or a COMMIT
    whose answer was lost. `default`: the table of rows that name none; None: the topic's. `key_of` tells by which
    columns a table's rows are matched. `skip_null`: records without a value make no row.
    """

    def __init__(
        self,
        transform: Transform,
        value: Decoder,
        key: Decoder,
        targets: Mapping[str, Target],
        key_of: Callable[[str], tuple[str, ...]],
        *,
        default: str | None,
        skip_null: bool = False,
    ) -> None:
        self._transform, self._value, self._key = transform, value, key
        self._targets, self._key_of = targets, key_of
        self._default, self._skip_null = default, skip_null
        self._contexts: dict[TopicPartition, dict[str, Any]] = {}

    def map(self, messages: Sequence[Message]) -> Mapped:
        """See Mapper.map."""
        failures: list[Failure] = []
        tables: defaultdict[str, _Rows] = defaultdict(_Rows)
        records, faults = self._records(messages)
        for ordinal, record in enumerate(records):
            found = faults[ordinal] if ordinal in faults else self._result(record)
            if isinstance(found, dict):
                tables[self._default or record.topic].add(tuple(found), tuple(found.values()), ordinal, False)
            elif isinstance(found, RecordError):
                failures.append(Failure(ordinal, found))
            else:
                for table, names, values, delete in found:
                    tables[table].add(names, values, ordinal, delete)
        return Mapped([part for table, rows in tables.items() for part in self._arranged(table, rows)], failures)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """See Mapper.forget."""
        for partition in partitions:
            self._contexts.pop(partition, None)

    def _records(self, messages: Sequence[Message]) -> tuple[Iterator[Record], dict[int, RecordError]]:
        """What the transform is given; and, by ordinal, why some of it cannot be given."""
        inputs = Inputs(messages, self._value, self._key)
        kind = inputs.kind
        values, bad_values = _each(partial(decoded, self._value), inputs.payloads)
        keys, bad_keys = _each(partial(decoded, self._key), list(map(kind.key, messages)))
        times, bad_times = _each(moments, list(map(kind.timestamp, messages)))
        headers, bad_headers = _each(partial(map, headers_of), messages)
        rest = {at: error for at, error in (bad_headers | bad_times).items() if not self._skips(values[at])}
        places = list(zip(map(kind.topic, messages), map(kind.partition, messages), strict=True))
        contexts = {place: self._contexts.setdefault(place, {}) for place in set(places)}
        topics, partitions = zip(*places, strict=True)
        own = [contexts[place] for place in places]
        columns = (topics, partitions, map(kind.offset, messages), times, keys, values, headers, own)
        return map(_RECORD, zip(*columns, strict=True)), rest | bad_keys | bad_values

    def _skips(self, value: Any) -> bool:
        return value is None and self._skip_null

    def _result(self, record: Record) -> _Result:
        """A single dict as it is, for whoever takes it before the transform is called again: most records have one."""
        if self._skips(record.value):
            return []
        try:
            made = self._transform(record)
            if made is None:
                return []
            if type(made) is dict:
                return made
            return [self._row(row, record.topic) for row in ((made,) if isinstance(made, _ROWS) else made)]
        except RecordError as error:
            return error
        except MicrobatchError:
            raise
        except Exception as error:  # noqa: BLE001 - the user's code: whatever it raises, it raises about this record
            return MappingError(f"the transform raised {type(error).__name__} {_place(error)}")

    def _row(self, row: Any, topic: str) -> _Row:
        """As it is now: the transform may change it for its next one."""
        if isinstance(row, dict):
            return self._default or topic, tuple(row), tuple(row.values()), False
        if isinstance(row, Row):
            return row.table, tuple(row.values), tuple(row.values.values()), row.delete
        raise MappingError(f"the transform gave a {type(row).__name__}, where a row is a dict or a Row")

    def _arranged(self, table: str, rows: _Rows) -> list[TableRows]:
        names = rows.names[0]
        if rows.names.count(names) == len(rows.names) and True not in rows.deletes:
            return [TableRows(table, names, rows.values, rows.ordinals)]
        target = self._targets.get(table, Target(table))
        key = () if target.mode is Mode.INSERT else target.key or self._key_of(table)
        return Arranger(table, key).arrange(map(Item, rows.names, rows.values, rows.ordinals, rows.deletes))


class _Rows:
    """What is an Item a row elsewhere, by column."""

    def __init__(self) -> None:
        self.names: list[tuple[str, ...]] = []
        self.values: list[tuple[Any, ...]] = []
        self.ordinals: list[int] = []
        self.deletes: list[bool] = []

    def add(self, names: tuple[str, ...], values: tuple[Any, ...], ordinal: int, delete: bool) -> None:
        """One row."""
        self.names.append(names)
        self.values.append(values)
        self.ordinals.append(ordinal)
        self.deletes.append(delete)


def _each(
    make: Callable[[Sequence[Any]], Iterable[Any]], given: Sequence[Any]
) -> tuple[list[Any], dict[int, RecordError]]:
    """What is made of these; of those of which nothing can be made the errors, by ordinal."""
    try:
        return list(make(given)), {}
    except RecordError:
        found = list(map(_alone, repeat(make), given))
    return found, {at: error for at, error in enumerate(found) if isinstance(error, RecordError)}


def _alone(make: Callable[[Sequence[Any]], Iterable[Any]], given: Any) -> Any:
    try:
        (found,) = make([given])
    except RecordError as error:
        return error
    return found


def _place(error: Exception) -> str:
    # The line, never the message, which may hold the record's values.
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"in {last.name}, line {last.lineno} of {last.filename.rsplit('/', 1)[-1]}"

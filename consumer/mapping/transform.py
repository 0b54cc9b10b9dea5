"""The user's own function from a record to rows."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

from consumer.decode import Decoder
from consumer.errors import Failure, MappingError, MicrobatchError, RecordError, TopicPartition
from consumer.mapping import Mapped
from consumer.mapping.arrange import Arranger, Item
from consumer.mapping.sources import Inputs, decoded, headers_of, moment
from consumer.record import Message, Record, Row
from consumer.table import Mode, TableRows, Target

Transform = Callable[[Record], Mapping[str, Any] | Row | Iterable[Mapping[str, Any] | Row] | None]
_Result = RecordError | list[Any]


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
        tables: dict[str, list[Item]] = {}
        for ordinal, result in enumerate(self._results(messages)):
            if isinstance(result, RecordError):
                failures.append(Failure(ordinal, result))
                continue
            for table, values, delete in result:
                item = Item(tuple(values), tuple(values.values()), ordinal, delete)
                tables.setdefault(table, []).append(item)
        return Mapped([rows for table, items in tables.items() for rows in self._rows(table, items)], failures)

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """See Mapper.forget."""
        for partition in partitions:
            self._contexts.pop(partition, None)

    def _rows(self, table: str, items: list[Item]) -> list[TableRows]:
        names = items[0].names
        if all(item.names == names and not item.delete for item in items):
            return [TableRows(table, names, [item.values for item in items], [item.ordinal for item in items])]
        target = self._targets.get(table, Target(table))
        key = () if target.mode is Mode.INSERT else target.key or self._key_of(table)
        return Arranger(table, key).arrange(items)

    def _results(self, messages: Sequence[Message]) -> Iterator[_Result]:
        values, keys = self._decoded(messages)
        for message, value, key in zip(messages, values, keys, strict=True):
            for problem in (value, key):
                if isinstance(problem, RecordError):
                    yield problem
                    break
            else:
                yield [] if value is None and self._skip_null else self._call(message, value, key)

    def _decoded(self, messages: Sequence[Message]) -> tuple[list[Any], list[Any]]:
        inputs = Inputs(messages, self._value, self._key)
        keys = list(map(inputs.kind.key, messages))
        return _each(self._value, inputs.payloads), _each(self._key, keys)

    def _call(self, message: Message, value: Any, key: Any) -> _Result:
        topic, partition = message.topic(), message.partition()
        context = self._contexts.setdefault((topic, partition), {})
        try:
            when, headers = moment(message.timestamp()), headers_of(message)
            record = Record(topic, partition, message.offset(), when, key, value, headers, context)
            return list(self._made(self._transform(record), topic))
        except RecordError as error:
            return error
        except MicrobatchError:
            raise
        except Exception as error:  # noqa: BLE001 - the user's code: whatever it raises, it raises about this record
            return MappingError(f"the transform raised {type(error).__name__} {_place(error)}")

    def _made(self, made: Any, topic: str) -> Iterator[tuple[str, Mapping[str, Any], bool]]:
        if made is None:
            return
        for row in (made,) if isinstance(made, Row | dict) else made:
            if isinstance(row, Row):
                yield row.table, row.values, row.delete
            elif isinstance(row, dict):
                yield self._default or topic, row, False
            else:
                raise MappingError(f"the transform gave a {type(row).__name__}, where a row is a dict or a Row")


def _each(decoder: Decoder, payloads: Sequence[bytes | None]) -> list[Any]:
    """Values, or for those that cannot be decoded their errors."""
    try:
        return decoded(decoder, payloads)
    except RecordError:
        return list(map(_alone, repeat(decoder), payloads))


def _alone(decoder: Decoder, payload: bytes | None) -> Any:
    try:
        return decoded(decoder, [payload])[0]
    except RecordError as error:
        return error


def _place(error: Exception) -> str:
    # The line, never the message, which may hold the record's values.
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"in {last.name}, line {last.lineno} of {last.filename.rsplit('/', 1)[-1]}"

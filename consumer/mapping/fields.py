"""Fields into columns as configured: by the same name, renamed, constant, or from the record's metadata."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from msgspec import UNSET

from consumer.decode import Decoder, Fields
from consumer.errors import DecodeError, Failure, FatalError, MappingError, RecordError
from consumer.mapping import Mapped
from consumer.mapping.arrange import Arranger, Item, items_of
from consumer.mapping.sources import Inputs, Source, constant, decoded, source
from consumer.record import Message
from consumer.table import Deferred, Kind, Mode, Row, Table, TableRows, Target
from consumer.vector import vector_of

OnNull = Literal["reject", "delete", "skip"]


@dataclass(frozen=True, slots=True)
class FieldRules:
    """How the fields of a topic's records go to the columns of one table.

    `columns`: where those that are not fed by a field of their name come from (see `sources.source`). `constants`:
    what they always hold. `select`: the only fields taken by name; None: all. `unknown`: what to do with fields that no
    column takes; `keep_in`: the column that takes them all, as one JSON object.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    select: Sequence[str] | None = None
    unknown: Literal["drop", "reject", "keep"] = "drop"
    keep_in: str | None = None
    on_null: OnNull = "reject"


class FieldMapper:
    """Maps records of one topic into one table. `value` makes the decoder of values, told which field goes where.

    Raises FatalError where rules and table do not agree.
    """

    def __init__(
        self,
        table: Table,
        target: Target,
        rules: FieldRules,
        value: Callable[[Mapping[str, Any]], Decoder],
        key: Decoder,
    ) -> None:
        self._table, self._target, self._rules, self._key = table, target, rules, key
        self._fields = self._by_name()
        self._sources = self._others()
        self._columns = {name: column for column, name in self._fields.items()}
        self._value = value({name: table.columns[column] for column, name in self._fields.items()})
        self._known = {*self._fields.values(), *(name for text in rules.columns.values() for name in _fields_of(text))}
        self._matched = target.key or next(iter(table.keys), ())
        self._arranger = Arranger(table.name, () if target.mode is Mode.INSERT else self._matched)

    def map(self, messages: Sequence[Message], ordinals: Sequence[int]) -> Mapped:
        """The rows of these records, numbered by `ordinals`. Raises FatalError, UnavailableError."""
        try:
            return Mapped(self._rows(messages, ordinals))
        except RecordError as error:
            reason = error.reason  # the error itself would hold this frame, and with it all records
        failures = list(self._failures(messages, ordinals))
        if not failures:
            hint = "This is a defect of microbatch; please report it."
            raise FatalError(f"records fail together but not alone: {reason}", hint)
        bad = {failure.ordinal for failure in failures}
        good = [(m, ordinal) for m, ordinal in zip(messages, ordinals, strict=True) if ordinal not in bad]
        return Mapped(self._rows([m for m, _ in good], [ordinal for _, ordinal in good]) if good else [], failures)

    def unmapped(self, messages: Sequence[Message]) -> set[str]:
        """The top-level fields of these records, which can all be mapped, that no column takes.

        Of a record with something in such a field that cannot be decoded, none: no row needed it.
        """
        if self._rules.keep_in or "$value" in self._rules.columns.values():
            return set()
        found: set[str] = set()
        for message in messages:
            with suppress(DecodeError):
                (value,) = decoded(self._value, [message.value()])
                found |= value.keys() if isinstance(value, dict) else set()
        return found - self._known

    def _failures(self, messages: Sequence[Message], ordinals: Sequence[int]) -> Iterator[Failure]:
        for message, ordinal in zip(messages, ordinals, strict=True):
            try:
                self._rows([message], [ordinal])
            except RecordError as error:
                yield Failure(ordinal, error)

    def _by_name(self) -> dict[str, str]:
        """Column -> top-level field, for the columns that the decoder feeds directly; each field once."""
        rules, table = self._rules, self._table
        found = {
            name: name
            for name, column in table.columns.items()
            if column.writable and column.kind is not Kind.OTHER and (rules.select is None or name in rules.select)
        }
        for name in (*rules.columns, *rules.constants, *filter(None, [rules.keep_in])):
            if name not in table.columns:
                raise FatalError(f"table {table.name} has no column {name}", "Correct sink.tables, or the table.")
            found.pop(name, None)
        if missing := sorted(set(rules.select or ()) - table.columns.keys()):
            hint = "Correct `select`, or say under `columns` which column takes the field."
            raise FatalError(f"table {table.name} has no column {missing[0]} for the selected field", hint)
        for name, text in rules.columns.items():
            if text[0] != "$" and "." not in text and text not in found.values():
                found[name] = text
        return found

    def _others(self) -> dict[str, Source]:
        rules = self._rules
        others = {
            name: source(text, self._table.columns[name])
            for name, text in rules.columns.items()
            if name not in self._fields
        }
        others |= {name: constant(value) for name, value in rules.constants.items()}
        if rules.keep_in:
            others[rules.keep_in] = self._unknown_fields
        return others

    def _rows(self, messages: Sequence[Message], ordinals: Sequence[int]) -> list[TableRows]:
        inputs = self._inputs(messages)
        if None in inputs.payloads:
            return self._with_nulls(inputs, ordinals)
        found = self._values(inputs)
        if found.sparse:
            return self._arranger.arrange(items_of(found.names, found.rows, ordinals))
        return [TableRows(self._table.name, found.names, found.rows, ordinals, None, found.known, found.vectors)]

    def _inputs(self, messages: Sequence[Message]) -> Inputs:
        return Inputs(messages, self._value, self._key)

    def _values(self, inputs: Inputs) -> Fields:
        """What goes into which column."""
        found = Fields((), [()] * len(inputs.messages))
        if self._fields:
            fields = self._value.rows(inputs.payloads, tuple(self._columns))
            found = replace(fields, names=tuple(self._columns[name] for name in fields.names))
        if self._rules.unknown == "reject":
            self._refuse_unknown(inputs)
        return self._with_others(found, inputs) if self._sources else found

    def _with_others(self, found: Fields, inputs: Inputs) -> Fields:
        extras = [find(inputs) for find in self._sources.values()]
        names = (*found.names, *self._sources)
        known = found.known and (*found.known, *(None for _ in extras))
        vectors = [vector for values in extras if (vector := vector_of(values))] if found.vectors else []
        if found.vectors and len(vectors) == len(extras):
            rows = Deferred(len(inputs.messages), lambda: _wider(found.rows, extras))
            return Fields(names, rows, False, known, (*found.vectors, *vectors))
        sparse = found.sparse or any(value is UNSET for values in extras for value in values)
        return Fields(names, _wider(found.rows, extras), sparse, known)

    def _refuse_unknown(self, inputs: Inputs) -> None:
        for value in inputs.values:
            if isinstance(value, dict) and (unknown := value.keys() - self._known):
                raise MappingError(f"no column takes the field {sorted(unknown)[0]}")

    def _unknown_fields(self, inputs: Inputs) -> Sequence[Any]:
        known = self._known
        return [{n: v for n, v in value.items() if n not in known} or None for value in inputs.values]

    def _with_nulls(self, inputs: Inputs, ordinals: Sequence[int]) -> list[TableRows]:
        if self._rules.on_null == "reject":
            raise DecodeError("the value is null; `on_null` may let it delete its key's row, or be skipped")
        pairs = list(zip(inputs.messages, ordinals, strict=True))
        live = [(m, ordinal) for m, ordinal in pairs if m.value() is not None]
        if self._rules.on_null == "skip":
            return self._rows([m for m, _ in live], [ordinal for _, ordinal in live]) if live else []
        dead = [(m, ordinal) for m, ordinal in pairs if m.value() is None]
        items = [*self._deleted(*zip(*dead, strict=True)), *(self._live(*zip(*live, strict=True)) if live else ())]
        return self._arranger.arrange(sorted(items, key=lambda item: item.ordinal))

    def _live(self, messages: Sequence[Message], ordinals: Sequence[int]) -> Iterable[Item]:
        found = self._values(self._inputs(messages))
        return items_of(found.names, found.rows, ordinals)

    def _deleted(self, messages: Sequence[Message], ordinals: Sequence[int]) -> Iterable[Item]:
        """Rows of key and version: from the metadata that feeds these columns, else from the record's key."""
        inputs = self._inputs(messages)
        names = [*self._matched, *filter(None, [self._target.version])]
        columns = [self._of_key(name, inputs) for name in names]
        for ordinal, *values in zip(ordinals, *columns, strict=True):
            yield Item(tuple(names), tuple(values), ordinal, True)

    def _of_key(self, name: str, inputs: Inputs) -> Sequence[Any]:
        text = self._rules.columns.get(name, "")
        if name in self._sources and text.startswith("$") and not text.startswith("$value"):
            return self._sources[name](inputs)
        if name not in self._matched:
            raise MappingError(f"a null value has no {name}; take that column from `$timestamp` or `$offset`")
        return [self._part_of_key(key, self._fields.get(name, name)) for key in inputs.keys]

    def _part_of_key(self, key: Any, name: str) -> Any:
        if isinstance(key, dict):
            if name in key:
                return key[name]
        elif len(self._matched) == 1 and key is not None:
            return key
        raise MappingError(f"a null value deletes by its key, and the key does not tell {name}")


def _wider(rows: Sequence[Row], extras: Sequence[Sequence[Any]]) -> list[Row]:
    return [(*row, *extra) for row, extra in zip(rows, zip(*extras, strict=True), strict=True)]


def _fields_of(text: str) -> tuple[str, str]:
    """The field that a source reads, by either meaning that a dot in it may have."""
    path = text.removeprefix("$value.")
    return path, path.partition(".")[0]

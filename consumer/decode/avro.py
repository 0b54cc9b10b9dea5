"""Avro payloads: of one schema that is configured, or framed, each with the id of its schema before it.

Values: a dict a record; date, time, datetime (aware, in UTC, for timestamp-*; naive for local-timestamp-*), Decimal and
UUID for logical types. Of the rest (`duration`, `timestamp-nanos`, ...) the underlying value. With a reader's schema
the values are what that schema says, by Avro's schema resolution.

Every byte is checked, so that a DecodeError comes for all that no Avro writer could have written with the schema:
truncated or trailing bytes, ints and longs beyond 32 and 64 bits, indexes and lengths out of range, text that is not
UTF-8, decimals beyond their precision, dates and times beyond Python's; and for records nested beyond Python's
recursion limit.
"""

from __future__ import annotations

import operator
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import UNSET

from consumer.decode import Fields
from consumer.decode.avro_code import Reader, dict_maker, row_reader, value_reader
from consumer.decode.avro_ids import Asked, Configured, Schemas
from consumer.decode.avro_known import known
from consumer.decode.avro_resolution import resolve
from consumer.decode.avro_schema import build, load
from consumer.decode.avro_types import Map, Record, SchemaError, Type, Union
from consumer.decode.avro_vectors import UnfitError, VectorReader
from consumer.decode.registry import Registry
from consumer.errors import ConfigError, DecodeError, FatalError
from consumer.table import Column, Deferred, Row
from consumer.vector import Vector, joined, rows_of, values_of

# Confluent's wire format: a zero byte and the schema id, 4 bytes, big-endian.
# https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format
_HEADER_BYTES = 5
_header = operator.itemgetter(slice(_HEADER_BYTES))
# With fewer records it takes longer to read them as vectors. [measured: 8 fields, rows 2.2 us a record, vectors 0.2 ms
# a batch and 0.2 us a record, 1.1 us as dicts]
_FEWEST = 200


def open_avro(
    schema: Path | None, schemas: Mapping[int, Path] | None, reader: Path | None, setting: str
) -> AvroDecoder | FramedAvroDecoder:
    """The decoder of one schema's file, or of framed values with a file for each id; exactly one of them is not None.

    Raises ConfigError, naming fields below `setting`.
    """
    if schema is not None and schemas is None:
        return AvroDecoder(schema, reader, setting)
    if schemas and schema is None:
        return FramedAvroDecoder(schemas, reader, setting)
    reason = "give either `schema` (plain values) or `schemas` (schema id -> file, for framed values)"
    raise ConfigError(setting, None, reason)


class AvroDecoder:
    """Payloads of one schema: a Path to its .avsc file, or its parsed JSON; `reader` likewise, or None for the same.

    `setting` is the part of the configuration that errors name. Raises ConfigError for schemas that cannot be read, are
    not valid, or do not resolve.
    """

    def __init__(self, schema: Any, reader: Any = None, setting: str = "format") -> None:
        self._schema = _open(schema, f"{setting}.schema", reader, f"{setting}.reader")
        self._setting = setting
        self._proven = False

    def decode(self, payloads: Sequence[bytes]) -> list[Any]:
        """One value a payload. FatalError when the first payload of all is framed."""
        try:
            values = self._schema.decode(payloads, 0)
        except DecodeError as error:
            raise self._explain(error, payloads) from None
        self._proven = self._proven or bool(values)
        return values

    def rows(self, payloads: Sequence[bytes], fields: tuple[str, ...]) -> Fields:
        """These fields, as tuples. FatalError when the first payload of all is framed."""
        names, sparse = _common([self._schema], fields)
        known = self._schema.known(names)
        if vectors := self._schema.vectors(payloads, b"", names):
            self._proven = True
            rows: Sequence[Row] = Deferred(len(payloads), lambda: rows_of(vectors))
            return Fields(names, rows, sparse, known, vectors)
        try:
            rows = self._schema.rows(payloads, 0, names)
        except DecodeError as error:
            raise self._explain(error, payloads) from None
        self._proven = self._proven or bool(rows)
        return Fields(names, rows, sparse, known)

    def _explain(self, error: DecodeError, payloads: Sequence[bytes]) -> DecodeError | FatalError:
        if not self._looks_framed(payloads[0]):
            return error
        schema_id = _schema_id(_header(payloads[0]))
        message = (
            f"the value is framed (0x00 and schema id {schema_id} before it), but {self._setting}.schema says plain"
        )
        if self._proven:
            return DecodeError(f"{message}, as the values before it were")
        hint = f"Replace {self._setting}.schema by {self._setting}.schemas: {{{schema_id}: FILE}}, for each schema id."
        return FatalError(message, hint)

    def _looks_framed(self, payload: bytes) -> bool:
        return (
            payload[:1] == b"\0" and not self._schema.reads(payload, 0) and self._schema.reads(payload, _HEADER_BYTES)
        )


class FramedAvroDecoder:
    """Payloads with their schema's id before them. `schemas`: id -> a Path or parsed JSON, as for AvroDecoder; or a
    Registry, whose schemas are asked for as their ids come.

    A batch is read id by id, in bulk. With a registry both calls raise UnavailableError as well, and FatalError; an id
    that it does not know for `unknown_after` seconds is a DecodeError then. `clock` gives monotonic seconds. Raises
    ConfigError as AvroDecoder does.
    """

    def __init__(
        self,
        schemas: Mapping[int, Any] | Registry,
        reader: Any = None,
        setting: str = "format",
        *,
        unknown_after: float = 300.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schemas: Schemas[_Schema]
        if isinstance(schemas, Registry):
            tree = None if reader is None else load(reader, f"{setting}.reader")
            self._schemas = Asked(partial(_registered, schemas, tree), unknown_after, clock)
            return
        found = {
            schema_id: _open(schema, f"{setting}.schemas.{schema_id}", reader, f"{setting}.reader")
            for schema_id, schema in schemas.items()
        }
        self._schemas = Configured(found, setting)

    def decode(self, payloads: Sequence[bytes]) -> list[Any]:
        """One value a payload, in order."""
        values: list[Any] = [None] * len(payloads)
        for schema, at in self._groups(payloads):
            _scatter(values, at, schema.decode(_gather(payloads, at), _HEADER_BYTES))
        return values

    def rows(self, payloads: Sequence[bytes], fields: tuple[str, ...]) -> Fields:
        """These fields, as tuples; sparse where the schemas of the batch differ in them."""
        return self._alike(payloads, fields) or self._unlike(payloads, fields)

    def _alike(self, payloads: Sequence[bytes], fields: tuple[str, ...]) -> Fields | None:
        """Payloads that all have the schema of the first, as vectors; None if they are not, or cannot be."""
        header = _header(payloads[0]) if payloads else b""
        schema = self._schemas.get(_schema_id(header)) if _is_frame(header) else None
        if schema is None:
            return None
        names, sparse = _common([schema], fields)
        if not (vectors := schema.vectors(payloads, header, names)):
            return None
        rows = Deferred(len(payloads), lambda: rows_of(vectors))
        return Fields(names, rows, sparse, schema.known(names), vectors)

    def _unlike(self, payloads: Sequence[bytes], fields: tuple[str, ...]) -> Fields:
        groups = self._groups(payloads)
        names, sparse = _common([schema for schema, _ in groups], fields)
        known = groups[0][0].known(names) if len(groups) == 1 else ()
        if vectors := () if sparse else _vectors(groups, payloads, names):
            return Fields(names, Deferred(len(payloads), lambda: rows_of(vectors)), sparse, known, vectors)
        rows: list[Any] = [None] * len(payloads)
        for schema, at in groups:
            _scatter(rows, at, schema.rows(_gather(payloads, at), _HEADER_BYTES, names))
        return Fields(names, rows, sparse, known)

    def _groups(self, payloads: Sequence[bytes]) -> list[_Group]:
        """Each schema with the indexes of its payloads."""
        headers = list(map(_header, payloads))
        places: dict[bytes, Any] = {header: [] for header in headers}
        answers = self._schemas.of([_schema_id(header) for header in places if _is_frame(header)])
        schemas = {header: _schema_of(header, answers) for header in places}
        if len(schemas) == 1:
            return [(schema, range(len(payloads))) for schema in schemas.values()]
        for at, header in enumerate(headers):
            places[header].append(at)
        return [(schema, places[header]) for header, schema in schemas.items()]


class _Schema:
    """A schema with its readers. `names`: the fields of its values; None where that differs from value to value."""

    def __init__(self, tree: Type) -> None:
        self.names: frozenset[str] | None = None
        if not isinstance(tree, Union | Map):
            self.names = frozenset(tree.names() if isinstance(tree, Record) else ())
        self._tree = tree
        self._values = value_reader(tree)
        self._fields = tuple(tree.names()) if isinstance(tree, Record) else ()
        self._dicts = dict_maker(self._fields) if self._fields else None
        self._rows: dict[tuple[str, ...], Reader] = {}
        self._vectors: dict[tuple[str, ...], VectorReader | None] = {}
        self._known: dict[tuple[str, ...], tuple[Column | None, ...]] = {}

    def known(self, names: tuple[str, ...]) -> tuple[Column | None, ...]:
        """See Fields.known; of rows of these names."""
        if names not in self._known:
            self._known[names] = known(self._tree, names) if isinstance(self._tree, Record) else ()
        return self._known[names]

    def decode(self, payloads: Sequence[bytes], start: int) -> list[Any]:
        """Of payloads that are the same up to `start`."""
        if self._dicts and (vectors := self.vectors(payloads, payloads[0][:start] if payloads else b"", self._fields)):
            return self._dicts(map(values_of, vectors))
        return _read(self._values, payloads, start)

    def rows(self, payloads: Sequence[bytes], start: int, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
        """UNSET where a record has no field of that name."""
        if not isinstance(self._tree, Record):
            return self._rows_of_dicts(payloads, start, names)
        if (reader := self._rows.get(names)) is None:
            reader = self._rows[names] = row_reader(self._tree, names)
        return _read(reader, payloads, start)

    def vectors(self, payloads: Sequence[bytes], frame: bytes, names: tuple[str, ...]) -> tuple[Vector, ...]:
        """Of payloads that begin with `frame`. Nothing where they are few, or where they or the schema are not fit."""
        if len(payloads) < _FEWEST:
            return ()
        if names not in self._vectors:
            self._vectors[names] = self._vector_reader(names)
        try:
            reader = self._vectors[names]
            return reader.read(payloads, frame) if reader else ()
        except UnfitError:
            return ()

    def _vector_reader(self, names: tuple[str, ...]) -> VectorReader | None:
        try:
            return VectorReader(self._tree, names) if isinstance(self._tree, Record) else None
        except UnfitError:
            return None

    def reads(self, payload: bytes, start: int) -> bool:
        try:
            _read(self._values, [payload], start)
        except DecodeError:
            return False
        return True

    def _rows_of_dicts(self, payloads: Sequence[bytes], start: int, names: tuple[str, ...]) -> list[tuple[Any, ...]]:
        values = self.decode(payloads, start)
        if not names:
            return [()] * len(values)
        if not all(isinstance(value, dict) for value in values):
            raise DecodeError("a value without fields, where the mapping wants a record of named fields")
        return [tuple([value.get(name, UNSET) for name in names]) for value in values]


_Group = tuple[_Schema, Sequence[int]]


def _open(schema: Any, setting: str, reader: Any, reader_setting: str) -> _Schema:
    tree = load(schema, setting)
    try:
        if reader is not None:
            tree = resolve(tree, load(reader, reader_setting))
        return _Schema(tree)
    except SchemaError as error:
        raise ConfigError(reader_setting, None, f"it cannot read what {setting} writes: {error}") from None
    except RecursionError:
        raise ConfigError(setting, None, "the schema is nested too deep") from None


def _registered(registry: Registry, reader: Type | None, schema_id: int) -> _Schema:
    """Of this id; read as `reader`. Raises as Registry.schema does."""
    found = registry.schema(schema_id)
    try:
        tree = build(found.schema, found.references)
        return _Schema(tree if reader is None else resolve(tree, reader))
    except SchemaError as error:
        raise DecodeError(f"schema id {schema_id} of the schema registry cannot be read: {error}") from None
    except RecursionError:
        raise DecodeError(f"schema id {schema_id} of the schema registry is nested too deep") from None


def _read(reader: Reader, payloads: Sequence[bytes], start: int) -> list[Any]:
    try:
        return reader(payloads, start)
    except (IndexError, struct.error):
        raise DecodeError("truncated: the payload ends before its value is complete") from None
    except UnicodeDecodeError:
        raise DecodeError("text that is not UTF-8") from None
    except RecursionError:
        raise DecodeError("records nested too deep") from None
    except (OverflowError, ValueError):
        raise DecodeError("a date or time stamp outside the years 1 to 9999") from None


def _is_frame(header: bytes) -> bool:
    return header[:1] == b"\0" and len(header) == _HEADER_BYTES


def _schema_of(header: bytes, answers: Mapping[int, _Schema | str]) -> _Schema:
    if not _is_frame(header):
        raise DecodeError("the value is not framed: it does not start with 0x00 and a schema id of 4 bytes")
    answer = answers[_schema_id(header)]
    if isinstance(answer, str):
        raise DecodeError(answer)
    return answer


def _schema_id(header: bytes) -> int:
    return int.from_bytes(header[1:], "big")


def _common(schemas: Sequence[_Schema], fields: tuple[str, ...]) -> tuple[tuple[str, ...], bool]:
    """Those of the fields that any of the schemas has, and whether another of them lacks one."""
    names = tuple(name for name in fields if any(found.names is None or name in found.names for found in schemas))
    return names, any(found.names is None or not found.names.issuperset(names) for found in schemas)


def _vectors(groups: Sequence[_Group], payloads: Sequence[bytes], names: tuple[str, ...]) -> tuple[Vector, ...]:
    """Those of all groups, if each of them has some, and they are alike."""
    found = []
    for schema, at in groups:
        part = _gather(payloads, at)
        found.append(schema.vectors(part, _header(part[0]), names))
    if not found or not all(found):
        return ()
    places = [np.array(at) for _, at in groups]
    whole = [joined(parts, places, len(payloads)) for parts in zip(*found, strict=True)]
    return tuple(vector for vector in whole if vector) if all(whole) else ()


def _gather(payloads: Sequence[bytes], at: Sequence[int]) -> Sequence[bytes]:
    return payloads if isinstance(at, range) else [payloads[index] for index in at]


def _scatter(values: list[Any], at: Sequence[int], found: list[Any]) -> None:
    if isinstance(at, range):
        values[:] = found
        return
    for index, value in zip(at, found, strict=True):
        values[index] = value

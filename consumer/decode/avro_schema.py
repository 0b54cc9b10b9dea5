"""Avro schemas, read from a file or from parsed JSON, and vetted once, before a record is decoded.

fastavro parses (names, namespaces, defaults); this module refuses what it lets pass and what cannot be decoded safely:
https://avro.apache.org/docs/1.12.0/specification/ is the standard.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fastavro
import msgspec
from fastavro.schema import SchemaParseException, UnknownType

from consumer.decode.avro_types import (
    NO_DEFAULT,
    Array,
    Enum,
    Fixed,
    Logical,
    Map,
    Primitive,
    Record,
    RecordField,
    SchemaError,
    Type,
    Union,
    label,
    walk,
)
from consumer.errors import ConfigError

PRIMITIVES = frozenset({"null", "boolean", "int", "long", "float", "double", "bytes", "string"})
# Any other logical type (duration, timestamp-nanos, ...) leaves the value as its underlying type, as the standard says.
LOGICAL_TYPES = {
    "date": {"int"},
    "time-millis": {"int"},
    "time-micros": {"long"},
    "timestamp-millis": {"long"},
    "timestamp-micros": {"long"},
    "local-timestamp-millis": {"long"},
    "local-timestamp-micros": {"long"},
    "decimal": {"bytes", "fixed"},
    "uuid": {"string", "fixed"},
}
_MAX_PRECISION = 131_072 + 16_383  # of PostgreSQL's numeric; a bound here keeps 10**precision small


def load(source: Any, setting: str) -> Type:
    """The schema in the file at `source`, if that is a Path, else `source` itself, which is parsed JSON.

    Raises ConfigError, naming the field `setting`, when it cannot be read, is not JSON, or no valid schema.
    """
    shown = str(source) if isinstance(source, Path) else None
    try:
        return build(_read(source) if isinstance(source, Path) else source)
    except FileNotFoundError:
        raise ConfigError(setting, shown, "there is no such file: give the path of an Avro schema (.avsc)") from None
    except OSError as error:
        raise ConfigError(setting, shown, f"the schema cannot be read: {error.strerror}") from None
    except SchemaError as error:
        raise ConfigError(setting, shown, f"no valid Avro schema: {error}") from None


def _read(path: Path) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SchemaError(f"the file is not JSON: {error}") from None


def build(schema: Any, references: Sequence[Any] = ()) -> Type:
    """The tree of a schema, which may use the types of `references`, as each of them may those before it.

    Raises SchemaError.
    """
    named: dict[str, Any] = {}
    try:
        for reference in references:
            fastavro.parse_schema(reference, named)
        parsed = fastavro.parse_schema(schema, named)
        tree = _Builder(named).build(parsed)
    except UnknownType as error:
        raise SchemaError(f"it does not define the type {error.name}") from None
    except SchemaParseException as error:
        raise SchemaError(str(error)) from None
    except RecursionError:
        raise SchemaError("it is nested too deep") from None
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:  # what fastavro runs into
        raise SchemaError(f"something is missing or of the wrong type: {error}") from None
    for part in walk(tree):
        if isinstance(part, Array) and _takes_no_bytes(part.item):
            # A count of 10**12 such items takes 8 bytes, and all the memory there is.
            raise SchemaError("an array of items that take no bytes is refused, for a few bytes could claim billions")
    return tree


def _takes_no_bytes(part: Type, within: frozenset[int] = frozenset()) -> bool:
    match part:
        case Primitive():
            return part.kind == "null"
        case Fixed():
            return part.size == 0
        case Record():
            inner = within | {id(part)}
            return id(part) not in within and all(_takes_no_bytes(child.type, inner) for child in part.fields)
        case _:
            return False


class _Builder:
    """From fastavro's parsed schema, in which references are full names."""

    def __init__(self, named: dict[str, Any]) -> None:
        self._named = named
        self._built: dict[str, Type] = {}

    def build(self, schema: Any) -> Type:
        if isinstance(schema, list):
            return self._union(schema)
        if isinstance(schema, str):
            if schema in PRIMITIVES:
                return Primitive(schema)
            return self._built.get(schema) or self.build(self._named[schema])
        kind = schema["type"]
        if kind in PRIMITIVES:
            return Primitive(kind, _logical(kind, schema))
        return self._complex(kind, schema)

    def _complex(self, kind: str, schema: dict[str, Any]) -> Type:
        match kind:
            case "record" | "error":
                return self._record(schema)
            case "array":
                return Array(self.build(schema["items"]))
            case "map":
                return Map(self.build(schema["values"]))
            case "enum":
                return self._enum(schema)
            case "fixed":
                return self._fixed(schema)
            case _:
                raise SchemaError(f"it does not define the type {kind}")

    def _union(self, schema: list[Any]) -> Union:
        branches = tuple(map(self.build, schema))
        if any(isinstance(branch, Union) for branch in branches) or not branches:
            raise SchemaError("a union without branches, or directly within a union")
        names = [label(branch) for branch in branches]
        if len(set(names)) < len(names):
            raise SchemaError(f"a union with two branches of the same type: {', '.join(names)}")
        return Union(branches)

    def _record(self, schema: dict[str, Any]) -> Record:
        record = Record(schema["name"], aliases=_aliases(schema))
        self._built[record.name] = record
        for part in schema["fields"]:
            name, default = _text(part["name"]), part.get("default", NO_DEFAULT)
            record.fields.append(RecordField(name, self.build(part["type"]), default, _aliases(part)))
        if len(set(record.names())) < len(record.fields):
            raise SchemaError(f"the record {record.name} has two fields of the same name")
        return record

    def _enum(self, schema: dict[str, Any]) -> Enum:
        symbols, default = tuple(map(_text, schema["symbols"])), schema.get("default")
        if not symbols or len(set(symbols)) < len(symbols) or not (default is None or default in symbols):
            raise SchemaError(f"the enum {schema['name']} needs symbols, each once, its default among them")
        enum = self._built[schema["name"]] = Enum(schema["name"], symbols, default, _aliases(schema))
        return enum

    def _fixed(self, schema: dict[str, Any]) -> Fixed:
        size = schema["size"]
        if type(size) is not int or size < 0:
            raise SchemaError(f"the size of {schema['name']} is no number of bytes")
        fixed = Fixed(schema["name"], size, _logical("fixed", schema), _aliases(schema))
        self._built[fixed.name] = fixed
        return fixed


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise SchemaError("a name that is not text")
    return value


def _aliases(schema: dict[str, Any]) -> tuple[str, ...]:
    return tuple(map(_text, schema.get("aliases", ())))


def _logical(kind: str, schema: dict[str, Any]) -> Logical | None:
    name = schema.get("logicalType")
    if not isinstance(name, str) or kind not in LOGICAL_TYPES.get(name, ()):
        return None
    if name == "uuid" and kind == "fixed" and schema["size"] != 16:
        return None
    if name != "decimal":
        return Logical(name)
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if not isinstance(precision, int) or not isinstance(scale, int) or precision < 1:
        return None  # as for any logical type that is not valid
    if precision > _MAX_PRECISION:
        raise SchemaError(f"a decimal of more than {_MAX_PRECISION} digits")
    return Logical(name, precision, scale)

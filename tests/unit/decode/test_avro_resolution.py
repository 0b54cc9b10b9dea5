"""A writer's schema read through a reader's."""

from __future__ import annotations

import datetime
import io
from decimal import Decimal
from typing import Any

import fastavro
import pytest

from consumer.decode.avro import AvroDecoder, FramedAvroDecoder
from consumer.errors import ConfigError, DecodeError


def record(*fields: Any, name: str = "R", **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [field(*part) for part in fields], **more}


def field(name: str, kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "type": kind, **more}


def defaulted(name: str, kind: Any, default: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [field("a", "int"), field(name, kind, default=default)]}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": list(symbols), **more}


def listed(item: Any) -> dict[str, Any]:
    return {"type": "array", "items": item}


def keyed(value: Any) -> dict[str, Any]:
    return {"type": "map", "values": value}


A = record(("a", "int"))
NODE = record(("v", "int"), ("next", ["null", "R"]))
WIDE_NODE = record(("next", ["null", "R"]), ("v", ["null", "double"]))
SAME_AS_FASTAVRO = {
    "field added": (A, {"a": 1}, defaulted("b", "string", "x")),
    "field removed": (record(("b", listed("string")), ("a", "int")), {"b": ["x"], "a": 1}, A),
    "fields in another order": (
        record(("b", "string"), ("a", "int")),
        {"b": "x", "a": 1},
        defaulted("b", "string", ""),
    ),
    "field renamed": (record(("old", "int")), {"old": 1}, {**A, "fields": [field("a", "int", aliases=["old"])]}),
    "record renamed": (record(("a", "int"), name="Old"), {"a": 1}, {**A, "aliases": ["Old"]}),
    "record in another namespace": (record(("a", "int"), name="x.R"), {"a": 1}, A),
    "int to long": ("int", -5, "long"),
    "int to float": ("int", 5, "float"),
    "int to double": ("int", 5, "double"),
    "long to double": ("long", 2**53, "double"),
    "float to double": ("float", 0.5, "double"),
    "string to bytes": ("string", "ü", "bytes"),
    "bytes to string": ("bytes", "ü".encode(), "string"),
    "into a union": ("int", 5, ["null", "int"]),
    "promoted into a union": ("int", 5, ["null", "string", "double"]),
    "out of a union": (["null", "int"], 5, "int"),
    "out of a union, promoted": (["int", "string"], 5, "double"),
    "union in another order": (["null", "int", "string"], "x", ["string", "int", "null"]),
    "enum grown": (enum("A", "B"), "B", enum("C", "B", "A")),
    "enum shrunk, with a default": (enum("A", "B"), "B", enum("A", "C", default="C")),
    "enum shrunk, by a symbol that does not come": (enum("A", "B"), "A", enum("A")),
    "items promoted": (listed("int"), [1, 2], listed("double")),
    "values into a union": (keyed("int"), {"k": 1}, keyed(["null", "long"])),
    "fixed": ({"type": "fixed", "name": "F", "size": 2}, b"ab", {"type": "fixed", "name": "x.F", "size": 2}),
    "records in arrays": (
        record(("a", listed(A | {"name": "I"}))),
        {"a": [{"a": 1}]},
        record(("a", listed(A | {"name": "I"}))),
    ),
    "a recursive record": (NODE, {"v": 1, "next": {"v": 2, "next": None}}, WIDE_NODE),
}


def written(schema: Any, value: Any) -> bytes:
    file = io.BytesIO()
    fastavro.schemaless_writer(file, fastavro.parse_schema(schema), value)
    return file.getvalue()


@pytest.mark.parametrize("name", SAME_AS_FASTAVRO)
def test_schemas_resolve_as_in_fastavro(name: str) -> None:
    """Each step of evolution gives the value that fastavro's resolution gives."""
    writer, value, reader = SAME_AS_FASTAVRO[name]
    payload = written(writer, value)
    parsed = fastavro.parse_schema(writer), fastavro.parse_schema(reader)
    expected = fastavro.schemaless_reader(io.BytesIO(payload), *parsed)
    found = AvroDecoder(writer, reader).decode([payload])[0]
    assert found == expected
    assert type(found) is type(expected)


DEFAULTS = [
    ({"type": "int", "logicalType": "date"}, 0, datetime.date(1970, 1, 1)),
    ({"type": "int", "logicalType": "time-millis"}, 1, datetime.time(0, 0, 0, 1000)),
    ({"type": "long", "logicalType": "time-micros"}, 1, datetime.time(0, 0, 0, 1)),
    (
        {"type": "long", "logicalType": "timestamp-millis"},
        1,
        datetime.datetime(1970, 1, 1, 0, 0, 0, 1000, datetime.UTC),
    ),
    ({"type": "long", "logicalType": "timestamp-micros"}, 0, datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)),
    ({"type": "long", "logicalType": "local-timestamp-millis"}, 0, datetime.datetime(1970, 1, 1)),
    ({"type": "long", "logicalType": "local-timestamp-micros"}, 0, datetime.datetime(1970, 1, 1)),
    ({"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, "\u00ff", Decimal("-0.01")),
    ("bytes", "\u00ff", b"\xff"),
    ("double", 1, 1.0),
    ("boolean", True, True),
    (["null", "int"], None, None),
    (["int", "null"], 5, 5),
    (enum("A"), "A", "A"),
    ({"type": "fixed", "name": "F", "size": 1}, "\u00ff", b"\xff"),
    (listed("int"), [1], [1]),
    (keyed("bytes"), {"k": "x"}, {"k": b"x"}),
    (record(("x", "int"), name="I"), {"x": 1}, {"x": 1}),
]


@pytest.mark.parametrize(("kind", "default", "value"), DEFAULTS, ids=range(len(DEFAULTS)))
def test_defaults_are_values_of_their_type(kind: Any, default: Any, value: Any) -> None:
    """As if they had been read; no two records share one that can be changed."""
    first, second = AvroDecoder(A, defaulted("b", kind, default)).decode([b"\2", b"\4"])
    assert (repr(first), repr(second)) == (repr({"a": 1, "b": value}), repr({"a": 2, "b": value}))
    if isinstance(value, list | dict):
        assert first["b"] is not second["b"]
    assert AvroDecoder(A, defaulted("b", kind, default)).rows([b"\2"], ("b", "a")).rows == [(value, 1)]


def test_a_logical_type_that_one_schema_has_is_applied() -> None:
    """Whichever of them has it."""
    plain, stamp = "long", {"type": "long", "logicalType": "timestamp-millis"}
    epoch = [datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)]
    assert AvroDecoder(plain, stamp).decode([b"\0"]) == AvroDecoder(stamp, plain).decode([b"\0"]) == epoch


MISMATCHES = [
    ("string", "int"),
    ("long", "int"),
    (A, defaulted("b", "string", "x") | {"name": "Other"}),
    (A, record(("a", "int"), ("b", "int"))),
    (A, record(("a", "string"))),
    (listed("int"), listed("string")),
    (listed("int"), keyed("int")),
    (["int", "string"], "null"),
    ({"type": "fixed", "name": "F", "size": 2}, {"type": "fixed", "name": "F", "size": 3}),
    (A, defaulted("b", enum("A"), "B")),
    (A, defaulted("b", {"type": "fixed", "name": "F", "size": 2}, "x")),
    (A, defaulted("b", listed("int"), ["x"])),
    (A, defaulted("b", {"type": "int", "logicalType": "date"}, 2**31 - 1)),
    (A, defaulted("b", record(("x", "int"), name="I"), {})),
]


@pytest.mark.parametrize(("writer", "reader"), MISMATCHES, ids=range(len(MISMATCHES)))
def test_schemas_that_do_not_resolve_are_configuration_errors(writer: Any, reader: Any) -> None:
    """Before any record is read; the id of the writer's schema is named."""
    with pytest.raises(ConfigError) as caught:
        FramedAvroDecoder({7: writer}, reader)
    assert caught.value.field == "format.reader"
    assert "format.schemas.7" in caught.value.reason or "default" in caught.value.reason


def test_values_without_a_match_are_refused_one_by_one() -> None:
    """A branch or a symbol that the reader lacks is the fault of the record that has it."""
    decoder = AvroDecoder(["int", "string"], "double")
    assert decoder.decode([b"\0\2"]) == [1.0]
    with pytest.raises(DecodeError, match="has double where the writer's has string"):
        decoder.decode([b"\2\2x"])
    with pytest.raises(DecodeError, match="reader lacks"):
        AvroDecoder(enum("A", "B"), enum("A")).decode([b"\2"])


def test_the_writers_bytes_are_checked_under_a_readers_schema() -> None:
    """Also those of fields that the reader does not want."""
    decoder = AvroDecoder(record(("b", "string"), ("a", "int")), A)
    for payload in (b"\2\xff\2", b"\2x\xff\xff\xff\xff\x7f", b"\2x\2\0", b"\2x"):
        with pytest.raises(DecodeError):
            decoder.decode([payload])
    assert decoder.rows([b"\2x\2"], ("a", "b")).names == ("a",)

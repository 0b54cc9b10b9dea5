"""Avro schemas and payloads for tests: drawn at random, valid by construction."""

from __future__ import annotations

import itertools
import struct
import uuid
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

from tests.unit.decode.avro_cases import number, text

LOGICAL = [
    {"type": "int", "logicalType": "date"},
    {"type": "int", "logicalType": "time-millis"},
    {"type": "long", "logicalType": "time-micros"},
    {"type": "long", "logicalType": "timestamp-millis"},
    {"type": "long", "logicalType": "timestamp-micros"},
    {"type": "long", "logicalType": "local-timestamp-millis"},
    {"type": "long", "logicalType": "local-timestamp-micros"},
    {"type": "bytes", "logicalType": "decimal", "precision": 30, "scale": 3},
    {"type": "string", "logicalType": "uuid"},
]
PRIMITIVES = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"]
DECIMAL_FIXED = {"type": "fixed", "size": 5, "logicalType": "decimal", "precision": 11, "scale": 2}
DURATION = {"type": "fixed", "size": 12, "logicalType": "duration"}
ODD: dict[str, Any] = {
    "type": "record",
    "name": "Odd",
    "fields": [
        {"name": f"f{at}", "type": kind}
        for at, kind in enumerate(
            [
                *LOGICAL,
                *PRIMITIVES,
                {"type": "enum", "name": "Size", "symbols": ["S", "M", "L"]},
                DECIMAL_FIXED | {"name": "Money"},
                DURATION | {"name": "Span"},
                ["null", "string", {"type": "array", "items": ["null", "int"]}],
                {"type": "map", "values": {"type": "fixed", "name": "Pair", "size": 2}},
                {"type": "array", "items": {"type": "map", "values": "boolean"}},
                {"type": "record", "name": "Inner", "fields": [{"name": "a", "type": ["null", "long"]}]},
            ]
        )
    ],
}

_DAY = 86_400_000_000
_BOUNDS = {
    "date": (-719_162, 2_932_896),
    "time-millis": (0, _DAY // 1000 - 1),
    "time-micros": (0, _DAY - 1),
    "timestamp-millis": (-62_135_596_800_000, 253_402_300_799_999),
    "timestamp-micros": (-62_135_596_800_000_000, 253_402_300_799_999_999),
    "local-timestamp-millis": (-62_135_596_800_000, 253_402_300_799_999),
    "local-timestamp-micros": (-62_135_596_800_000_000, 253_402_300_799_999_999),
    "int": (-(2**31), 2**31 - 1),
    "long": (-(2**63), 2**63 - 1),
}


def schemas(depth: int = 3) -> st.SearchStrategy[Any]:
    """Any schema without references."""
    return _nameless(depth).map(lambda schema: named(schema, itertools.count()))


def record_schemas(depth: int = 2) -> st.SearchStrategy[Any]:
    """Any schema of a record."""
    return _nameless_record(depth).map(lambda schema: named(schema, itertools.count()))


def named(schema: Any, numbers: Iterator[int]) -> Any:
    """The schema with a name of its own for each type that wants one."""
    if isinstance(schema, list):
        return [named(part, numbers) for part in schema]
    if isinstance(schema, str):
        return schema
    parts = {key: named(schema[key], numbers) for key in ("items", "values") if key in schema}
    if "fields" in schema:
        parts["fields"] = [field | {"type": named(field["type"], numbers)} for field in schema["fields"]]
    if schema["type"] in ("record", "enum", "fixed"):
        parts["name"] = f"N{next(numbers)}"
    return schema | parts


@st.composite
def _nameless_record(draw: st.DrawFn, depth: int) -> Any:
    parts = draw(st.lists(_nameless(depth - 1), max_size=3))
    return {"type": "record", "fields": [{"name": f"f{at}", "type": part} for at, part in enumerate(parts)]}


@st.composite
def _nameless(draw: st.DrawFn, depth: int) -> Any:
    kinds = ["primitive", "logical", "enum", "fixed"] + (["array", "map", "union", "record", "record"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    match kind:
        case "primitive":
            return draw(st.sampled_from(PRIMITIVES))
        case "logical":
            return draw(st.sampled_from([*LOGICAL, DECIMAL_FIXED, DURATION]))
        case "enum":
            return {"type": "enum", "symbols": ["A", "B", "C"][: draw(st.integers(1, 3))]}
        case "fixed":
            return {"type": "fixed", "size": draw(st.integers(1, 3))}
        case "record":
            return draw(_nameless_record(depth))
    inner = _nameless(depth - 1)
    match kind:
        case "array":
            return {"type": "array", "items": draw(inner.filter(takes_bytes))}
        case "map":
            return {"type": "map", "values": draw(inner)}
    alone = inner.filter(lambda part: not isinstance(part, list))
    return draw(st.lists(alone, min_size=1, max_size=4, unique_by=branch))


def branch(schema: Any) -> str:
    """What must differ between the branches of a union."""
    if isinstance(schema, str):
        return schema
    return repr(schema) if schema["type"] in ("record", "enum", "fixed") else schema["type"]


def takes_bytes(schema: Any) -> bool:
    """Whether each value takes at least one byte."""
    if isinstance(schema, dict) and schema["type"] == "record":
        return any(takes_bytes(field["type"]) for field in schema["fields"])
    return schema != "null"


def payloads(schema: Any) -> st.SearchStrategy[bytes]:
    """The bytes of some value of the schema, with every liberty that Avro leaves to writers of blocks."""
    if isinstance(schema, list):
        return st.one_of([payloads(part).map(number(at).__add__) for at, part in enumerate(schema)])
    if isinstance(schema, str):
        schema = {"type": schema}
    kind, logical = schema["type"], schema.get("logicalType")
    if kind in ("int", "long"):
        return st.integers(*_BOUNDS[logical or kind]).map(number)
    if logical == "decimal":
        limit, size = 10 ** schema["precision"] - 1, schema.get("size", 13)
        data = st.integers(-limit, limit).map(lambda value: value.to_bytes(size, "big", signed=True))
        return data if kind == "fixed" else data.map(text)
    if logical == "uuid" and kind == "string":
        return st.integers(0, 2**128 - 1).map(lambda value: text(str(uuid.UUID(int=value)).encode()))
    if kind == "record":
        return st.tuples(*(payloads(field["type"]) for field in schema["fields"])).map(b"".join)
    return _blocks(schema) if kind in ("array", "map") else _plain(kind, schema)


def _plain(kind: str, schema: dict[str, Any]) -> st.SearchStrategy[bytes]:
    return {
        "null": st.just(b""),
        "boolean": st.sampled_from([b"\0", b"\1"]),
        "float": st.floats(width=32).map(lambda value: struct.pack("<f", value)),
        "double": st.floats().map(lambda value: struct.pack("<d", value)),
        "bytes": st.binary(max_size=70).map(text),
        "string": st.text(max_size=40).map(lambda value: text(value.encode())),
        "fixed": st.binary(min_size=schema.get("size", 0), max_size=schema.get("size", 0)),
        "enum": st.integers(0, len(schema.get("symbols", "1")) - 1).map(number),
    }[kind]


@st.composite
def _blocks(draw: st.DrawFn, schema: Any) -> bytes:
    out = b""
    for size in draw(st.lists(st.integers(1, 3), max_size=2)):
        items = b""
        for _ in range(size):
            if schema["type"] == "map":
                items += text(draw(st.text(max_size=3)).encode())
            items += draw(payloads(schema.get("items") or schema["values"]))
        out += number(-size) + number(len(items)) if draw(st.booleans()) else number(size)
        out += items
    return out + b"\0"

"""Records read as vectors are the records that are read one by one, or they are not read as vectors."""

from __future__ import annotations

import datetime
import random
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.decode.avro import AvroDecoder, FramedAvroDecoder
from consumer.decode.avro_schema import load
from consumer.decode.avro_types import Record
from consumer.decode.avro_vectors import UnfitError, VectorReader
from consumer.errors import DecodeError
from consumer.table import Kind
from consumer.vector import Numbers, Spans, Vector
from tests.property.avro_drawn import DECIMAL_FIXED, LOGICAL, PRIMITIVES, named, payloads
from tests.property.test_avro_agreement import mutated

ENOUGH = 200
FLAT = [kind for kind in PRIMITIVES if kind != "null"] + [
    {"type": "enum", "symbols": ["A", "BB", "C"]},
    {"type": "fixed", "size": 3},
    {"type": "fixed", "size": 16, "logicalType": "uuid"},
    {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 3},
    {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 9},
    DECIMAL_FIXED,
    *(kind for kind in LOGICAL if kind["logicalType"] != "decimal"),
]
EPOCH = datetime.datetime(1970, 1, 1)
MICROSECOND = datetime.timedelta(microseconds=1)
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def nullable(kind: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([kind, ["null", kind], [kind, "null"]])


@st.composite
def flat_schemas(draw: st.DrawFn) -> Any:
    """Records of fields that can all be read as vectors."""
    kinds = [draw(nullable(kind)) for kind in draw(st.lists(st.sampled_from(FLAT), min_size=1, max_size=6))]
    fields = [{"name": f"f{at}", "type": kind} for at, kind in enumerate(kinds)]
    return named({"type": "record", "fields": fields}, iter(range(100)))


def values_of(vector: Vector) -> list[Any]:
    """The vector's values as a decoder of rows gives them."""
    present = [True] * count_of(vector) if vector.present is None else vector.present.tolist()
    return [value(vector, at) if there else None for at, there in enumerate(present)]


def count_of(vector: Vector) -> int:
    return len(vector.values if isinstance(vector, Numbers) else vector.starts)


def value(vector: Vector, at: int) -> Any:
    if isinstance(vector, Spans):
        found = vector.data[vector.starts[at] : vector.starts[at] + vector.sizes[at]]
        return found.decode() if vector.kind in (Kind.TEXT, Kind.ENUM) else as_uuid(vector.kind, found)
    number = vector.values[at].item()
    match vector.kind:
        case Kind.BOOLEAN:
            return bool(number)
        case Kind.DATE:
            return (EPOCH + datetime.timedelta(days=number)).date()
        case Kind.TIME:
            return (EPOCH + number * MICROSECOND).time()
        case Kind.TIMESTAMP:
            return EPOCH + number * MICROSECOND
        case Kind.TIMESTAMPTZ:
            return EPOCH.replace(tzinfo=datetime.UTC) + number * MICROSECOND
        case Kind.DECIMAL:
            return Decimal(number).scaleb(-vector.scale)
    return number


def as_uuid(kind: Kind, data: bytes) -> Any:
    return uuid.UUID(bytes=data) if kind is Kind.UUID else data


def reader_of(schema: Any) -> VectorReader:
    tree = load(schema, "schema")
    assert isinstance(tree, Record)
    return VectorReader(tree, tuple(tree.names()))


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_what_a_writer_wrote_is_read_as_vectors_with_the_same_values(data: st.DataObject) -> None:
    """Every flat schema, any number of payloads of it."""
    schema = data.draw(flat_schemas())
    batch = data.draw(st.lists(payloads(schema), min_size=1, max_size=5))
    names = tuple(field["name"] for field in schema["fields"])
    found = reader_of(schema).read(batch, b"")
    expected = AvroDecoder(schema).rows(batch, names).rows
    assert repr(list(zip(*map(values_of, found), strict=True))) == repr(list(expected))


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_damaged_payloads_are_left_to_the_rows(data: st.DataObject) -> None:
    """Vectors of a batch mean that every payload of it can be read, and as just these values."""
    schema = data.draw(flat_schemas())
    batch = data.draw(st.lists(payloads(schema), min_size=1, max_size=4))
    names = tuple(field["name"] for field in schema["fields"])
    reader, decoder, choice = reader_of(schema), AvroDecoder(schema), random.Random(data.draw(st.integers()))
    for _ in range(20):
        spoilt = list(batch)
        at = choice.randrange(len(spoilt))
        spoilt[at] = mutated(spoilt[at], choice)
        try:
            found = reader.read(spoilt, b"")
        except UnfitError:
            continue
        expected = decoder.rows(spoilt, names).rows
        assert repr(list(zip(*map(values_of, found), strict=True))) == repr(list(expected))


def test_damage_is_met_in_both_outcomes() -> None:
    """The test above would hold as well if nothing damaged were ever read, or all of it."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]}
    reader, choice, outcomes = reader_of(schema), random.Random(1), set()
    for _ in range(200):
        try:
            reader.read([mutated(b"\x04\x06abc", choice)], b"")
            outcomes.add("read")
        except UnfitError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_a_batch_of_several_schemas_is_one_vector_a_field(data: st.DataObject) -> None:
    """In the order of the batch, whatever schema each record has; unless a field differs in what it holds."""
    schemas = {number: data.draw(flat_schemas()) for number in (1, 2)}
    batch = [
        bytes([0, 0, 0, 0, number]) + data.draw(payloads(schemas[number]))
        for number in data.draw(st.lists(st.sampled_from([1, 2]), min_size=1, max_size=6))
    ] * ENOUGH
    fields = FramedAvroDecoder(schemas).rows(batch, ("f0",))
    if fields.vectors:
        assert repr([(each,) for each in values_of(fields.vectors[0])]) == repr(list(fields.rows))


def test_a_frame_that_differs_is_not_passed_over() -> None:
    """A batch whose records have another schema's id somewhere is not read as if all had the first one's."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}
    framed = [b"\0\0\0\0\1\4"] * ENOUGH
    assert FramedAvroDecoder({1: schema}).rows(framed, ("a",)).vectors
    with pytest.raises(DecodeError, match="schema id 2"):
        FramedAvroDecoder({1: schema}).rows([*framed, b"\0\0\0\0\2\4"], ("a",))
    with pytest.raises(DecodeError, match="not framed"):
        FramedAvroDecoder({1: schema}).rows([*framed, b"\0\0"], ("a",))


def test_fields_of_a_readers_schema_are_vectors_too() -> None:
    """Fields that are new, with their defaults, widened numbers, and without those that the reader does not want."""
    old = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "int"}, {"name": "gone", "type": "string"}]}
    added = [("b", "string", "x"), ("c", ["null", "long"], None), ("d", "boolean", True), ("e", "double", 1.5)]
    fields = [{"name": name, "type": kind, "default": default} for name, kind, default in added]
    new = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "double"}, *fields]}
    found = AvroDecoder(old, new).rows([b"\x05\x04hi"] * ENOUGH, ("a", "b", "c", "d", "e"))
    assert [values_of(vector)[0] for vector in found.vectors] == [-3.0, "x", None, True, 1.5]
    assert found.rows[0] == (-3.0, "x", None, True, 1.5)


@pytest.mark.parametrize("count", [0, 1, ENOUGH - 1])
def test_few_records_are_read_one_by_one(count: int) -> None:
    """It takes longer to read them as vectors."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}
    found = AvroDecoder(schema).rows([b"\x04"] * count, ("a",))
    assert not found.vectors
    assert len(found.rows) == count


def test_a_schema_with_an_array_is_read_one_by_one() -> None:
    """It has no fixed order of numbers and text."""
    array = {"name": "b", "type": {"type": "array", "items": "int"}}
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}, array]}
    found = AvroDecoder(schema).rows([b"\x04\x00"] * ENOUGH, ("a",))
    assert not found.vectors
    assert found.rows[0] == (2,)


def test_one_bad_record_in_a_batch_is_told_as_ever() -> None:
    """Vectors never say what is wrong; the rows do."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}
    with pytest.raises(DecodeError, match="truncated"):
        AvroDecoder(schema).rows([b"\x04"] * ENOUGH + [b"\x84"], ("a",))

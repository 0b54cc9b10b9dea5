"""Records read as vectors are the records that are read one by one, or they are not read as vectors."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from decimal import localcontext
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.decode import Decoder, avro
from consumer.decode.avro import AvroDecoder, FramedAvroDecoder
from consumer.decode.avro_schema import load
from consumer.decode.avro_types import Record
from consumer.decode.avro_vectors import UnfitError, VectorReader
from consumer.errors import DecodeError, FatalError
from consumer.table import Kind
from consumer.vector import Numbers, rows_of, spans_of, values_of
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
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]


def nullable(kind: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([kind, ["null", kind], [kind, "null"]])


@st.composite
def flat_schemas(draw: st.DrawFn) -> Any:
    """Records of fields that can all be read as vectors."""
    kinds = [draw(nullable(kind)) for kind in draw(st.lists(st.sampled_from(FLAT), min_size=1, max_size=6))]
    fields = [{"name": f"f{at}", "type": kind} for at, kind in enumerate(kinds)]
    return named({"type": "record", "fields": fields}, iter(range(100)))


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
    assert repr(rows_of(found)) == repr(list(expected))


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
        assert repr(rows_of(found)) == repr(list(expected))


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
        expected = one_by_one(lambda: FramedAvroDecoder(schemas).rows(batch, ("f0",)).rows)
        assert (
            repr([(each,) for each in values_of(fields.vectors[0])]) == repr(list(expected)) == repr(list(fields.rows))
        )


@settings(deadline=None)
@given(
    st.lists(st.text(max_size=4) | st.text("a\0\x7f", max_size=3) | st.text("ab", min_size=22, max_size=27), max_size=4)
)
def test_text_is_what_it_was(texts: list[str]) -> None:
    """Of one length or several, long or short, with NUL at its end or in it, empty, and in any script."""
    many = texts * ENOUGH
    assert values_of(spans_of(Kind.TEXT, list(map(str.encode, many)))) == many


def one_by_one(call: Callable[[], Any]) -> Any:
    """The result of a call in which nothing is read as vectors."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(avro, "_FEWEST", sys.maxsize)
        return call()


def dicts(decoder: Decoder, batch: list[bytes]) -> str:
    """What is decoded, with its types; or why it cannot be."""
    try:
        return repr(decoder.decode(batch))
    except (DecodeError, FatalError) as error:
        return str(error)


@settings(max_examples=60, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_dicts_do_not_depend_on_how_they_are_read(data: st.DataObject) -> None:
    """A batch of one schema or of two, whole or with a damaged record: the same values and types, or the same error."""
    schemas = {number: data.draw(flat_schemas()) for number in (1, 2)}
    numbers = data.draw(st.lists(st.sampled_from([1, 2]), min_size=1, max_size=4))
    batch = [bytes([0, 0, 0, 0, number]) + data.draw(payloads(schemas[number])) for number in numbers] * ENOUGH
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(batch) - 1))
        batch[at] = mutated(batch[at], random.Random(data.draw(st.integers())))
    found = dicts(FramedAvroDecoder(schemas), batch)
    assert found == one_by_one(lambda: dicts(FramedAvroDecoder(schemas), batch))
    plain = [payload[5:] for payload in batch]
    assert dicts(AvroDecoder(schemas[1]), plain) == one_by_one(lambda: dicts(AvroDecoder(schemas[1]), plain))


def test_dicts_are_read_as_vectors_where_that_can_be_done() -> None:
    """The test above would hold as well if none were; each record has a dict of its own."""
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", "string"]}]}
    values = one_by_one(lambda: AvroDecoder(schema).decode([b"\2\2x"] * ENOUGH))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(avro, "_read", None)
        found = AvroDecoder(schema).decode([b"\2\2x"] * ENOUGH)
    assert found == values == [{"a": "x"}] * ENOUGH
    found[0]["a"] = "y"
    assert found[1] == {"a": "x"}


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
    decoder, batch = AvroDecoder(old, new), [b"\x05\x04hi"] * ENOUGH
    found = decoder.rows(batch, ("a", "b", "c", "d", "e"))
    assert [values_of(vector)[0] for vector in found.vectors] == [-3.0, "x", None, True, 1.5]
    assert found.rows[0] == (-3.0, "x", None, True, 1.5)
    assert repr(decoder.decode(batch)) == repr(one_by_one(lambda: decoder.decode(batch)))


@pytest.mark.parametrize(("kind", "default"), [("long", 2**70), ("string", "\ud800"), ("bytes", "\u00ff")])
def test_a_default_that_is_no_vector_is_left_to_the_rows(kind: str, default: Any) -> None:
    """Whatever it is, many records have it as one has."""
    field = {"name": "a", "type": "int"}
    old = {"type": "record", "name": "R", "fields": [field]}
    decoder = AvroDecoder(old, old | {"fields": [field, {"name": "b", "type": kind, "default": default}]})
    assert decoder.decode([b"\4"] * ENOUGH) == decoder.decode([b"\4"]) * ENOUGH
    assert not decoder.rows([b"\4"] * ENOUGH, ("a", "b")).vectors


def test_what_stands_in_the_place_of_a_null_does_not_count() -> None:
    """It may be no value of its kind at all."""
    number = np.array([0, 2**62])
    for kind in (Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.DECIMAL):
        assert values_of(Numbers(kind, number, np.array([True, False])))[1] is None


def test_a_transforms_own_decimal_context_changes_nothing() -> None:
    """It is one of the thread, in which records are decoded as well."""
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 3}
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": decimal}]}
    with localcontext(prec=2):
        found = AvroDecoder(schema).decode([b"\6\7\xff\xff"] * ENOUGH)
    assert str(found[0]["a"]) == "524.287"


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

"""Avro: what is refused and with which words, framing, wrong schemas, and the logical types' exact values."""

from __future__ import annotations

import datetime
import io
import uuid
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from msgspec import UNSET

from consumer.decode import Fields
from consumer.decode.avro import AvroDecoder, FramedAvroDecoder
from consumer.errors import ConfigError, DecodeError, FatalError
from consumer.table import Column, Kind
from tests.unit.decode.avro_cases import ORDER, number, text

UTC = datetime.UTC
LIST = {
    "type": "record",
    "name": "L",
    "fields": [{"name": "v", "type": "long"}, {"name": "next", "type": ["null", "L"]}],
}
ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
FRAME = b"\0\0\0\0\7"


def logical(kind: str, meaning: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": meaning, **more}


def record(*fields: tuple[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in fields]}


BAD = [
    (ORDER, b"", "truncated"),
    (ORDER, number(1) * 3 + b"\0" * 7, "truncated"),
    ("string", text(b"abc")[:-1], "truncated"),
    ("string", text(b"a" * 90)[:-1], "truncated"),
    ("bytes", number(2**62), "truncated"),
    ({"type": "fixed", "name": "F", "size": 4}, b"abc", "truncated"),
    ("double", b"\0" * 7, "truncated"),
    ("long", b"\2\0", "1 bytes follow"),
    ("int", number(2**31), "32 bits"),
    ("int", number(-(2**31) - 1), "32 bits"),
    ("int", b"\xff" * 10 + b"\1", "64 bits"),
    ("long", b"\xff" * 9 + b"\2", "64 bits"),
    ("long", b"\x80" * 50_000_000, "64 bits"),
    ("boolean", b"\2", "boolean"),
    (ENUM, number(-1), "index"),
    (ENUM, number(2), "index"),
    (["null", "string"], number(-1), "index"),
    (["null", "string"], number(2), "index"),
    ("string", number(-1), "negative"),
    ("string", number(-100) + b"a" * 99, "negative"),
    ("string", text(b"\xff"), "UTF-8"),
    ("string", text(b"\xed\xa0\x80"), "UTF-8"),  # a lone surrogate
    ({"type": "map", "values": "int"}, number(1) + text(b"\xff") + b"\0\0", "UTF-8"),
    ({"type": "array", "items": "long"}, number(10**12), "truncated"),
    ({"type": "array", "items": {"type": "fixed", "name": "F", "size": 4}}, number(10**12), "truncated"),
    ({"type": "array", "items": "string"}, number(-(2**63)) + b"\0", "truncated"),
    (LIST, b"\2\2" * 10_000, "nested"),
    (logical("bytes", "decimal", precision=2), text(b"\0\x64"), "precision"),
    (logical("bytes", "decimal", precision=2), text(b"\x7f" * 10_000), "precision"),
    (logical("int", "date"), number(-719_163), "years 1 to 9999"),
    (logical("int", "date"), number(2_932_897), "years 1 to 9999"),
    (logical("long", "timestamp-millis"), number(-62_135_596_800_001), "years 1 to 9999"),
    (logical("long", "timestamp-micros"), number(253_402_300_800_000_000), "years 1 to 9999"),
    (logical("long", "local-timestamp-micros"), number(2**63 - 1), "years 1 to 9999"),
    (logical("int", "time-millis"), number(86_400_000), "24 hours"),
    (logical("long", "time-micros"), number(-1), "24 hours"),
    (logical("string", "uuid"), text(b"not one"), "UUID"),
]


@pytest.mark.parametrize(("schema", "payload", "reason"), BAD, ids=range(len(BAD)))
def test_bytes_that_no_writer_makes_are_refused(schema: Any, payload: bytes, reason: str) -> None:
    """With a reason, alone or anywhere in a batch, also where the value goes nowhere."""
    with pytest.raises(DecodeError, match=reason):
        AvroDecoder(schema).decode([payload])
    outer = record(("a", "int"), ("b", schema))
    with pytest.raises(DecodeError, match=reason):
        AvroDecoder(outer).rows([b"\2" + payload], ("a",))


GOOD = [
    (logical("long", "timestamp-micros"), number(253_402_300_799_999_999), datetime.datetime.max.replace(tzinfo=UTC)),
    (logical("long", "timestamp-millis"), number(-1), datetime.datetime(1969, 12, 31, 23, 59, 59, 999_000, UTC)),
    (logical("long", "local-timestamp-micros"), number(-62_135_596_800_000_000), datetime.datetime.min),
    (logical("long", "timestamp-nanos"), number(1), 1),
    (logical("int", "date"), number(2_932_896), datetime.date.max),
    (logical("int", "date"), number(-719_162), datetime.date.min),
    (logical("int", "time-millis"), number(86_399_999), datetime.time(23, 59, 59, 999_000)),
    (logical("long", "time-micros"), number(86_399_999_999), datetime.time.max),
    (
        logical("bytes", "decimal", precision=40, scale=2),
        text((10**40 - 1).to_bytes(17, "big")),
        Decimal("9" * 38 + ".99"),
    ),
    (logical("fixed", "decimal", precision=4, scale=1, name="D", size=2), b"\xff\xff", Decimal("-0.1")),
    (logical("fixed", "duration", name="D", size=12), bytes(12), bytes(12)),
    (logical("fixed", "uuid", name="U", size=16), bytes(15) + b"\1", uuid.UUID(int=1)),
    (logical("string", "date"), text(b"x"), "x"),  # a logical type of another type means nothing
    ("long", b"\x82\x80\x00", 1),  # longer than it need be
    ("string", text(b"\0"), "\0"),
    (logical("bytes", "decimal", precision=0), text(b"x"), b"x"),
    (record(("it's \0\n\\", ENUM | {"name": "E\0'"})), b"\0", {"it's \0\n\\": "A"}),
    ("null", b"", None),
    (record(), b"", {}),
]


@pytest.mark.parametrize(("schema", "payload", "value"), GOOD, ids=range(len(GOOD)))
def test_values_are_exact(schema: Any, payload: bytes, value: Any) -> None:
    """To the last digit of their type."""
    assert repr(AvroDecoder(schema).decode([payload, payload])) == repr([value, value])


def test_a_reason_never_holds_values() -> None:
    """Nor does the chain of errors that a traceback would show."""
    schema = record(("a", "string"), ("b", logical("string", "uuid")))
    for payload in (text(b"secret") + text(b"secret"), text(b"secret\xff") + text(b"x"), text(b"secret") + b"\x7f"):
        with pytest.raises(DecodeError) as caught:
            AvroDecoder(schema).decode([payload])
        assert "secret" not in caught.value.reason
        assert caught.value.__suppress_context__


def test_types_within_types_are_read_at_any_depth() -> None:
    """Far beyond what Python allows in one function."""
    schema: Any = "int"
    for at in range(60):
        schema = [{"type": "array", "items": schema}, {"type": "map", "values": schema}, ["null", schema]][at % 2]
    value: Any = 5
    for at in range(60):
        value = [[value], {"k": value}][at % 2]
    file = io.BytesIO()
    fastavro.schemaless_writer(file, fastavro.parse_schema(schema), value)
    assert AvroDecoder(schema).decode([file.getvalue()]) == [value]


def test_recursive_records_are_read() -> None:
    """As deep as Python allows, and so that siblings do not count."""
    payload = b"\2\2" * 300 + b"\4\0"
    value = AvroDecoder(LIST).decode([payload])[0]
    for _ in range(300):
        assert value["v"] == 1
        value = value["next"]
    assert value == {"v": 2, "next": None}
    tree = record(("kids", {"type": "array", "items": "R"}))
    assert AvroDecoder(tree).decode([number(5000) + b"\0" * 5001]) == [{"kids": [{"kids": []}] * 5000}]


def test_rows_of_values_that_differ() -> None:
    """Fields that some of the records lack are UNSET; a value that is no record is refused between records."""
    one, two = record(("a", "int"), ("b", "int")), record(("b", "int")) | {"name": "S"}
    decoder = AvroDecoder([one, two, "null"])
    found = decoder.rows([b"\0\2\4", b"\2\6"], ("b", "a", "c"))
    assert found.sparse
    assert [dict(zip(found.names, row, strict=True)) for row in found.rows] == [
        {"b": 2, "a": 1, "c": UNSET},
        {"b": 3, "a": UNSET, "c": UNSET},
    ]
    with pytest.raises(DecodeError, match="without fields"):
        decoder.rows([b"\4"], ("a",))


def test_rows_of_values_without_fields() -> None:
    """They have no names, but their bytes are checked."""
    decoder = AvroDecoder("int")
    assert decoder.rows([b"\2", b"\4"], ("a",)) == Fields((), [(), ()])
    with pytest.raises(DecodeError, match="truncated"):
        decoder.rows([b""], ("a",))


@pytest.mark.parametrize("payload", [b"", b"\0", FRAME[:4], b"\1" + FRAME[1:] + b"\2", b"{}", b"\xff" * 9])
def test_values_without_a_frame_are_refused(payload: bytes) -> None:
    """Too short for one, or without its zero byte; framed values around them do not help."""
    with pytest.raises(DecodeError, match="not framed"):
        FramedAvroDecoder({7: "int"}).decode([FRAME + b"\2", payload])


def test_an_unknown_id_is_named() -> None:
    """With what to do."""
    with pytest.raises(DecodeError, match=r"schema id 8 .*key_format\.schemas"):
        FramedAvroDecoder({7: "int"}, setting="key_format").decode([b"\0\0\0\0\x08\2"])


def test_a_framed_value_under_a_plain_schema_is_fatal_at_the_first() -> None:
    """For the set-up is wrong; after good values it is that record which is."""
    payload = text(b"a long enough note") + b"\2"
    decoder = AvroDecoder(record(("note", "string"), ("n", "int")))
    for call in (decoder.decode, lambda batch: decoder.rows(batch, ("n",))):
        with pytest.raises(FatalError) as caught:
            call([FRAME + payload])
        assert "schemas: {7: FILE}" in caught.value.hint
    assert decoder.rows([payload], ("n",)).rows == [(1,)]
    with pytest.raises(DecodeError, match="framed"):
        decoder.decode([FRAME + payload])


def test_an_empty_batch_is_empty() -> None:
    """In every way to read it."""
    for decoder in (AvroDecoder(ORDER), FramedAvroDecoder({1: ORDER})):
        assert decoder.decode([]) == []
        assert decoder.rows([], ("sku",)).rows == []


WRONG = [
    ("nothing", "does not define the type nothing"),
    ({"type": "record"}, "name"),
    ({"type": "record", "name": "R", "fields": 5}, "wrong type"),
    ({"type": "record", "name": "R", "fields": [{"name": "a"}]}, "type"),
    ({"type": "record", "name": "R", "fields": [{"name": 1, "type": "int"}]}, "name"),
    (record(("a", "int"), ("a", "int")), "same name"),
    ({"type": "array"}, "items"),
    ({"type": "array", "items": "null"}, "no bytes"),
    ({"type": "array", "items": record(("a", {"type": "fixed", "name": "F", "size": 0}), ("b", "null"))}, "no bytes"),
    ({"type": "fixed", "name": "F", "size": "1"}, "size"),
    ({"type": "fixed", "name": "F", "size": -1}, "size"),
    ({"type": "enum", "name": "E", "symbols": []}, "symbols"),
    ({"type": "enum", "name": "E", "symbols": ["A"], "default": "B"}, "symbols"),
    ([], "union"),
    (["int", ["null"]], "union"),
    (["int", {"type": "int"}], "same type: int, int"),
    (logical("bytes", "decimal", precision=10**9), "digits"),
    (logical("bytes", "decimal", precision=1, scale=2), "scale"),
    (5, "wrong type"),
    ({}, "type"),
]


@pytest.mark.parametrize(("schema", "reason"), WRONG, ids=range(len(WRONG)))
def test_wrong_schemas_are_configuration_errors(schema: Any, reason: str) -> None:
    """That name the setting, whichever way the schema came."""
    with pytest.raises(ConfigError, match=reason) as caught:
        AvroDecoder(schema)
    assert caught.value.field == "format.schema"
    with pytest.raises(ConfigError, match=reason) as caught:
        FramedAvroDecoder({7: "int", 8: schema})
    assert caught.value.field == "format.schemas.8"
    with pytest.raises(ConfigError) as caught:
        AvroDecoder("int", schema)
    assert caught.value.field == "format.reader"


@pytest.mark.parametrize(("depth", "outcome"), [(150, "[[]]"), (5000, "deep")])
def test_a_schema_that_is_nested_deep_is_read_or_refused(depth: int, outcome: str) -> None:
    """Never a RecursionError."""
    schema: Any = "int"
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    try:
        found = str(AvroDecoder(schema).decode([b"\0"]))
    except ConfigError as error:
        found = error.reason
    assert outcome in found


def test_what_is_known_are_the_bounds_of_the_schema() -> None:
    """Of null and a type, null too; of a choice of types, and of values that are converted, nothing."""
    schema = record(("a", "int"), ("b", ["null", "long"]), ("c", ["int", "string"]), ("d", logical("int", "date")))
    payload = number(-(2**31)) + number(1) + number(2**63 - 1) + number(0) * 3
    known = AvroDecoder(schema).rows([payload], ("a", "b", "c", "d")).known
    assert known == (
        Column("", Kind.INTEGER, "", nullable=False, minimum=-(2**31), maximum=2**31 - 1),
        Column("", Kind.INTEGER, "", minimum=-(2**63), maximum=2**63 - 1),
        None,
        Column("", Kind.DATE, "", nullable=False),
    )

"""The Avro decoders against fastavro on what is valid, and against a strict reference on everything else."""

from __future__ import annotations

import io
import random
import struct
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.decode.avro import AvroDecoder, FramedAvroDecoder
from consumer.errors import DecodeError
from tests.property.avro_drawn import ODD, payloads, record_schemas, schemas
from tests.property.avro_reference import BadError, read_all
from tests.unit.decode.avro_cases import ORDER
from tests.unit.decode.knowledge import require_known

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def written(schema: Any, value: Any) -> bytes:
    file = io.BytesIO()
    fastavro.schemaless_writer(file, fastavro.parse_schema(schema), value)
    return file.getvalue()


def of_fastavro(schema: Any, payload: bytes) -> Any:
    return fastavro.schemaless_reader(io.BytesIO(payload), fastavro.parse_schema(schema), None)


def has_union(schema: Any) -> bool:
    if isinstance(schema, str):
        return False
    if isinstance(schema, list):
        return True
    parts = [schema.get("items"), schema.get("values"), *(field["type"] for field in schema.get("fields", ()))]
    return any(has_union(part) for part in parts if part is not None)


def agrees(decoder: AvroDecoder, schema: Any, payload: bytes) -> bool:
    """Whether the payload was accepted; both decoders must say the same, and give the same value (by its repr)."""
    try:
        expected = repr(read_all(schema, payload))
    except BadError:
        with pytest.raises(DecodeError):
            decoder.decode([payload])
        return False
    assert repr(decoder.decode([payload])[0]) == expected
    return True


@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_what_is_valid_decodes_as_fastavro_decodes_it(data: st.DataObject) -> None:
    """Any schema, any payload of it, also as fastavro itself would write its value."""
    schema = data.draw(schemas())
    payload = data.draw(payloads(schema))
    value = of_fastavro(schema, payload)
    again = payload if has_union(schema) else written(schema, value)  # which branch, fastavro must guess
    decoder = AvroDecoder(schema)
    assert repr(decoder.decode([payload, again])) == repr([value, of_fastavro(schema, again)])
    assert agrees(decoder, schema, payload)


@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_rows_are_the_fields_of_the_decoded_records(data: st.DataObject) -> None:
    """For any choice and order of fields; those that the schema lacks are left out."""
    schema = data.draw(record_schemas())
    batch = data.draw(st.lists(payloads(schema), max_size=3))
    names = tuple(data.draw(st.permutations([*[field["name"] for field in schema["fields"]], "other"])))
    decoder = AvroDecoder(schema)
    found = decoder.rows(batch, names)
    assert "other" not in found.names
    assert not found.sparse
    require_known(found)
    dicts = [dict(zip(found.names, row, strict=True)) for row in found.rows]
    assert [sorted(each.items()) for each in map(repr_values, dicts)] == [
        sorted(each.items()) for each in map(repr_values, decoder.decode(batch))
    ]


def repr_values(record: dict[str, Any]) -> dict[str, str]:
    return {name: repr(value) for name, value in record.items()}


def mutated(payload: bytes, choice: random.Random) -> bytes:
    data = bytearray(payload)
    for _ in range(choice.choice([1, 1, 1, 2, 3])):
        at = choice.randrange(len(data) + 1)
        match choice.randrange(7):
            case 0:
                del data[at : at + choice.randrange(1, 4)]
            case 1:
                data[at:at] = choice.randbytes(choice.randrange(1, 4))
            case 2:
                data[at : at + 1] = bytes([choice.choice([0, 1, 2, 3, 5, 127, 128, 129, 254, 255])])
            case 3:
                data[at : at + 1] = bytes([choice.randrange(256)])
            case 4:
                del data[at:]
            case 5:  # a number of any length, near the ends of its range or beyond
                data[at : at + 1] = b"\xff" * choice.randrange(1, 11) + bytes([choice.choice([0, 1, 3, 15, 31, 127])])
            case 6:
                data += data[at:]
    return bytes(data)


def example(schema: Any, choice: random.Random) -> bytes:
    """A payload of the schema, by fastavro's own generator of values."""
    if schema is ORDER:
        value = {
            "order_id": choice.randrange(2**40),
            "customer_id": -choice.randrange(2**20),
            "quantity": choice.randrange(-9, 300),
            "price": choice.random(),
            "sku": "ü" * choice.randrange(3),
            "status": "x" * choice.choice([2, 63, 64, 200]),
            "note": "",
            "placed_at": choice.randrange(2**41),
        }
        return written(schema, value)
    return ODD_EXAMPLES[choice.randrange(len(ODD_EXAMPLES))]


def odd_example(seed: int) -> bytes:
    days, millis, micros, stamp = 19_000 + seed, 5 * seed, 86_399_999_999 - seed, 1_700_000_000_000_000
    values: list[Any] = [days, millis, micros, stamp // 1000, stamp, -stamp // 1000, -stamp]
    values += [b"\x01\x00\x7f", "12345678-1234-5678-1234-567812345678"]
    values += [None, True, -seed, 2**62, 0.5, 1e300, b"\xff\xfe", "aé"]
    values += ["SML"[seed % 3], b"\0\0\xff\0\1", bytes(12)]
    values += [[None, "text", [None, 5]][seed % 3], {"k": b"ab"}, [{"x": True}, {}], {"a": None}]
    bare = {field["name"]: without_logical(field["type"]) for field in ODD["fields"]}
    plain = ODD | {"fields": [{"name": name, "type": kind} for name, kind in bare.items()]}
    return written(plain, dict(zip(bare, values, strict=True)))


def without_logical(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    return {key: value for key, value in schema.items() if key != "logicalType"}


ODD_EXAMPLES = [odd_example(seed) for seed in range(6)]


@pytest.mark.parametrize("schema", [ORDER, ODD], ids=["order", "odd"])
def test_mutated_payloads_are_judged_as_by_the_reference(schema: Any) -> None:
    """Two thousand damaged payloads: accepted or refused alike, and with the same value."""
    choice, decoder, accepted, count = random.Random(7), AvroDecoder(schema), 0, 2000
    assert agrees(decoder, schema, example(schema, choice))
    for _ in range(count):
        accepted += agrees(decoder, schema, mutated(example(schema, choice), choice))
    assert count / 50 < accepted < count - count / 50  # both kinds were met


@settings(max_examples=30, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_mutations_of_any_schema_are_judged_as_by_the_reference(data: st.DataObject) -> None:
    """Not only of the two schemas above."""
    schema = data.draw(schemas())
    choice, decoder = random.Random(data.draw(st.integers())), AvroDecoder(schema)
    payload = data.draw(payloads(schema))
    assert agrees(decoder, schema, payload)
    for _ in range(20):
        agrees(decoder, schema, mutated(payload, choice))


@settings(max_examples=15, deadline=None, suppress_health_check=SLOW)
@given(st.data())
def test_many_schema_ids_in_a_batch_keep_its_order(data: st.DataObject) -> None:
    """Each value is that of its own schema, at its own place; fields that some schemas lack are UNSET there."""
    known = data.draw(st.dictionaries(st.integers(0, 2**32 - 1), record_schemas(), min_size=1, max_size=3))
    ids = data.draw(st.lists(st.sampled_from(sorted(known)), max_size=8))
    batch = [b"\0" + struct.pack(">I", each) + data.draw(payloads(known[each])) for each in ids]
    decoder = FramedAvroDecoder(known)
    expected = [read_all(known[each], payload[5:]) for each, payload in zip(ids, batch, strict=True)]
    assert repr(decoder.decode(batch)) == repr(expected)
    found = decoder.rows(batch, ("f1", "f0"))
    rebuilt = [
        {name: value for name, value in zip(found.names, row, strict=True) if name in record}
        for row, record in zip(found.rows, expected, strict=True)
    ]
    assert [repr_values(row) for row in rebuilt] == [
        repr_values({name: record[name] for name in ("f1", "f0") if name in record}) for record in expected
    ]
    assert found.sparse == any(set(found.names) - set(record) for record in expected)

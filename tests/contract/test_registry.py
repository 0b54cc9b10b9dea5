"""What the client needs of a Schema Registry: of a fake, and of a real one, Apicurio or MICROBATCH_REGISTRY_URL's."""

from __future__ import annotations

import io
import os
import struct
import uuid
from collections.abc import Iterator
from typing import Any

import fastavro
import pytest

from consumer.decode.avro import FramedAvroDecoder
from consumer.decode.registry import Registry, UnknownIdError
from consumer.errors import DecodeError, UnavailableError
from tests.services.registry import Apicurio, FakeRegistry, register, require_apicurio


@pytest.fixture(scope="module", params=["fake", "real"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of each."""
    existing = os.environ.get("MICROBATCH_REGISTRY_URL")
    if request.param == "real" and existing:
        yield existing
        return
    if request.param == "real":
        require_apicurio()
    server = FakeRegistry() if request.param == "fake" else Apicurio(tmp_path_factory.mktemp("apicurio"))
    server.start()
    yield server.url
    server.stop()


@pytest.fixture
def subject() -> str:
    """A subject of its own."""
    return f"t{uuid.uuid4().hex[:8]}/ä-value"


def framed(number: int, schema: Any, value: Any) -> bytes:
    body = io.BytesIO()
    fastavro.schemaless_writer(body, fastavro.parse_schema(schema), value)
    return struct.pack(">bI", 0, number) + body.getvalue()


def record(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": kind} for n, kind in fields.items()]}


def test_it_answers(url: str) -> None:
    """It is asked what `check` asks."""
    Registry(url).ask()


def test_values_are_read_by_the_schema_that_was_registered(url: str, subject: str) -> None:
    """Each by that of its own id."""
    old, new = record("A", a="int"), record("A", a="int", b=["null", "string"])
    ids = [register(url, f"{subject}{number}", schema) for number, schema in enumerate((old, new))]
    payloads = [framed(ids[0], old, {"a": 1}), framed(ids[1], new, {"a": 2, "b": "x"})]
    assert FramedAvroDecoder(Registry(url)).decode(payloads) == [{"a": 1}, {"a": 2, "b": "x"}]


def test_a_schema_that_is_a_name_only(url: str, subject: str) -> None:
    """`"string"` is JSON as well."""
    number = register(url, subject, '"string"')
    assert FramedAvroDecoder(Registry(url)).decode([framed(number, "string", "x")]) == ["x"]


def test_types_of_other_subjects_are_found_by_reference(url: str, subject: str) -> None:
    """Also those that they refer to themselves, and one that two refer to."""
    unit = {"type": "enum", "name": "shop.Unit", "symbols": ["KG", "L"]}
    amount, price = record("shop.Amount", n="int", unit="shop.Unit"), record("shop.Price", per="shop.Unit", n="int")
    order = record("shop.Order", amount="shop.Amount", price="shop.Price")

    def refer(name: str) -> dict[str, Any]:
        return {"name": f"shop.{name}", "subject": f"{subject}.{name}", "version": 1}

    register(url, f"{subject}.Unit", unit)
    register(url, f"{subject}.Amount", amount, [refer("Unit")])
    register(url, f"{subject}.Price", price, [refer("Unit")])
    number = register(url, subject, order, [refer("Amount"), refer("Price")])
    value = {"amount": {"n": 1, "unit": "L"}, "price": {"per": "L", "n": 5}}
    payload = struct.pack(">bI", 0, number) + b"\2\2\2\x0a"
    assert FramedAvroDecoder(Registry(url)).decode([payload]) == [value]


def test_an_id_that_there_is_not(url: str) -> None:
    """It is told apart from a registry that is away, and from an address where none is."""
    with pytest.raises(UnknownIdError, match="schema id 4000000 is not known to the schema registry"):
        Registry(url).schema(4_000_000)
    with pytest.raises(UnavailableError, match="HTTP 404, though not about a schema"):
        Registry(f"{url}/elsewhere").schema(1)


def test_another_type_of_schema_is_refused(url: str, subject: str) -> None:
    """A JSON Schema could be valid JSON, and no Avro."""
    text = '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}'
    number = register(url, subject, text, schemaType="JSON")
    with pytest.raises(DecodeError, match="of the type JSON in the schema registry, and only AVRO can be read"):
        Registry(url).schema(number)

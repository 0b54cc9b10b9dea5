"""A raw value in a JSON column must be JSON: some databases would take anything."""

from __future__ import annotations

import msgspec
import pytest

from consumer.decode.plain import RawDecoder, TextDecoder
from consumer.errors import DecodeError
from consumer.mapping.fields import FieldMapper, FieldRules
from consumer.table import Column, Kind, Table, Target
from tests.fake_kafka import MemoryMessage

MAPPER = FieldMapper(
    Table("t", {"doc": Column("doc", Kind.JSON, "json")}),
    Target("t"),
    FieldRules({"doc": "$value"}),
    lambda _: RawDecoder(),
    TextDecoder(),
)


@pytest.mark.parametrize("value", [b"", b"-", b"{", b"1 2", b"nul", b'"\xff"', b"\xef\xbb\xbf{}", b"[" * 10_000])
def test_what_is_not_json_is_refused(value: bytes) -> None:
    """As the record's fault, found alone among good ones, and without its value."""
    found = MAPPER.map([MemoryMessage("t", 0, 0, b"1"), MemoryMessage("t", 0, 1, value)], [0, 1])
    ((ordinal, error),) = [(failure.ordinal, failure.error) for failure in found.failures]
    assert (ordinal, type(error)) == (1, DecodeError)
    assert error.reason in ("$value is not JSON", "$value is not UTF-8")


@pytest.mark.parametrize("value", [b"null", b"1e999", b"9" * 5000, b'{"a": [1, "\xc3\xa9"]}'])
def test_json_is_taken_as_it_is(value: bytes) -> None:
    """Numbers too that Python could not hold."""
    ((row,),) = [part.rows for part in MAPPER.map([MemoryMessage("t", 0, 0, value)], [0]).rows]
    assert [bytes(each) for each in row] == [value]
    assert isinstance(row[0], msgspec.Raw)

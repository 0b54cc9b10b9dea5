"""JSON: what is refused, and that typed rows store what plain values would."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from consumer.decode import Fields
from consumer.decode.json import JsonDecoder
from consumer.errors import DecodeError
from consumer.table import Column, Kind

BAD = {
    "empty": b"",
    "blank": b" \n",
    "truncated": b'{"a": 1',
    "two values": b"{} {}",
    "NaN": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "not UTF-8": b'{"a": "\xff"}',
    "a surrogate as bytes": b'{"a": "\xed\xa0\x80"}',
    "a lone surrogate": b'{"a": "\\ud800"}',
    "a lone low surrogate": b'{"a": "\\udc00"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "NUL unescaped": b'{"a": "\0"}',
    "deep arrays": b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "leading zero": b'{"a": 01}',
}
# What is JSON, but beyond Python's numbers: refused where the type of the field asks for such a number.
BEYOND = {"10,000 digits": b'{"a": ' + b"9" * 10_000 + b"}", "1e400": b'{"a": 1e400}'}


def column(kind: Kind, item: Kind | None = None) -> Column:
    return Column("c", kind, str(kind), labels=("sad", "ok"), item=None if item is None else column(item))


def reason_of(call: Any) -> str:
    with pytest.raises(DecodeError) as caught:
        call()
    assert caught.value.__suppress_context__
    return caught.value.reason


@pytest.mark.parametrize("name", [*BAD, *BEYOND])
def test_what_is_not_json_is_refused(name: str) -> None:
    """In a batch of right ones, as a value and as rows of each kind."""
    batch = [b'{"a": null}', (BAD | BEYOND)[name]]
    assert reason_of(lambda: JsonDecoder().decode(batch))
    assert reason_of(lambda: JsonDecoder().rows(batch, ("a",)))
    for kind in Kind:
        if name in BAD:
            assert reason_of(lambda kind=kind: JsonDecoder({"a": column(kind, Kind.TEXT)}).rows(batch, ("a",)))


@pytest.mark.parametrize("text", ["9" * 10_000, "0." + "1" * 10_000, "1e400", "-1.10", "18446744073709551616"])
def test_decimals_are_exact(text: str) -> None:
    """To the last digit as written, for they never become floats."""
    found = JsonDecoder({"a": column(Kind.DECIMAL)}).rows([b'{"a":%s}' % text.encode()], ("a",)).rows
    assert str(found[0][0]) == str(Decimal(text))


def test_whole_numbers_and_text_are_exact() -> None:
    """Beyond 64 bits, and with the NUL that the sink is to judge."""
    payload = b'{"a": 123456789012345678901234567890, "b": "\\u0000\\ud83d\\ude00", "a": 36893488147419103233}'
    value = {"a": 36893488147419103233, "b": "\0\U0001f600"}
    assert JsonDecoder().decode([payload]) == [value]
    columns = {"a": column(Kind.INTEGER), "b": column(Kind.TEXT)}
    assert JsonDecoder(columns).rows([payload], ("b", "a")).rows == [(value["b"], value["a"])]


@pytest.mark.parametrize("payload", [b"[]", b"1", b'"a"', b"null", b"true"])
def test_only_objects_are_rows(payload: bytes) -> None:
    """Other values decode as what they are."""
    assert JsonDecoder().decode([payload]) == [json.loads(payload)]
    assert "object" in reason_of(lambda: JsonDecoder().rows([payload], ("a",)))


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind not in (Kind.JSON, Kind.OTHER)])
def test_reasons_name_the_field_and_not_its_value(kind: Kind) -> None:
    """Whatever the value is."""
    decoder = JsonDecoder({"my field": column(kind, Kind.DATE)})
    reason = reason_of(lambda: decoder.rows([b'{"my field": {"secret": "secret"}}'], ("my field",)))
    assert reason.endswith("- at `$.my field`")
    assert "secret" not in reason
    if kind not in (Kind.TEXT, Kind.ENUM, Kind.INTEGER, Kind.FLOAT, Kind.BOOLEAN):
        assert "secret" not in reason_of(lambda: decoder.rows([b'{"my field": "?secret"}'], ("my field",)))


def test_payloads_are_never_joined() -> None:
    """A line break within one of them does not shift the rows."""
    found = JsonDecoder({"a": column(Kind.JSON)}).rows(
        [b'{"a":\n[1,\n2]}', b'\n{"a":\n"\\u00fc"}\n', b'{"a":null}'], ("a",)
    )
    assert [None if row[0] is None else json.loads(bytes(row[0])) for row in found.rows] == [[1, 2], "ü", None]


SMALL = Column("c", Kind.INTEGER, "smallint", nullable=False, minimum=-(2**15), maximum=2**15 - 1)
USUAL = {
    Kind.BOOLEAN: "true",
    Kind.DATE: '"2024-02-29"',
    Kind.TIME: '"12:30:00"',
    Kind.TIMETZ: '"12:30:00Z"',
    Kind.TIMESTAMP: '"2024-02-29T12:00:00"',
    Kind.TIMESTAMPTZ: '"2024-02-29T12:00:00Z"',
    Kind.INTERVAL: '"P1D"',
    Kind.UUID: '"12345678-1234-5678-1234-567812345678"',
    Kind.TEXT: '"x"',
    Kind.ENUM: '"ok"',
    Kind.ARRAY: "[]",
}


def usual(to: Column) -> JsonDecoder:
    """A decoder that has seen a batch of what this column is for, and expects the like."""
    decoder = JsonDecoder({"a": to})
    decoder.rows([b'{"a":%s}' % USUAL.get(to.kind, "1").encode()] * 100, ("a",))
    return decoder


def test_the_usual_is_known() -> None:
    """Of the kinds that JSON says in one way; and again some batches after one was spelt otherwise."""
    spelt, plain = [b'{"a":"1"}'] * 100, [b'{"a":1}'] * 100
    decoder = usual(SMALL)
    assert decoder.rows(plain, ("a",)).known == (SMALL,)
    assert decoder.rows(spelt, ("a",)) == Fields(("a",), [("1",)] * 100)
    assert not decoder.rows(plain, ("a",)).known
    assert any(decoder.rows(plain, ("a",)).known for _ in range(200))


def test_bytes_are_base64() -> None:
    """And nothing else is."""
    decoder = JsonDecoder({"a": column(Kind.BYTES), "b": column(Kind.ARRAY, Kind.BYTES)})
    assert decoder.rows([b'{"a":"aGk=","b":["aGk=",null,[""]]}'], ("a", "b")).rows == [(b"hi", [b"hi", None, [b""]])]
    assert "base64" in reason_of(lambda: decoder.rows([b'{"a":"?"}'], ("a",)))

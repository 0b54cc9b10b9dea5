"""JSON's typed rows against plain values, batch after batch."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from consumer.decode.json import JsonDecoder
from consumer.errors import DecodeError, RejectedError
from consumer.sinks.conversion import checked
from consumer.table import Column, Kind
from tests.unit.decode.knowledge import require_known
from tests.unit.decode.test_json import SMALL, column, usual

NUMBERS = "0 -0 1 1.0 1.5 1e2 -32769 9007199254740993 18446744073709551616"
TEXTS = """1 1.5 true x sad \\u0000 nan 2024-02-29 10000-01-01 0000-01-01T00:00:00Z 2024-02-29T12:00:00.123456789Z
    2024-02-29T12:00:00 0001-01-01T00:00:00+10:00 12:30:00 12:30:00+02:00 P1DT2H P999999999999D
    12345678-1234-5678-1234-567812345678"""
SPELLINGS = st.sampled_from(["null", "true", "false", '""', *NUMBERS.split(), *(f'"{text}"' for text in TEXTS.split())])
VALUES = st.one_of(
    SPELLINGS,
    st.lists(SPELLINGS, max_size=3).map(lambda parts: f"[{','.join(parts)}]"),
    st.lists(st.lists(SPELLINGS, max_size=2).map(lambda parts: f"[{','.join(parts)}]"), max_size=2).map(
        lambda parts: f"[{','.join(parts)}]"
    ),
    st.recursive(st.none() | st.integers() | st.text(), lambda part: st.dictionaries(st.text(), part)).map(json.dumps),
)
KINDS = [kind for kind in Kind if kind not in (Kind.OTHER, Kind.ARRAY, Kind.BYTES)]
COLUMNS = st.sampled_from([SMALL, *map(column, KINDS), *(column(Kind.ARRAY, kind) for kind in KINDS)])


def stored(to: Column, value: Any) -> str:
    """What the sink would store, as text that tells types apart; or that it would not."""
    try:
        return shown(to, checked(to, [value])[0])
    except RejectedError:
        return "refused"


def shown(to: Column, value: Any) -> str:
    """Decimals by their value, as 1E+2 and 100.0 are the same; JSON without regard to blanks."""
    if isinstance(value, list) and to.item is not None:
        return f"[{','.join(shown(to if isinstance(item, list) else to.item, item) for item in value)}]"
    if isinstance(value, Decimal):
        return f"Decimal {value.normalize()}"
    return repr(msgspec.json.decode(value)) if isinstance(value, bytes) else repr(value)


@settings(max_examples=60, deadline=None)
@given(COLUMNS, VALUES, st.booleans())
def test_typed_rows_store_what_plain_values_would(to: Column, text: str, after_others: bool) -> None:
    """Or are refused alike; documented exceptions are bytes, which are base64, and decimals, which are exact."""
    payload = b'{"a":%s}' % text.encode()
    decoder = usual(to) if after_others else JsonDecoder({"a": to})
    try:
        plain = stored(to, JsonDecoder().decode([payload])[0]["a"])
    except DecodeError:
        plain = "refused"
    try:
        typed = stored(to, decoder.rows([payload], ("a",)).rows[0][0])
    except DecodeError:
        typed = "refused"
    assert typed == plain


@settings(max_examples=60, deadline=None)
@given(COLUMNS, st.lists(VALUES, min_size=1, max_size=3))
def test_what_is_known_of_typed_rows_is_true(to: Column, texts: list[str]) -> None:
    """Whatever comes after batches of the usual."""
    try:
        found = usual(to).rows([b'{"a":%s}' % text.encode() for text in texts], ("a",))
    except DecodeError:
        return
    if any(found.known):
        require_known(found)


NAMES = ("a", "b c", "`$.ü")
SHAPES = st.lists(
    st.tuples(st.lists(st.sets(st.sampled_from([*NAMES, "z"])), min_size=1, max_size=3), st.sampled_from([1, 3, 120])),
    max_size=5,
)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.sampled_from([NAMES, NAMES[:1], ()]), st.booleans())
def test_fields_that_come_and_go(
    batches: list[tuple[list[set[str]], int]], names: tuple[str, ...], typed: bool
) -> None:
    """One decoder, batch after batch of records with other fields, with gaps or without: always what is there."""
    decoder = JsonDecoder(dict.fromkeys(NAMES, column(Kind.INTEGER)) if typed else {})
    for shapes, repeats in batches:
        records = [{name: at for name in shape} for at, shape in enumerate(shapes * repeats)]
        found = decoder.rows([msgspec.json.encode(record) for record in records], names)
        assert [dict(zip(found.names, row, strict=True)) for row in found.rows] == [
            {name: record.get(name, UNSET) for name in found.names} for record in records
        ]
        present = [name for name in names if any(name in record for record in records)]
        assert list(found.names) == present
        assert found.sparse == any(name not in record for name in present for record in records)
        with pytest.raises(DecodeError):  # a bad record between them changes nothing
            decoder.rows([b'{"a": {"x": 1', b"{}"], names)

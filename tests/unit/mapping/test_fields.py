"""Fields into columns, as configured."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from consumer.decode.json import JsonDecoder
from consumer.decode.plain import RawDecoder, TextDecoder
from consumer.errors import ConfigError, FatalError
from consumer.mapping import Mapped
from consumer.mapping.fields import FieldMapper, FieldRules
from consumer.record import Headers
from consumer.table import Column, Kind, Mode, Table, Target
from tests.fake_kafka import MemoryMessage

COLUMNS = [
    Column("id", Kind.INTEGER, "bigint", nullable=False),
    Column("name", Kind.TEXT, "text"),
    Column("extra", Kind.JSON, "jsonb"),
    Column("body", Kind.BYTES, "bytea"),
    Column("seen_at", Kind.TIMESTAMPTZ, "timestamptz"),
    Column("always", Kind.INTEGER, "int", writable=False),
]
TABLE = Table("t", {column.name: column for column in COLUMNS}, (("id",),))


@dataclass(frozen=True, slots=True)
class WithHeaders(MemoryMessage):
    """A record with headers."""

    pairs: tuple[tuple[str, bytes | None], ...] = ()

    def headers(self) -> Headers | None:
        return list(self.pairs)


def message(value: bytes | None, offset: int = 0, key: bytes | None = None, **more: Any) -> WithHeaders:
    return WithHeaders("orders", 3, offset, value, key, **more)


def mapped(
    values: Sequence[bytes | None] | Sequence[WithHeaders],
    rules: FieldRules | None = None,
    target: Target | None = None,
    decoder: Any = JsonDecoder,
    key: Any = None,
) -> Mapped:
    mapper = FieldMapper(TABLE, target or Target("t"), rules or FieldRules(), decoder, key or TextDecoder())
    messages = [v if isinstance(v, WithHeaders) else message(v, n) for n, v in enumerate(values)]
    return mapper.map(messages, range(len(messages)))


def rows(found: Mapped) -> list[dict[str, Any]]:
    assert found.failures == []
    return [dict(zip(part.columns, row, strict=True)) for part in found.rows for row in part.rows]


def test_fields_go_to_the_columns_of_their_names() -> None:
    """What no column takes is dropped, and a field that is missing keeps the column's default."""
    found = mapped([b'{"id": 1, "name": "a", "other": 5}', b'{"id": 2}', b'{"name": null, "id": 3}'])
    assert sorted(rows(found), key=lambda row: row["id"]) == [
        {"id": 1, "name": "a"},
        {"id": 2},
        {"id": 3, "name": None},
    ]


def test_rows_of_other_columns_keep_their_ordinals() -> None:
    """Each row is of the record that it came from."""
    found = mapped([b'{"id": 1, "name": "a"}', b'{"id": 2}', b'{"id": 3, "name": "c"}'])
    assert {part.columns: part.ordinals for part in found.rows} == {("id", "name"): [0, 2], ("id",): [1]}


def test_a_column_that_the_database_generates_is_never_fed() -> None:
    """A field of its name is dropped like any that no column takes."""
    assert rows(mapped([b'{"id": 1, "always": 5}'])) == [{"id": 1}]


def test_fields_are_renamed_and_reached_into_and_columns_may_be_constant() -> None:
    """`columns` says where each comes from; a field that is not there leaves the column out."""
    rules = FieldRules(columns={"id": "order", "name": "customer.name"}, constants={"extra": 7})
    found = mapped([b'{"order": 1, "customer": {"name": "x"}}', b'{"order": 2, "customer": null}'], rules)
    assert sorted(rows(found), key=lambda row: row["id"]) == [
        {"id": 1, "name": "x", "extra": 7},
        {"id": 2, "extra": 7},
    ]


def test_one_field_may_feed_several_columns() -> None:
    """The second time it is reached for."""
    found = mapped([b'{"id": 1, "b": "x"}'], FieldRules(columns={"name": "b", "extra": "b"}))
    assert rows(found) == [{"id": 1, "name": "x", "extra": "x"}]


def test_metadata_become_columns() -> None:
    """Topic, partition, offset, timestamp, key and headers of the record."""
    rules = FieldRules(columns={"id": "$offset", "name": "$topic", "seen_at": "$timestamp", "body": "$headers.trace"})
    record = message(b"{}", 41, millis=1000, pairs=(("trace", b"\xff"), ("other", b"1")))
    assert rows(mapped([record], rules)) == [
        {
            "id": 41,
            "name": "orders",
            "seen_at": datetime.datetime(1970, 1, 1, 0, 0, 1, tzinfo=datetime.UTC),
            "body": b"\xff",
        }
    ]


def test_all_headers_become_one_json_column() -> None:
    """As pairs, because a name may come twice."""
    record = message(b'{"id": 1}', pairs=(("a", b"1"), ("a", None)))
    assert rows(mapped([record], FieldRules(columns={"extra": "$headers"}))) == [
        {"id": 1, "extra": [["a", "1"], ["a", None]]}
    ]


def test_parts_of_a_decoded_key_become_columns() -> None:
    """The key format says what the key is."""
    found = mapped(
        [message(b'{"id": 1}', key=b'{"k": {"n": "x"}}')],
        FieldRules(columns={"name": "$key.k.n"}),
        key=JsonDecoder(),
    )
    assert rows(found) == [{"id": 1, "name": "x"}]


def test_a_raw_value_goes_where_it_is_told() -> None:
    """As bytes, or as text where the column holds text."""
    rules = FieldRules(columns={"id": "$offset", "body": "$value", "name": "$value"})
    assert rows(mapped([b"abc"], rules, decoder=lambda _: RawDecoder())) == [{"id": 0, "body": b"abc", "name": "abc"}]


def test_unknown_fields_are_refused_or_kept_as_configured() -> None:
    """Refused by name, or kept together in one column."""
    records = [b'{"id": 1, "x": 2, "y": {"z": 3}}', b'{"id": 2}']
    refused = mapped(records, FieldRules(unknown="reject"))
    assert [(f.ordinal, str(f.error)) for f in refused.failures] == [(0, "no column takes the field x")]
    assert [part.ordinals for part in refused.rows] == [[1]]
    kept = mapped(records, FieldRules(unknown="keep", keep_in="extra"))
    assert rows(kept) == [{"id": 1, "extra": {"x": 2, "y": {"z": 3}}}, {"id": 2, "extra": None}]


def test_select_takes_no_more_than_it_names() -> None:
    """Other columns keep their default."""
    assert rows(mapped([b'{"id": 1, "name": "a"}'], FieldRules(select=["id"]))) == [{"id": 1}]


def test_bad_records_are_found_among_good_ones() -> None:
    """Each record is judged alone, and the good ones become rows."""
    found = mapped([b'{"id": 1}', b"{", b'{"id": 3}', b"[]", b"\xff"])
    assert [failure.ordinal for failure in found.failures] == [1, 3, 4]
    assert [part.ordinals for part in found.rows] == [[0, 2]]


def test_a_null_value_is_refused_unless_configured_otherwise() -> None:
    """A tombstone means nothing to a table of events."""
    found = mapped([b'{"id": 1}', None])
    assert [failure.ordinal for failure in found.failures] == [1]


def test_a_null_value_may_be_skipped() -> None:
    """It makes no row, and is no failure."""
    found = mapped([None, b'{"id": 1}', None], FieldRules(on_null="skip"))
    assert [part.ordinals for part in found.rows] == [[1]]
    assert mapped([None], FieldRules(on_null="skip")) == Mapped()


@pytest.mark.parametrize(("key", "decoder"), [(b"7", TextDecoder()), (b'{"id": 7}', JsonDecoder())])
def test_a_null_value_may_delete_the_row_of_its_key(key: bytes, decoder: Any) -> None:
    """The key is the row's key, or holds it by name; rows and deletes stay in order."""
    target = Target("t", Mode.UPSERT)
    records = [message(b'{"id": 7, "name": "a"}'), message(None, 1, key), message(b'{"id": 7, "name": "b"}', 2)]
    found = mapped(records, FieldRules(on_null="delete"), target, key=decoder)
    (part,) = found.rows
    assert part.columns == ("id", "name")
    assert part.deletes == [False, True, False]
    assert part.ordinals == [0, 1, 2]
    assert part.rows[1] in [("7", None), (7, None)]


def test_a_null_value_whose_key_does_not_tell_the_row_is_refused() -> None:
    """Nothing is deleted by guess."""
    target = Target("t", Mode.UPSERT)
    found = mapped([message(None, 0, b'{"other": 1}')], FieldRules(on_null="delete"), target, key=JsonDecoder())
    assert [failure.ordinal for failure in found.failures] == [0]
    assert mapped([message(None)], FieldRules(on_null="delete"), target).failures != []


def test_a_delete_takes_its_version_from_the_metadata() -> None:
    """So that an old tombstone does not delete a newer row."""
    rules = FieldRules(columns={"extra": "$offset"}, on_null="delete")
    target = Target("t", Mode.UPSERT, version="extra")
    (part,) = mapped([message(None, 5, b"7")], rules, target).rows
    assert (part.columns, part.rows, part.deletes) == (("id", "extra"), [("7", 5)], [True])


def test_rules_that_the_table_does_not_have_are_fatal() -> None:
    """Found when the mapper is made, not at the first record."""
    with pytest.raises(FatalError, match="no column nowhere"):
        mapped([b"{}"], FieldRules(columns={"nowhere": "x"}))
    with pytest.raises(FatalError, match="selected"):
        mapped([b"{}"], FieldRules(select=["nowhere"]))
    with pytest.raises(ConfigError, match="no source"):
        mapped([b"{}"], FieldRules(columns={"name": "$nothing"}))

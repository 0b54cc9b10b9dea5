"""The user's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consumer import MappingError, Record, Row
from consumer.decode.json import JsonDecoder
from consumer.decode.plain import TextDecoder
from consumer.errors import UnavailableError
from consumer.mapping import Mapped
from consumer.mapping.transform import TransformMapper
from consumer.table import Mode, Target
from tests.fake_kafka import MemoryMessage


def mapper(transform: Callable[[Record], Any], **more: Any) -> TransformMapper:
    targets = {"t": Target("t"), "u": Target("u", Mode.UPSERT)}
    settings: dict[str, Any] = {"default": None} | more
    return TransformMapper(transform, JsonDecoder(), TextDecoder(), targets, lambda _: ("id",), **settings)


def messages(*values: bytes | None, partition: int = 0) -> list[MemoryMessage]:
    return [MemoryMessage("t", partition, offset, value, b"k") for offset, value in enumerate(values)]


def tables(found: Mapped) -> dict[str, list[dict[str, Any]]]:
    made: dict[str, list[dict[str, Any]]] = {}
    for part in found.rows:
        made.setdefault(part.table, []).extend(dict(zip(part.columns, row, strict=True)) for row in part.rows)
    return made


def test_a_dict_is_a_row_none_filters_and_an_iterable_is_many() -> None:
    """What the function gives decides what becomes of the record."""

    def transform(record: Record) -> Any:
        n = record.value
        return None if n == 0 else {"id": n} if n == 1 else ({"id": i} for i in range(n))

    found = mapper(transform).map(messages(b"0", b"1", b"2"))
    assert tables(found) == {"t": [{"id": 1}, {"id": 0}, {"id": 1}]}
    assert [part.ordinals for part in found.rows] == [[1, 2, 2]]


def test_rows_may_name_their_table_and_delete() -> None:
    """One record may change several tables."""

    def transform(record: Record) -> Any:
        return [{"id": record.offset}, Row("u", {"id": record.value}), Row("u", {"id": 9}, delete=True)]

    found = mapper(transform).map(messages(b"5"))
    assert tables(found) == {"t": [{"id": 0}], "u": [{"id": 5}, {"id": 9}]}
    assert {part.table: part.deletes for part in found.rows} == {"t": None, "u": [False, True]}


def test_the_record_is_whole() -> None:
    """Coordinates, time, key, value and headers are there."""
    seen = []
    mapper(lambda record: seen.append(record)).map(messages(b'{"a": 1}'))
    (record,) = seen
    assert (record.topic, record.partition, record.offset, record.key) == ("t", 0, 0, "k")
    assert (record.value, record.headers, record.timestamp.year) == ({"a": 1}, [], 2023)


def test_the_context_lasts_from_record_to_record_of_a_partition_until_it_leaves() -> None:
    """It is a cache for the transform, apart for each partition."""

    def count(record: Record) -> dict[str, int]:
        record.context["n"] = record.context.get("n", 0) + 1
        return {"id": record.context["n"]}

    counting = mapper(count)
    counting.map(messages(b"0", b"0"))
    assert tables(counting.map(messages(b"0", partition=1))) == {"t": [{"id": 1}]}
    assert tables(counting.map(messages(b"0"))) == {"t": [{"id": 3}]}
    counting.forget([("t", 0)])
    assert tables(counting.map(messages(b"0"))) == {"t": [{"id": 1}]}


def test_it_is_called_once_for_each_record_in_order_also_when_one_fails() -> None:
    """A record that cannot be decoded or mapped does not make the others be seen twice."""
    calls = []

    def transform(record: Record) -> dict[str, Any]:
        calls.append(record.offset)
        if record.value == "bad":
            raise MappingError("no")
        return {"id": record.value["id"]}

    found = mapper(transform).map(messages(b'{"id": 1}', b"{", b'"bad"', b'{"x": 1}', b'{"id": 2}'))
    assert calls == [0, 2, 3, 4]
    assert [failure.ordinal for failure in found.failures] == [1, 2, 3]
    assert tables(found) == {"t": [{"id": 1}, {"id": 2}]}


def test_whatever_it_raises_is_told_by_place_and_never_by_value() -> None:
    """An exception's text may hold the record."""
    secret = "canary"

    def transform(record: Record) -> None:
        raise ValueError(secret)

    (failure,) = mapper(transform).map(messages(b"0")).failures
    assert "ValueError in transform, line" in failure.error.reason
    assert secret not in failure.error.reason


def test_a_row_must_be_a_row() -> None:
    """Anything else is the record's failure, told by type."""
    (failure,) = mapper(lambda _: [5]).map(messages(b"0")).failures
    assert "int" in failure.error.reason


def test_an_outage_inside_is_an_outage() -> None:
    """A transform that asks a service may say that it is away: the batch is tried again."""

    def transform(_: Record) -> None:
        raise UnavailableError("away")

    with pytest.raises(UnavailableError):
        mapper(transform).map(messages(b"0"))


def test_a_null_value_is_handed_over_or_skipped() -> None:
    """As `on_null` says."""
    assert tables(mapper(lambda r: {"id": r.value}).map(messages(None))) == {"t": [{"id": None}]}
    assert mapper(lambda r: {"id": r.value}, skip_null=True).map(messages(None)) == Mapped()

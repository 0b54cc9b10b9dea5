"""The user's function."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import pytest

from consumer import MappingError, Record, Row
from consumer.decode.json import JsonDecoder
from consumer.decode.plain import TextDecoder
from consumer.errors import UnavailableError
from consumer.mapping import Mapped
from consumer.mapping.sources import moments
from consumer.mapping.transform import TransformMapper
from consumer.record import Headers
from consumer.table import Mode, Target
from tests.fake_kafka import MemoryMessage

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


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


class Odd(MemoryMessage):
    """If its value is 2, a header's name is not UTF-8; from 3 on, its time is outside Python's years."""

    def headers(self) -> Headers | None:
        if self.body == b"2":
            raise SystemError
        return None

    def timestamp(self) -> tuple[int, int]:
        return (1, 10**15) if self.body is None or self.body > b"2" else (0, -1)


def odd(*values: bytes | None) -> list[Odd]:
    return [Odd("t", 0, offset, value) for offset, value in enumerate(values)]


def test_a_record_of_which_something_cannot_be_given_fails_alone() -> None:
    """Its headers or its time, as its value and its key."""
    seen = []
    found = mapper(seen.append).map(odd(b"0", b"{", b"2", b"3", b"1"))
    assert [failure.ordinal for failure in found.failures] == [1, 2, 3]
    assert [failure.error.reason for failure in found.failures][1:] == [
        "a header's name is not UTF-8",
        "the record's timestamp is outside the years 1 to 9999",
    ]
    assert [(record.offset, record.timestamp, record.headers) for record in seen] == [(0, None, []), (4, None, [])]


@pytest.mark.parametrize(
    ("milliseconds", "moment"),
    [(253_402_300_799_999, datetime.datetime.max), (-62_135_596_800_000, datetime.datetime.min), (-1, None)],
)
def test_a_time_is_given_to_the_millisecond(milliseconds: int, moment: datetime.datetime | None) -> None:
    """In the years 1 to 9999, which the other times of the batch have no part in; None where there is none."""
    wanted = moment and moment.replace(tzinfo=datetime.UTC, microsecond=moment.microsecond // 1000 * 1000)
    kind = int(moment is not None)
    assert moments([(1, 1), (kind, milliseconds)]) == [EPOCH + datetime.timedelta(milliseconds=1), wanted]
    for beyond in (253_402_300_800_000, -62_135_596_800_001, 2**63 - 1, -(2**63)):
        with pytest.raises(MappingError):
            moments([(kind, milliseconds), (1, beyond)])
        assert moments([(0, beyond)]) == [None]


def test_of_what_is_skipped_only_the_key_is_looked_at() -> None:
    """A null value with a time outside Python's years is no record at fault."""
    assert mapper(lambda r: {"id": r.value}, skip_null=True).map(odd(None)) == Mapped()
    assert mapper(lambda r: {"id": r.value}).map(odd(None)).failures[0].ordinal == 0


def test_a_row_is_what_it_was_when_it_was_given() -> None:
    """A transform may change its dict for the next row, of this record or another."""
    row: dict[str, Any] = {}

    def transform(record: Record) -> Any:
        for name in "xy":
            row["id"] = f"{name}{record.value}"
            yield row

    assert tables(mapper(transform).map(messages(b"1", b"2"))) == {"t": [{"id": i} for i in ("x1", "y1", "x2", "y2")]}


def test_a_dict_that_is_changed_for_the_next_record_is_the_row_that_it_was() -> None:
    """Whether it is given again, or was the value of a record."""
    row: dict[str, Any] = {}
    before: list[dict[str, Any]] = []

    def again(record: Record) -> Any:
        row["id"] = record.value
        return row

    def later(record: Record) -> Any:
        for old in before:
            old["id"] = old["more"] = 9
        before.append(record.value)
        return record.value

    assert tables(mapper(again).map(messages(b"1", b"2"))) == {"t": [{"id": 1}, {"id": 2}]}
    given = messages(b'{"id": 1}', b'{"id": 2}')
    assert tables(mapper(later).map(given)) == {"t": [{"id": 1}, {"id": 2}]}


def test_rows_of_other_columns_keep_their_records() -> None:
    """Each set of columns is a part of its own, in the order of the records."""
    found = mapper(lambda r: {"id": 1} if r.value == 1 else {"id": 2, "a": 3}).map(messages(b"1", b"0", b"1"))
    assert [(part.columns, part.rows, part.ordinals) for part in found.rows] == [
        (("id",), [(1,), (1,)], [0, 2]),
        (("id", "a"), [(2, 3)], [1]),
    ]


def test_a_record_that_fails_at_its_second_row_has_no_first_one() -> None:
    """All of its rows, or none."""

    def transform(record: Record) -> Any:
        yield {"id": record.value}
        if record.value == 2:
            raise MappingError("no")

    assert tables(mapper(transform).map(messages(b"1", b"2"))) == {"t": [{"id": 1}]}

"""A batch is mapped by a transform as its records are one by one."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from consumer import MappingError, Record, Row
from consumer.decode.json import JsonDecoder
from consumer.decode.plain import TextDecoder
from consumer.mapping.transform import TransformMapper
from tests.fake_kafka import MemoryMessage

# One dict for all rows that are made in place, as a user may have it who wants to save some.
SHARED: dict[str, Any] = {}


def shared(n: int) -> dict[str, Any]:
    SHARED["id"] = n
    return SHARED


def failing(n: int) -> Iterator[dict[str, Any]]:
    yield {"id": n}
    raise MappingError("no")


KINDS: dict[str, Callable[[int], Any]] = {
    "dict": lambda n: {"id": n, "a": "x"},
    "other": lambda n: {"a": "x", "id": n},
    "shared": shared,
    "subclass": lambda n: OrderedDict(id=n),
    "row": lambda n: Row("u", {"id": n}),
    "delete": lambda n: Row("u", {"id": n}, delete=True),
    "none": lambda n: None,
    "several": lambda n: [{"id": n}, shared(n), Row("u", {"id": -n})],
    "failing": failing,
    "wrong": lambda n: n,
}


def transform(record: Record) -> Any:
    return KINDS[record.value](record.offset)


def rows(mapper: TransformMapper, batch: list[MemoryMessage]) -> list[Any]:
    """Each row, as a dict, with what it is for, by the offset of its record; and the reasons of failures."""
    found = mapper.map(batch)
    made = [
        (batch[ordinal].offset(), part.table, dict(zip(part.columns, row, strict=True)), delete)
        for part in found.rows
        for row, ordinal, delete in zip(part.rows, part.ordinals, part.deletes or [False] * len(part.rows), strict=True)
    ]
    return sorted([*made, *((batch[f.ordinal].offset(), f.error.reason) for f in found.failures)], key=repr)


@given(st.lists(st.sampled_from(sorted(KINDS))), st.sampled_from([None, "t"]))
def test_a_batch_is_its_records_one_by_one(kinds: list[str], default: str | None) -> None:
    """Whatever the transform makes of each, and whatever it does with a dict that it gave before."""
    mapper = TransformMapper(transform, JsonDecoder(), TextDecoder(), {}, lambda _: ("id",), default=default)
    batch = [MemoryMessage("m", 0, at, f'"{kind}"'.encode()) for at, kind in enumerate(kinds)]
    alone = chain.from_iterable(rows(mapper, [message]) for message in batch)
    assert not batch or rows(mapper, batch) == sorted(alone, key=repr)

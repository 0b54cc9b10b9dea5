"""A transform that makes several rows a record, in three tables, and trusts its input."""

from __future__ import annotations

from collections.abc import Iterator

from consumer.record import Record, Row
from tests.fuzz.fields import FIELDS

_NAMES = {field.name for field in FIELDS if field.sqlite}


def lines(offset: int) -> int:
    """How many rows of `line` the record at this offset has."""
    return offset % 3


def explode(record: Record) -> Iterator[Row]:
    """One row in `wide`, some in `line`, one counted in `tally`."""
    place = {"part": record.partition, "pos": record.offset}
    fields = {name: value for name, value in record.value.items() if name in _NAMES}
    for number in range(lines(record.offset)):
        yield Row("line", place | {"number": number, "words": record.value.get("words")})
    yield Row("wide", fields | place)
    yield Row("tally", {"part": record.partition, "n": 1})

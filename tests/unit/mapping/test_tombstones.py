"""A null value deletes only where that is configured."""

from __future__ import annotations

import pytest

from consumer.decode.json import JsonDecoder
from consumer.decode.plain import TextDecoder
from consumer.errors import DecodeError
from consumer.mapping.fields import FieldMapper, FieldRules
from consumer.table import Column, Kind, Mode, Table, Target
from tests.fake_kafka import MemoryMessage

TABLE = Table("t", {"id": Column("id", Kind.TEXT, "text")}, (("id",),))


@pytest.mark.parametrize("mode", [Mode.UPSERT, Mode.DELETE])
def test_a_null_value_never_deletes_unless_told_so(mode: Mode) -> None:
    """Though its key tells the row, and the mode could."""
    mapper = FieldMapper(TABLE, Target("t", mode), FieldRules(), JsonDecoder, TextDecoder())
    found = mapper.map([MemoryMessage("t", 0, 0, None, b"7")], [0])
    assert found.rows == []
    assert [(failure.ordinal, type(failure.error)) for failure in found.failures] == [(0, DecodeError)]

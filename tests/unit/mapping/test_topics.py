"""Records into the tables that their topics go to."""

from __future__ import annotations

from consumer.decode.json import JsonDecoder
from consumer.decode.plain import TextDecoder
from consumer.errors import MappingError
from consumer.mapping.fields import FieldMapper, FieldRules
from consumer.mapping.topics import TopicMapper
from consumer.table import Column, Kind, Table, Target
from tests.fake_kafka import MemoryMessage

ID = Column("id", Kind.INTEGER, "bigint", minimum=0, maximum=99)


def mapper(table: str, rules: FieldRules | None = None) -> FieldMapper:
    return FieldMapper(Table(table, {"id": ID}), Target(table), rules or FieldRules(), JsonDecoder, TextDecoder())


def messages(*pairs: tuple[str, bytes]) -> list[MemoryMessage]:
    return [MemoryMessage(topic, 0, offset, value) for offset, (topic, value) in enumerate(pairs)]


def test_a_record_that_fails_for_one_table_has_rows_in_none() -> None:
    """The unit is the record: its rows in all tables, or none; and it fails once."""
    both = [mapper("lenient"), mapper("strict", FieldRules(unknown="reject"))]
    mapped = TopicMapper(lambda _: both).map(messages(("t", b'{"id": 1}'), ("t", b'{"id": 2, "x": 3}')))
    assert {rows.table: (rows.rows, rows.ordinals) for rows in mapped.rows} == {
        "lenient": ([(1,)], [0]),
        "strict": ([(1,)], [0]),
    }
    assert [failure.ordinal for failure in mapped.failures] == [1]
    assert isinstance(mapped.failures[0].error, MappingError)


def test_each_topic_has_its_tables_and_records_keep_their_ordinals() -> None:
    """Also where topics take turns in a batch, and with failures in order."""
    given = messages(("a", b'{"id": 1}'), ("b", b"{"), ("a", b"["), ("b", b'{"id": 4}'))
    mapped = TopicMapper(lambda topic: [mapper(topic)]).map(given)
    assert {rows.table: rows.ordinals for rows in mapped.rows} == {"a": [0], "b": [3]}
    assert [failure.ordinal for failure in mapped.failures] == [1, 2]

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
    columns = {"id": ID, "rest": Column("rest", Kind.JSON, "jsonb")}
    return FieldMapper(Table(table, columns), Target(table), rules or FieldRules(), JsonDecoder, TextDecoder())


EVERYTHING = FieldRules(columns={"id": "$offset", "rest": "$value"})


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


def dropped(*tables: FieldMapper, first: bytes = b'{"id": 1, "a": 2, "b": 3}') -> dict[str, frozenset[str]]:
    return TopicMapper(lambda _: tables).map(messages(("t", first), ("t", b'{"id": 2, "later": 1}'))).dropped


def test_fields_that_no_table_takes_are_named() -> None:
    """Those of the first record of a topic that can be mapped, unless one of its tables has them, by any source."""
    plain = mapper("plain")
    assert dropped(plain) == {"t": {"a", "b"}}
    assert dropped(plain, mapper("other", FieldRules(columns={"rest": "a"}))) == {"t": {"b"}}
    assert dropped(plain, mapper("other", FieldRules(columns={"rest": "$value.b.c"}))) == {"t": {"a"}}
    assert dropped(plain, first=b'{"id": 1}') == {}
    both = TopicMapper(lambda topic: [mapper(topic)]).map(messages(("x", b'{"a": 1}'), ("y", b'{"b": 1, "id": 2}')))
    assert both.dropped == {"x": {"a"}, "y": {"b"}}


def test_nothing_is_called_dropped_that_is_kept_or_refused() -> None:
    """In a column for the rest, in one for the whole value, or as a dead letter; nor what cannot be read."""
    plain = mapper("plain")
    assert dropped(plain, mapper("keeping", FieldRules(unknown="keep", keep_in="rest"))) == {}
    assert dropped(plain, mapper("whole", EVERYTHING)) == {}
    assert dropped(plain, mapper("strict", FieldRules(unknown="reject"))) == {}
    assert dropped(mapper("strict", FieldRules(unknown="reject")), first=b'{"id": 1}') == {}
    assert dropped(plain, first=b"{") == {"t": {"later"}}
    assert dropped(plain, first=b'{"id": 1, "a": 1e400}') == {}
    assert dropped(mapper("plain", FieldRules(on_null="skip")), first=None) == {}  # type: ignore[arg-type]

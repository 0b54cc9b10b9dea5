"""What a preview finds, on a database in memory that is left as it was."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from consumer.config import parse
from consumer.errors import DecodeError, Failure, FatalError, MappingError, RejectedError, UnavailableError
from consumer.preview.sample import Sample
from consumer.preview.trial import Preview, rejections_of, tried
from consumer.record import Record
from consumer.table import TableRows
from tests.databases import Memory
from tests.fake_kafka import MemoryMessage
from tests.fakes import MemorySink

GOOD, UNDECODABLE, NEGATIVE = b'{"id": 1, "amount": 5, "canary": "c-1"}', b"{", b'{"id": 9, "amount": -77123}'


def records(*values: bytes | None, topic: str = "item") -> list[MemoryMessage]:
    return [MemoryMessage(topic, 0, 100 + number, value) for number, value in enumerate(values)]


class Bench:
    """The topics `item` and `event`, into the tables of these names."""

    def __init__(self, **settings: Any) -> None:
        self.database = Memory()
        self.settings = parse(
            {"kafka": {"bootstrap.servers": "none:1", "group.id": "group"}, "topics": ["event", "item"]}
            | {"format": "json", "sink": {"dsn": "sqlite:///none.db"}}
            | settings
        )

    def preview(self, messages: list[MemoryMessage], **more: Any) -> Preview:
        sink = self.database.sink((), "plan")
        found = tried(self.settings, sink, Sample(["event", "item"], messages, **more), itertools.count().__next__)
        assert [self.database.rows(table) for table in ("item", "event")] == [[], []]
        return found


def counts(found: Preview, topic: str = "item") -> tuple[int, ...]:
    (part,) = [part for part in found.topics if part.topic == topic]
    return part.records, part.decoded, part.mapped, part.filtered, part.written, part.rejected, part.repeated


def test_each_record_is_counted_once() -> None:
    """Rejected by stage, filtered, or written; the rest of the batch is looked at whatever one of them is."""
    bench = Bench(format={"type": "json", "on_null": "skip"})
    found = bench.preview([*records(GOOD, UNDECODABLE, NEGATIVE, None), *records(b'{"id": 3}', topic="event")])
    assert counts(found) == (4, 3, 3, 1, 1, 2, 0)
    assert counts(found, "event") == (1, 1, 1, 0, 1, 0, 0)
    assert [(part.table, part.mode, part.rows) for part in found.tables] == [
        ("event", "insert", 1),
        ("item", "insert", 1),
    ]
    assert [(one.offset, one.evidence.stage) for one in found.rejections] == [(101, "decode"), (102, "write")]


def test_what_no_column_takes_and_what_nothing_feeds_is_told() -> None:
    """They show a mistake in the mapping, which is no error."""
    found = Bench().preview(records(GOOD))
    assert found.topics[1].unmapped == ["canary"]
    assert found.tables[0].unfed == ["name", "version"]


@pytest.mark.parametrize(
    "table",
    [{"columns": {"name": "canary"}}, {"columns": {"name": "$value.canary"}}, {"unknown": {"column": "name"}}],
)
def test_a_field_that_some_column_takes_is_not_told(table: dict[str, Any]) -> None:
    """By another name, by path, or with all the rest."""
    tables = {"item": {"topics": ["item"], **table}, "event": {"topics": ["event"]}}
    found = Bench(sink={"dsn": "sqlite:///none.db", "tables": tables}).preview(records(GOOD))
    assert found.topics[1].unmapped == []


def test_keys_that_the_group_wrote_itself_are_no_fault() -> None:
    """Before the group's offset they must be there; from it on they are a fault."""
    twice = records(GOOD, GOOD)
    found = Bench().preview(twice, next_offsets={("item", 0): 102})
    assert (counts(found), found.rejections) == ((2, 2, 2, 0, 1, 0, 1), [])
    fresh = Bench().preview(twice, next_offsets={("item", 0): 101})
    assert (counts(fresh)[-2:], fresh.rejections[0].count) == ((1, 0), 1)


def test_too_many_at_fault_are_told_as_a_hold() -> None:
    """As the daemon would judge such a batch."""
    found = Bench(dead_letter={"max_consecutive": 1}).preview(records(UNDECODABLE, UNDECODABLE))
    assert "max_consecutive" in str(found.held)
    assert Bench().preview(records(UNDECODABLE, UNDECODABLE)).held is None


def test_the_rate_is_what_one_instance_can_do() -> None:
    """Decoding and mapping, then writing: one after the other."""
    found = Bench().preview(records(GOOD))
    assert (found.seconds, found.rate) == ({"map": 1, "write": 1}, 0.5)
    assert Bench().preview([]).rate is None


def test_a_table_that_is_not_there_is_an_error() -> None:
    """As it is to `run`."""
    with pytest.raises(FatalError, match="no table gone"):
        Bench(topics=["gone"]).preview(records(GOOD, topic="gone"))


def test_a_transform_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises is told by class and line."""

    def explode(record: Record) -> Any:
        if record.offset == 101:
            raise KeyError(record.value["canary"])
        return {"id": record.value["id"]}

    monkeypatch.setattr("consumer.mapping.opening.load_transform", lambda _: explode)
    found = Bench(transform="m:explode", sink={"dsn": "sqlite:///none.db", "tables": {"item": {}}}).preview(
        records(GOOD, GOOD)
    )
    assert counts(found) == (2, 2, 1, 0, 1, 1, 0)
    assert found.rejections[0].evidence.reason.startswith("the transform raised KeyError")


class Stuck(MemorySink):
    """It writes until it is interrupted."""

    def apply(self, rows: Sequence[TableRows]) -> None:
        self.broken = threading.Event()
        assert self.broken.wait(60)
        raise UnavailableError("interrupted")

    def interrupt(self) -> None:
        self.broken.set()


def test_a_transaction_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds what a daemon may wait for; what to do is said."""
    monkeypatch.setattr("consumer.preview.trial._HOLD_SECONDS", 0.01)
    bench = Bench()
    sink = Stuck(bench.database._database, [], "group", "plan")
    with pytest.raises(FatalError, match=r"more than 0\.01 s") as raised:
        tried(bench.settings, sink, Sample(["item"], records(GOOD)))
    assert "--records" in raised.value.hint


def refusal(code: str | None, column: str | None = None, constraint: str | None = None) -> RejectedError:
    return RejectedError("refused", code, "item", column, constraint)


def test_rejections_are_grouped_by_kind() -> None:
    """With the first of each, most first; the reason is that one's."""
    errors = [
        DecodeError("byte 7"),
        refusal("23514", constraint="c"),
        refusal("23514", constraint="c"),
        refusal("22003"),
    ]
    errors += [DecodeError("byte 8"), DecodeError("byte 9"), MappingError("no price")]
    found = rejections_of(Sample(["item"], records(*[b""] * 7)), [Failure(n, error) for n, error in enumerate(errors)])
    told = [(one.count, one.offset, one.evidence.reason, one.evidence.sqlstate) for one in found]
    assert told == [
        (3, 100, "byte 7", None),
        (2, 101, "refused", "23514"),
        (1, 103, "refused", "22003"),
        (1, 106, "no price", None),
    ]


def test_no_reason_holds_a_value() -> None:
    """Neither of what cannot be decoded nor of what the sink refuses."""
    found = Bench().preview(records(GOOD, b"{secret-1", NEGATIVE))
    assert len(found.rejections) == 2
    assert not [value for value in ("c-1", "secret-1", "77123") if value in str(found)]

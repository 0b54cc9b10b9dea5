"""A replay writes each dead letter once, and what fails again keeps its place."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from consumer.config import parse
from consumer.decode.json import JsonDecoder
from consumer.decode.plain import TextDecoder
from consumer.dlq.back import SourceTopics
from consumer.dlq.fix import Fixer
from consumer.dlq.replay import Report, TableKeeper, lots_of, replay
from consumer.dlq.tables import TableDestination, require_guard
from consumer.errors import ConfigError, FatalError, MappingError, TopicPartition, UnavailableError
from consumer.letter import DeadLetter, Evidence, State
from consumer.mapping.opening import open_mapper
from consumer.record import Record, Row
from consumer.sinks import Selection, Sink
from consumer.table import Mode, Target
from tests.databases import Memory
from tests.fakes import MemorySink

MORE = 1_700_000_000_000
WHEN = datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC)
REFUSED = Evidence("write", "RejectedError", "Check violation of item_check", "23514", "item", None, "item_check", 3)
ALL = Selection(tuple(State))
BAD = b'{"id": 1, "amount": -1}'


def letter(offset: int, value: bytes | None, topic: str = "event", **more: Any) -> DeadLetter:
    known: dict[str, Any] = {"key": b"k", "headers": None, "timestamp": (1, MORE)}
    known |= {"evidence": REFUSED, "first_failed_at": WHEN} | more
    return DeadLetter(topic, 0, offset, value=value, **known)


def body(number: int) -> bytes:
    return b'{"id": %d, "body": "b"}' % number


class Bench:
    """A database with dead letters of the topics `event` and `item`, which go into the tables of these names."""

    def __init__(self, *letters: DeadLetter, **settings: Any) -> None:
        self.database = Memory()
        self.settings = parse(
            {"kafka": {"bootstrap.servers": "none:1", "group.id": "group"}, "topics": ["event", "item"]}
            | {"format": "json", "sink": {"dsn": "sqlite:///none.db"}}
            | settings
        )
        sink = self.sink()
        sink.begin({})
        sink.letters.keep(letters)
        sink.commit({})

    def sink(self, kind: Callable[..., MemorySink] = MemorySink) -> MemorySink:
        tables = self.settings.sink.tables
        targets = [Target(name, table.mode, version=table.version) for name, table in tables.items()]
        return kind(self.database._database, targets or [Target("event"), Target("item")], "group", "dlq")

    def replay(
        self,
        fixer: Fixer | None = None,
        *,
        sink: Sink | None = None,
        size: int = 2,
        dry_run: bool = False,
        guarded: Callable[[str], bool] = lambda _: True,
    ) -> Report:
        sink, report = sink or self.sink(), Report()
        destination = TableDestination(sink, open_mapper(self.settings, sink.describe), sink.describe, guarded)
        keeper = TableKeeper(sink, dry_run=dry_run, pause=lambda _: None)
        replay(lots_of(sink.letters, Selection(), size), keeper, destination, report, fixer)
        return report

    def letters(self) -> dict[int, DeadLetter]:
        return {one.offset: one for one in self.sink().letters.select(ALL, 1000)}

    def states(self) -> dict[int, State]:
        return {offset: one.state for offset, one in self.letters().items()}

    def ids(self, table: str = "event") -> list[int]:
        return [row["id"] for row in self.database.rows(table)]


def fixer(fix: Callable[[Record], Any]) -> Fixer:
    return Fixer(fix, JsonDecoder(), TextDecoder(), as_json=True)


def test_a_second_replay_does_nothing() -> None:
    """What was written is marked in the same transaction, in order of coordinates."""
    bench = Bench(*(letter(number, body(number)) for number in (3, 1, 2, 4, 0)))
    assert bench.replay().replayed == 5
    assert bench.ids() == [0, 1, 2, 3, 4]
    assert set(bench.states().values()) == {State.REPLAYED}
    again = bench.replay()
    assert (again.replayed, again.absent, bench.ids()) == (0, 0, [0, 1, 2, 3, 4])


@pytest.mark.parametrize("state", [State.REPLAYED, State.DISCARDED])
def test_what_is_no_longer_open_is_left_alone(state: State) -> None:
    """Also when somebody else was quicker, between the reading and the lock."""
    bench = Bench(letter(0, body(0), state=state), letter(1, body(1)))
    sink = bench.sink()
    report = Report()
    destination = TableDestination(sink, open_mapper(bench.settings, sink.describe), sink.describe)
    replay([list(bench.letters().values())], TableKeeper(sink), destination, report)
    assert (report.replayed, report.absent, bench.ids()) == (1, 1, [1])


def test_one_that_fails_again_keeps_its_place_with_new_evidence() -> None:
    """Its tries are counted on; those before and after it are written."""
    bench = Bench(letter(0, body(0)), letter(1, b"not JSON"), letter(2, BAD, "item"), letter(3, body(3)))
    report = bench.replay(size=10)
    assert (report.replayed, report.failed.counts.total(), report.left.counts) == (2, 2, {})
    assert bench.ids() == [0, 3]
    undecodable, refused = bench.letters()[1], bench.letters()[2]
    assert (undecodable.state, undecodable.replay_count, undecodable.value) == (State.PENDING, 1, b"not JSON")
    assert (undecodable.evidence.stage, undecodable.evidence.attempts) == ("decode", 4)
    assert undecodable.evidence.batch.startswith("replay-")
    assert (refused.evidence.sqlstate, refused.evidence.attempts) == ("23514", 4)
    assert bench.replay().failed.counts.total() == 2
    assert bench.letters()[1].evidence.attempts == 5


def test_a_dry_run_says_what_would_be_and_leaves_no_trace() -> None:
    """No row, and no letter changed."""
    bench = Bench(letter(0, body(0)), letter(1, BAD, "item"))
    before = bench.letters()
    report = bench.replay(dry_run=True)
    assert (report.replayed, report.failed.counts.total()) == (1, 1)
    assert (bench.ids(), bench.letters()) == ([], before)


def test_a_fix_mends_the_value() -> None:
    """A dict, bytes, or None for as it is; what is kept stays as Kafka had it."""
    letters = [letter(0, b'{"id": 0, "body": "a"}'), letter(1, b"{broken"), letter(2, body(2))]
    made: dict[int, Any] = {0: {"id": 10, "body": "ä"}, 1: body(11), 2: None}
    seen = []

    def fix(record: Record) -> Any:
        seen.append((record.topic, record.key, record.value))
        return made[record.offset]

    bench = Bench(*letters)
    assert bench.replay(fixer(fix)).replayed == 3
    assert sorted(bench.ids()) == [2, 10, 11]
    assert seen == [
        ("event", "k", {"id": 0, "body": "a"}),
        ("event", "k", b"{broken"),
        ("event", "k", {"id": 2, "body": "b"}),
    ]
    assert bench.letters()[1].value == b"{broken"


def test_a_fix_that_raises_leaves_that_record_in_its_place() -> None:
    """With the class of the error and its line, never its text; the rest goes on."""
    answers: dict[int, Any] = {0: KeyError("secret"), 1: MappingError("no price known"), 2: [1], 3: {"id": {1}}}
    answers |= {4: {"id": float("nan")}, 5: {"id": 5}}

    def fix(record: Record) -> Any:
        if isinstance(answer := answers[record.offset], Exception):
            raise answer
        return answer

    bench = Bench(*(letter(number, body(number)) for number in answers))
    report = bench.replay(fixer(fix))
    assert (report.replayed, report.failed.counts.total(), bench.ids()) == (1, 5, [5])
    told = [bench.letters()[number].evidence.reason for number in range(5)]
    assert told[0].startswith("the fix function raised KeyError in line ")
    assert "secret" not in told[0]
    assert told[1] == "no price known"
    assert "gave a list" in told[2]
    assert told[3] == told[4] == "the fix function gave a dict that JSON cannot hold"


def test_a_letter_whose_payload_is_gone_is_never_taken_for_a_tombstone() -> None:
    """The table may have forgotten it; the hint says where it is."""
    tables = {"item": {"mode": "upsert"}}
    emptied = letter(0, None, "item", key=None, state=State.PUBLISHED)
    bench = Bench(
        emptied,
        sink={"dsn": "sqlite:///none.db", "tables": tables},
        topics=["item"],
        format={"type": "json", "on_null": "delete"},
    )
    report = bench.replay()
    assert list(report.left.first.values()) == ["item/0/0"]
    assert bench.letters() == {0: emptied}


def test_headers_that_nobody_could_read_are_never_taken_for_none() -> None:
    """The client gives none of them if a name is not UTF-8: what needs them fails, again and again."""
    lost = replace(REFUSED, headers_lost=True)
    tables: dict[str, Any] = {"event": {"columns": {"body": "$headers.h"}}, "item": {}}
    tables = {name: table | {"topics": [name]} for name, table in tables.items()}
    bench = Bench(
        letter(0, body(0), evidence=lost),
        letter(1, body(1)),
        letter(2, BAD, "item", evidence=lost),
        sink={"dsn": "sqlite:///none.db", "tables": tables},
    )
    for _ in range(2):
        bench.replay(size=10)
        assert bench.ids() == [1]
        assert bench.letters()[2].evidence.headers_lost
    letters = [bench.letters()[2]]
    topics = SourceTopics(bench.settings, {"item": 1}, dry_run=False)
    assert list(topics.prepare(letters)([0])) == [0]


def test_a_table_that_is_gone_keeps_its_letters_and_no_others() -> None:
    """They are left as they were, with the reason; one trial tells for all of a topic."""
    bench = Bench(letter(0, body(0)), letter(1, body(1), "gone"), letter(2, body(2), "gone"), letter(3, body(3)))
    before = bench.letters()
    report = bench.replay(size=3)
    assert (report.replayed, report.left.counts) == (2, {"memory: there is no table gone: Create it.": 2})
    assert bench.ids() == [0, 3]
    assert [bench.letters()[number] for number in (1, 2)] == [before[1], before[2]]


def route(record: Record) -> Row:
    """A transform: the record says its table."""
    return Row(record.value["table"], {"id": record.value["id"]}, delete=record.value.get("delete", False))


def test_a_transform_may_name_a_table_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the records that go there are left."""
    monkeypatch.setattr("consumer.mapping.opening.load_transform", lambda _: route)
    values = [b'{"id": 1, "table": "event"}', b'{"id": 2, "table": "gone"}', b'{"id": 3, "table": "event"}']
    tables: dict[str, Any] = {"event": {}, "item": {}}
    bench = Bench(
        *(letter(number, value) for number, value in enumerate(values)),
        transform="m:route",
        sink={"dsn": "sqlite:///none.db", "tables": tables},
    )
    report = bench.replay()
    assert (report.replayed, list(report.left.first.values()), bench.ids()) == (2, ["event/0/1"], [1, 3])


def test_a_transform_that_deletes_needs_a_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old record must not delete a row that a newer one wrote."""
    monkeypatch.setattr("consumer.mapping.opening.load_transform", lambda _: route)
    tables: dict[str, Any] = {"event": {}, "item": {"mode": "upsert"}}
    bench = Bench(
        letter(0, b'{"id": 1, "table": "item"}'),
        letter(1, b'{"id": 1, "table": "item", "delete": true}'),
        transform="m:route",
        sink={"dsn": "sqlite:///none.db", "tables": tables},
    )
    report = bench.replay(guarded=lambda _: False)
    assert (report.replayed, list(report.left.first.values()), bench.ids("item")) == (1, ["event/0/1"], [1])
    assert bench.replay().replayed == 1
    assert bench.ids("item") == []


def test_a_framed_value_among_plain_avro_ones_is_no_matter_for_the_others() -> None:
    """A mapper may call the set-up wrong for one record: that one is left, the others go on."""

    class Picky:
        def __init__(self, sink: Sink, settings: Any) -> None:
            self._mapper = open_mapper(settings, sink.describe)

        def map(self, messages: Sequence[Any]) -> Any:
            if any(message.value() == b"\0framed" for message in messages):
                raise FatalError("values are framed", "Name their schemas.")
            return self._mapper.map(messages)

    bench = Bench(letter(0, body(0)), letter(1, b"\0framed"), letter(2, body(2)))
    sink, report = bench.sink(), Report()
    destination = TableDestination(sink, Picky(sink, bench.settings), sink.describe)  # type: ignore[arg-type]
    replay(lots_of(sink.letters, Selection()), TableKeeper(sink), destination, report)
    assert (report.replayed, report.left.counts, bench.ids()) == (
        2,
        {"values are framed: Name their schemas.": 1},
        [0, 2],
    )


@pytest.mark.parametrize("mode", [Mode.UPSERT, Mode.DELETE])
def test_without_a_version_nothing_is_overwritten(mode: Mode) -> None:
    """An old record must never overwrite what a newer one wrote; the table and the way out are named."""
    tables: dict[str, Any] = {"item": {"mode": mode}}
    settings = Bench(sink={"dsn": "sqlite:///none.db", "tables": tables}).settings
    with pytest.raises(ConfigError, match=r"sink\.tables\.item\.version.*--overwrite"):
        require_guard(settings, ["item"], to_topic=False)


@pytest.mark.parametrize("table", [{}, {"mode": "increment", "add": ["amount"]}, {"mode": "upsert", "version": "v"}])
def test_what_cannot_overwrite_is_not_refused(table: dict[str, Any]) -> None:
    """Inserts, sums, and rows that are compared by version."""
    settings = Bench(sink={"dsn": "sqlite:///none.db", "tables": {"item": table}}).settings
    require_guard(settings, ["item"], to_topic=False)
    require_guard(settings, ["item"], to_topic=True)


@pytest.mark.parametrize("source", ["$offset", "$timestamp"])
def test_a_version_of_kafka_does_not_guard_what_goes_back_into_its_topic(source: str) -> None:
    """There an old record gets the newest offset and time of all."""
    table = {"mode": "upsert", "version": "version", "columns": {"version": source}}
    settings = Bench(sink={"dsn": "sqlite:///none.db", "tables": {"item": table}}).settings
    require_guard(settings, ["item"], to_topic=False)
    with pytest.raises(ConfigError, match="gets a new one"):
        require_guard(settings, ["item"], to_topic=True)


class Faulty(MemorySink):
    """Its commits fail as `faults` says: before or after the deed."""

    faults: Sequence[str] = ()

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        fault, *self.faults = self.faults or [""]
        if fault != "before":
            super().commit(next_offsets)
        if fault:
            self.rollback()
            raise UnavailableError("cut off")


def test_a_commit_without_an_answer_is_found_out() -> None:
    """The try after it finds the letters settled, and writes nothing twice."""
    bench = Bench(letter(0, body(0)), letter(1, body(1)))
    sink = bench.sink(Faulty)
    assert isinstance(sink, Faulty)
    sink.faults = ["after"]
    report = bench.replay(sink=sink)
    assert (report.replayed, report.absent, bench.ids()) == (0, 2, [0, 1])


def test_an_outage_ends_the_replay_and_another_goes_on() -> None:
    """What was done stays done."""
    bench = Bench(*(letter(number, body(number)) for number in range(5)))
    sink = bench.sink(Faulty)
    assert isinstance(sink, Faulty)
    sink.faults = ["", *["before"] * 10]
    with pytest.raises(UnavailableError):
        bench.replay(sink=sink)
    assert bench.ids() == [0, 1]
    assert bench.replay().replayed == 3
    assert bench.ids() == [0, 1, 2, 3, 4]

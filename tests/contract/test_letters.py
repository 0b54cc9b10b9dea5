"""What every sink's table of dead letters must do, the fake's as well as the real ones'."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from consumer.errors import FatalError, RejectedError, UnavailableError
from consumer.letter import OPEN, Coordinates, DeadLetter, Evidence, State
from consumer.sinks import Position, Selection, Sink
from tests.sinks import P, Q, SinkFactory, by_id, group, opened

UTC = datetime.UTC
NOON = datetime.datetime(2024, 2, 29, 12, 0, 0, 1, UTC)
CHECK = Evidence("write", "RejectedError", "Check violation of x", "23514", "item", "amount", "item_check", 3, "b-1")
DECODE = Evidence("decode", "DecodeError", "not JSON")
ALL = Selection(states=tuple(State))


def letter(offset: int, topic: str = "orders", partition: int = 0, **more: Any) -> DeadLetter:
    known: dict[str, Any] = {"key": b"k", "value": b"v", "headers": None, "timestamp": (1, 1_700_000_000_000)}
    known |= {"evidence": CHECK, "first_failed_at": NOON} | more
    return DeadLetter(topic, partition, offset, **known)


def keep(sink: Sink, *letters: DeadLetter) -> Sink:
    """In a transaction of its own."""
    opened(sink).letters.keep(letters)
    sink.commit({})
    return sink


def settle(sink: Sink, replayed: Iterable[Coordinates] = (), failed: dict[Coordinates, Evidence] | None = None) -> None:
    opened(sink).letters.settle(list(replayed), failed or {})
    sink.commit({})


def offsets(letters: Iterable[DeadLetter]) -> list[int]:
    return [each.offset for each in letters]


def states(sink: Sink) -> dict[int, State]:
    return {each.offset: each.state for each in sink.letters.select(ALL, 100)}


def test_pending_ones_are_bounded_by_their_bytes(sink_factory: SinkFactory) -> None:
    """At least one, and no more than one beyond: large records do not fill the memory."""
    sink = keep(sink_factory(), *(letter(offset, value=b"x" * 100, key=None) for offset in range(5)))
    assert offsets(sink.letters.pending([P], 10, 0)) == [0]
    assert offsets(sink.letters.pending([P], 10, 250)) == [0, 1, 2]
    assert offsets(sink.letters.pending([P], 2, 250)) == [0, 1]


def test_a_reset_discards_what_is_read_again(sink_factory: SinkFactory) -> None:
    """From the new offset on, as far as it is open; else a record could be written and replayed as well."""
    sink = sink_factory()
    sink.claim({P: Position(0, "c", "id"), Q: Position(0, "c", "id")})
    keep(sink, letter(1), letter(2), letter(3, state=State.PUBLISHED), letter(4), letter(2, partition=Q[1]))
    settle(sink, replayed=[letter(4).coordinates])
    sink.reset({P: Position(2, "c", "id")})
    found = {(one.partition, one.offset): one.state for one in sink.letters.select(ALL, 100)}
    assert found == {
        (P[1], 1): State.PENDING,
        (P[1], 2): State.DISCARDED,
        (P[1], 3): State.DISCARDED,
        (P[1], 4): State.REPLAYED,
        (Q[1], 2): State.PENDING,
    }


def test_a_reset_into_another_topic_discards_nothing(sink_factory: SinkFactory) -> None:
    """What bears the same offsets there is another record."""
    sink = sink_factory()
    sink.claim({P: Position(9, "c", "id")})
    keep(sink, letter(1))
    sink.reset({P: Position(0, "c", "created anew")})
    assert states(sink) == {1: State.PENDING}


# Keeping


@pytest.mark.parametrize(
    "kept",
    [
        letter(0),
        letter(1, key=None, value=None, headers=None, timestamp=(0, -1)),
        letter(2, key=b"", value=b"", headers=[]),
        letter(3, key=bytes(range(256)), value=b"\0\xff" * 100_000),
        letter(4, headers=[("a", b"\0\xff"), ("a", None), ("", b""), ("b\0ß\"'\\", b"{}")]),
        letter(2**63 - 1, topic="a.b_c-" + "d" * 200, partition=2**31 - 1, timestamp=(2, 2**62)),
        letter(6, evidence=DECODE, state=State.KEPT, replay_count=7),
        letter(7, evidence=replace(CHECK, reason="ß☃\"'\\ \ufffd" * 100, table='se"l; --')),
        letter(8, first_failed_at=datetime.datetime(1, 1, 1, tzinfo=UTC)),
    ],
    ids=lambda kept: str(kept.offset),
)
def test_a_letter_reads_back_as_it_was(sink_factory: SinkFactory, kept: DeadLetter) -> None:
    """Every byte of key, value and headers, and all of the evidence, whatever they hold."""
    sink = keep(sink_factory(), kept)
    assert sink.letters.select(ALL, 10) == [kept]
    assert sink.letters.select(ALL, 10)[0].first_failed_at.utcoffset() == datetime.timedelta(0)


def test_letters_come_and_go_with_the_transaction(sink_factory: SinkFactory) -> None:
    """Nobody sees them before COMMIT, and a rollback leaves none."""
    sink, other = opened(sink_factory()), sink_factory(owner="b")
    sink.letters.keep([letter(1)])
    assert other.letters.select(ALL, 10) == []
    sink.rollback()
    assert other.letters.select(ALL, 10) == []
    keep(sink, letter(2))
    assert offsets(other.letters.select(ALL, 10)) == [2]


def test_a_refused_apply_leaves_the_letters(sink_factory: SinkFactory) -> None:
    """Whatever was refused before or after they were kept, they get in with what was written."""
    sink = opened(sink_factory())
    for number in range(3):
        with pytest.raises(RejectedError):
            sink.apply([group("item", "id amount", (number, -1))])
        sink.letters.keep([letter(number)])
    with pytest.raises(RejectedError):
        sink.apply([group("item", "id amount", (3, -1))])
    sink.apply([group("item", "id amount", (4, 1))])
    sink.commit({P: 5})
    assert offsets(sink.letters.select(ALL, 10)) == [0, 1, 2]
    assert by_id(sink_factory.rows("item"), "id") == [(4,)]


@pytest.mark.parametrize("call", ["keep", "lock", "settle"])
def test_what_belongs_to_a_transaction_is_refused_without_one(sink_factory: SinkFactory, call: str) -> None:
    """Nothing is changed outside of it."""
    sink = keep(sink_factory(), letter(1))
    arguments: dict[str, list[Any]] = {"keep": [[letter(2)]], "lock": [[]], "settle": [[letter(1).coordinates], {}]}
    with pytest.raises((UnavailableError, FatalError)):
        getattr(sink.letters, call)(*arguments[call])
    assert sink.letters.select(ALL, 10) == [letter(1)]


def test_a_record_that_was_read_again_takes_its_place(sink_factory: SinkFactory) -> None:
    """Of letters with the same coordinates only the last is there, whatever had become of the one before."""
    sink = keep(sink_factory(), letter(1, value=b"1"), letter(1, value=b"2"))
    assert sink.letters.select(ALL, 10) == [letter(1, value=b"2")]
    settle(sink, [letter(1).coordinates])
    keep(sink, letter(1, value=b"3", evidence=DECODE))
    assert sink.letters.select(ALL, 10) == [letter(1, value=b"3", evidence=DECODE)]
    sink.letters.published([letter(1).coordinates])
    keep(sink, letter(1, value=b"4"))
    assert sink.letters.pending([P], 10) == [letter(1, value=b"4")]


def test_many_letters_of_one_call_are_all_kept(sink_factory: SinkFactory) -> None:
    """None is forgotten or doubled; nothing to keep is no error."""
    many = [letter(number, headers=[("n", str(number).encode())]) for number in range(5000)]
    sink = keep(sink_factory(), *many)
    keep(sink)
    assert sink.letters.pending([P], 10_000) == many


def test_without_a_table_there_are_no_letters(sink_factory: SinkFactory) -> None:
    """Looking before anything ran is no error."""
    sink = sink_factory()
    assert sink.letters.select(ALL, 10) == sink.letters.tally(ALL) == sink.letters.pending([P], 10) == []
    assert sink.letters.discard(ALL) == sink.letters.count_pending([P]) == 0


# Publishing


def test_pending_ones_come_in_order_and_in_portions(sink_factory: SinkFactory) -> None:
    """Those of the asked partitions that are pending, by coordinates, no more than asked for; the count is of all."""
    letters = [letter(2), letter(1), letter(0, partition=1), letter(9, "other"), letter(3, state=State.KEPT)]
    sink = keep(sink_factory(), *letters)
    assert [each.coordinates for each in sink.letters.pending([Q, P], 10)] == [
        ("orders", 0, 1),
        ("orders", 0, 2),
        (*Q, 0),
    ]
    assert offsets(sink.letters.pending([Q, P], 2)) == [1, 2]
    assert offsets(sink.letters.pending([("other", 0)], 10)) == [9]
    assert sink.letters.pending([], 10) == sink.letters.pending([("none", 0)], 10) == []
    counts = [sink.letters.count_pending(keys) for keys in ([P], [P, Q], [("other", 0), Q], [], [("none", 0)])]
    assert counts == [2, 3, 2, 0, 0]


def test_published_ones_are_pending_no_longer(sink_factory: SinkFactory) -> None:
    """They stay, whole, as published; again changes nothing, and unknown ones are nobody's."""
    sink = keep(sink_factory(), letter(1), letter(2), letter(3))
    for _ in range(2):
        sink.letters.published([letter(3).coordinates, letter(1).coordinates, ("nowhere", 0, 1)])
    sink.letters.published([])
    assert sink.letters.pending([P], 10) == [letter(2)]
    published = {"state": State.PUBLISHED}
    assert sink.letters.select(ALL, 10) == [letter(1, **published), letter(2), letter(3, **published)]


def test_published_ones_can_be_emptied(sink_factory: SinkFactory) -> None:
    """Key, value and headers go, all else stays; only of those that were pending."""
    sink = keep(sink_factory(), letter(1, headers=[("a", b"b")]), letter(2, state=State.KEPT))
    sink.letters.published([letter(1).coordinates, letter(2).coordinates], empty=True)
    emptied = letter(1, key=None, value=None, headers=None, state=State.PUBLISHED)
    assert sink.letters.select(ALL, 10) == [emptied, letter(2, state=State.KEPT)]


@pytest.mark.parametrize("end", [State.REPLAYED, State.DISCARDED])
def test_publishing_never_brings_back_what_is_done_with(sink_factory: SinkFactory, end: State) -> None:
    """A receipt that comes after the replay or the discard changes nothing."""
    sink = keep(sink_factory(), letter(1))
    if end is State.REPLAYED:
        settle(sink, [letter(1).coordinates])
    else:
        sink.letters.discard(ALL)
    sink.letters.published([letter(1).coordinates], empty=True)
    assert sink.letters.select(ALL, 10) == [letter(1, state=end, replay_count=int(end is State.REPLAYED))]


# Replaying


def test_a_replay_settles_what_it_locked(sink_factory: SinkFactory) -> None:
    """What was written is done with, what failed again keeps its place and state with new evidence; both count one."""
    sink = keep(sink_factory(), letter(1), letter(2), letter(3, state=State.KEPT), letter(4))
    keys = [letter(number).coordinates for number in (3, 2, 1, 99)]
    assert opened(sink).letters.lock(keys) == set(keys[:3])
    sink.letters.settle([keys[1]], {keys[0]: DECODE, keys[2]: DECODE})
    sink.commit({})
    expected = [
        letter(1, evidence=DECODE, replay_count=1),
        letter(2, state=State.REPLAYED, replay_count=1),
        letter(3, evidence=DECODE, replay_count=1, state=State.KEPT),
        letter(4),
    ]
    assert sink.letters.select(ALL, 10) == expected
    assert sink.letters.select(Selection(stage="decode"), 10) == [expected[0], expected[2]]


def test_a_replay_that_is_rolled_back_was_none(sink_factory: SinkFactory) -> None:
    """Everything stands as before."""
    sink = keep(sink_factory(), letter(1), letter(2))
    opened(sink).letters.settle([letter(1).coordinates], {letter(2).coordinates: DECODE})
    sink.rollback()
    assert sink.letters.select(ALL, 10) == [letter(1), letter(2)]


@pytest.mark.parametrize("end", [State.REPLAYED, State.DISCARDED])
def test_what_is_done_with_is_not_replayed_again(sink_factory: SinkFactory, end: State) -> None:
    """It cannot be locked, and settling it changes nothing."""
    sink = keep(sink_factory(), letter(1, state=end), letter(2, state=end))
    assert opened(sink).letters.lock([letter(1).coordinates]) == set()
    sink.letters.settle([letter(1).coordinates], {letter(2).coordinates: DECODE})
    sink.commit({})
    assert sink.letters.select(ALL, 10) == [letter(1, state=end), letter(2, state=end)]


def test_what_one_replay_has_another_does_not_get(sink_factory: SinkFactory) -> None:
    """Who wants what another has locked waits for the end of its transaction, or is unavailable until then."""
    first, second = keep(sink_factory(), letter(1), letter(2)), sink_factory(owner="b")
    keys = [letter(1).coordinates, letter(2).coordinates]
    locked: list[set[Coordinates]] = []

    def lock() -> None:
        while not locked:
            with suppress(UnavailableError):
                second.begin({})
                locked.append(second.letters.lock(keys))
        second.rollback()

    opened(first).letters.lock(keys)
    thread = threading.Thread(target=lock)
    thread.start()
    first.letters.settle(keys[:1], {})
    assert not locked
    first.commit({})
    thread.join()
    assert locked == [set(keys[1:])]


# Looking, and giving up


LETTERS = [
    letter(0),
    letter(1, evidence=DECODE),
    letter(2, partition=1, state=State.KEPT, evidence=replace(CHECK, table="pair", constraint="other")),
    letter(3, "other", state=State.PUBLISHED, evidence=replace(CHECK, sqlstate="23505")),
    letter(4, state=State.REPLAYED),
    letter(5, state=State.DISCARDED),
    letter(6, first_failed_at=NOON + datetime.timedelta(microseconds=1)),
]
HOUR = datetime.timedelta(hours=1)


@pytest.mark.parametrize(
    ("which", "found"),
    [
        (Selection(), [0, 1, 6, 2, 3]),
        (ALL, [0, 1, 4, 5, 6, 2, 3]),
        (Selection(states=(State.REPLAYED, State.PENDING)), [0, 1, 4, 6]),
        (Selection(states=()), []),
        (Selection(topic="other"), [3]),
        (Selection(topic="orders", partition=1), [2]),
        (Selection(partition=0), [0, 1, 6, 3]),
        (Selection(stage="decode"), [1]),
        (Selection(reason="NOT json"), [1]),
        (Selection(reason="violation"), [0, 6, 2, 3]),
        (Selection(reason="%"), []),
        (Selection(sqlstate="23514"), [0, 6, 2]),
        (Selection(table="item", constraint="item_check"), [0, 6, 3]),
        (Selection(constraint="other"), [2]),
        (Selection(since=NOON + datetime.timedelta(microseconds=1)), [6]),
        (Selection(until=NOON + datetime.timedelta(microseconds=1)), [0, 1, 2, 3]),
        (Selection(since=NOON.astimezone(datetime.timezone(HOUR)), until=NOON + HOUR), [0, 1, 6, 2, 3]),
        (Selection(coordinates=(("other", 0, 3), ("orders", 0, 0), ("orders", 0, 4), ("x", 1, 1))), [0, 3]),
        (Selection(coordinates=()), []),
    ],
    ids=lambda value: None if isinstance(value, list) else repr(value)[:60],
)
def test_a_selection_finds_those_for_which_all_holds(
    sink_factory: SinkFactory, which: Selection, found: list[int]
) -> None:
    """By coordinates; what is tallied and discarded are the same ones, as far as they are open."""
    sink = keep(sink_factory(), *LETTERS)
    assert offsets(sink.letters.select(which, 100)) == found
    assert sum(each.count for each in sink.letters.tally(which)) == len(found)
    before = states(sink)
    given_up = {offset for offset in found if before[offset] in OPEN}
    assert sink.letters.discard(which) == len(given_up)
    assert states(sink) == before | dict.fromkeys(given_up, State.DISCARDED)


def test_a_selection_is_read_in_portions(sink_factory: SinkFactory) -> None:
    """Each goes on after the last one, over partitions and topics, until nothing is left."""
    sink = keep(sink_factory(), *(letter(number, f"t{number % 3}", number % 2) for number in range(12)))
    found: list[Coordinates] = []
    while portion := sink.letters.select(ALL, 5, after=found[-1] if found else None):
        assert len(portion) <= 5
        found += [each.coordinates for each in portion]
    assert found == sorted((f"t{number % 3}", number % 2, number) for number in range(12))


def test_a_tally_counts_the_alike_most_first(sink_factory: SinkFactory) -> None:
    """By topic, state, stage, error, SQLSTATE, table and constraint, with the first and the last time of each kind."""
    sink = keep(sink_factory(), *LETTERS)
    first, *rest = sink.letters.tally(Selection())
    assert (first.count, first.topic, first.state, first.stage) == (2, "orders", State.PENDING, "write")
    assert (first.error, first.sqlstate, first.table, first.constraint) == (
        "RejectedError",
        "23514",
        "item",
        "item_check",
    )
    assert (first.first, first.last) == (NOON, NOON + datetime.timedelta(microseconds=1))
    assert [each.count for each in rest] == [1, 1, 1]
    (decoded,) = (each for each in rest if each.stage == "decode")
    assert (decoded.sqlstate, decoded.table, decoded.constraint) == (None, None, None)


def test_other_groups_have_their_own(sink_factory: SinkFactory) -> None:
    """Nothing of one is seen or changed by another."""
    mine, theirs = keep(sink_factory(), letter(1)), keep(sink_factory(group="other"), letter(1), letter(2))
    mine.letters.published([letter(1).coordinates, letter(2).coordinates])
    assert theirs.letters.pending([P], 10) == [letter(1), letter(2)]
    assert mine.letters.discard(ALL) == 1
    assert offsets(mine.letters.select(ALL, 10)) == [1]
    assert theirs.letters.count_pending([P]) == 2

"""What every sink's isolation must do: exactly the records at fault are found, and all others written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from consumer.errors import RejectedError, UnavailableError
from consumer.sinks import Isolated, Sink
from consumer.table import TableRows, Target
from tests.sinks import (
    DELETE,
    EVENT,
    INCREMENT,
    ITEM,
    PAIR,
    START,
    UPSERT,
    VERSIONED,
    P,
    SinkFactory,
    by_id,
    fences,
    group,
    opened,
    write,
)

Row = tuple[Any, ...]


def isolate(sink: Sink, *groups: TableRows, patience: int | None = None) -> Isolated:
    """As the writer does it: only after `apply` refused the same rows."""
    with pytest.raises(RejectedError):
        sink.apply(groups)
    return sink.isolate(groups, patience)


def isolated(sink: Sink, *groups: TableRows) -> list[int]:
    """In a transaction of its own, committed. Returns the ordinals of the records at fault."""
    found = isolate(opened(sink), *groups)
    sink.commit({})
    assert found.finished
    return [failure.ordinal for failure in found.failures]


def items(*amounts: int) -> TableRows:
    """Records with one item each, at fault where the amount is negative."""
    return group("item", "id amount", *enumerate(amounts))


# Which records are found


@pytest.mark.parametrize("count", [1, 2, 3, 8, 33])
@pytest.mark.parametrize(
    "is_bad",
    [
        lambda number, count: number == 0,
        lambda number, count: number == count - 1,
        lambda number, count: number == count // 2,
        lambda number, count: number in {0, count - 1},
        lambda number, count: number % 2 == 0,
        lambda number, count: number >= count // 2,
        lambda number, count: number < count - 1,
        lambda number, count: True,
    ],
    ids=["first", "last", "middle", "ends", "alternating", "second half", "all but the last", "all"],
)
@pytest.mark.parametrize("target", [ITEM, UPSERT, INCREMENT], ids=lambda target: target.mode)
def test_exactly_the_bad_ones_are_found(
    sink_factory: SinkFactory, target: Target, is_bad: Callable[[int, int], bool], count: int
) -> None:
    """Wherever they are and however many; the others are all written."""
    bad = [number for number in range(count) if is_bad(number, count)]
    if not bad:
        bad = [0]
    rows = items(*(-1 if number in bad else number for number in range(count)))
    assert isolated(sink_factory(target), rows) == bad
    good = [(number, number) for number in range(count) if number not in bad]
    assert by_id(sink_factory.rows("item"), "id", "amount") == good


@pytest.mark.parametrize(
    ("columns", "rows", "bad"),
    [
        ("id amount", [(1, 1), (2, -1), (3, 1)], [1]),
        ("id amount", [(1, 1), (2, None), (3, 1)], [1]),
        ("id amount", [(1, 1), (2, 2**63), (3, 1)], [1]),
        ("id amount", [(1, 1), (2, "x"), (3, 1)], [1]),
        ("id name", [(1, "a"), (2, "a\0b"), (3, "b\ud800")], [1, 2]),
        ("id name", [(1, "a"), (2, {"a": 1}), (3, "ß")], [1]),
        ("id name", [(1, "a"), (1, "b"), (2, "c"), (1, "d"), (2, "e")], [1, 3, 4]),
        ("id name", [(1, "a"), (77, "b"), (2, "c"), (78, "d")], [1, 3]),
        ("id name amount", [(77, "a", -1), (1, "b\0", None), (2, "c", 1), (2, "d", 2**70)], [0, 1, 3]),
    ],
    ids=["check", "null", "range", "type", "text", "object", "unique in the batch", "unique in the table", "all kinds"],
)
def test_every_kind_of_fault_is_found(
    sink_factory: SinkFactory, columns: str, rows: Sequence[Row], bad: list[int]
) -> None:
    """What the database refuses, and what the client cannot even send; each failure says where and why, no values."""
    write(sink_factory(), group("item", "id", (77,), (78,)))
    sink = opened(sink_factory())
    found = isolate(sink, group("item", columns, *rows))
    sink.commit({})
    assert [failure.ordinal for failure in found.failures] == bad
    for failure in found.failures:
        assert isinstance(failure.error, RejectedError)
        assert failure.error.table == "item"
        assert failure.error.reason
    expected = sorted([(77,), (78,), *(row[:1] for number, row in enumerate(rows) if number not in bad)])
    assert by_id(sink_factory.rows("item"), "id") == expected


def test_a_foreign_key_blames_the_record_that_refers(sink_factory: SinkFactory) -> None:
    """Those whose parent is there, before or by the same batch, are written."""
    if not sink_factory.database.refers:
        pytest.skip("this database has no foreign keys")
    write(sink_factory(), group("item", "id", (1,), (2,)))
    sink = sink_factory(ITEM, Target("part"))
    rows = TableRows("part", ("id", "item"), [(1, 1), (2, 9), (3, 3), (4, None), (5, 8)], [0, 1, 3, 4, 5])
    assert isolated(sink, TableRows("item", ("id",), [(3,)], [2]), rows) == [1, 5]
    assert by_id(sink_factory.rows("part"), "id") == [(1,), (3,), (4,)]


def test_a_deferred_foreign_key_blames_the_record_that_refers(sink_factory: SinkFactory) -> None:
    """What the database would refuse only at COMMIT is found too, and COMMIT works."""
    if not sink_factory.database.refers:
        pytest.skip("this database has no foreign keys")
    write(sink_factory(), group("item", "id", (1,)))
    sink = sink_factory(ITEM, Target("child"))
    rows = TableRows("child", ("id", "item"), [(1, 1), (2, 9), (3, 3), (4, 1), (5, 8)], [0, 1, 3, 4, 5])
    assert isolated(sink, TableRows("item", ("id",), [(3,)], [2]), rows) == [1, 5]
    assert by_id(sink_factory.rows("child")) == [(1, 1), (3, 3), (4, 1)]


@pytest.mark.parametrize("table", ["part", "child"])
def test_a_delete_of_what_others_refer_to_is_at_fault(sink_factory: SinkFactory, table: str) -> None:
    """The parent stays where a child of it is there, whether that is checked at once or at COMMIT."""
    if not sink_factory.database.refers:
        pytest.skip("this database has no foreign keys")
    sink = sink_factory(ITEM, Target(table))
    write(sink, group("item", "id", (1,), (2,), (3,)), group(table, "id item", (1, 2)))
    sink = sink_factory(DELETE, Target(table))
    assert isolated(sink, group("item", "id", (1,), (2,), (3,))) == [1]
    assert by_id(sink_factory.rows("item"), "id") == [(2,)]


# Records with several rows


def test_a_record_is_written_whole_or_not_at_all(sink_factory: SinkFactory) -> None:
    """All its rows, in all tables, leave with the one that is refused; so do none of another record."""
    events = TableRows("event", ("id", "body"), [(0, "a"), (0, "b"), (1, "a"), (2, "a"), (2, "b")], [0, 0, 1, 2, 2])
    rows = TableRows("item", ("id", "amount"), [(0, 1), (1, -1), (1, 1), (3, 1), (4, -1), (5, 1)], [0, 1, 1, 3, 5, 5])
    assert isolated(sink_factory(), events, rows) == [1, 5]
    assert by_id(sink_factory.rows("event")) == [(0, "a"), (0, "b"), (2, "a"), (2, "b")]
    assert by_id(sink_factory.rows("item"), "id") == [(0,), (3,)]


def test_rows_of_several_shapes_are_isolated_together(sink_factory: SinkFactory) -> None:
    """A table may come in several groups of columns, which belong to the same records or to others."""
    groups = [
        TableRows("item", ("id", "amount"), [(1, 1), (2, -1), (3, 1)], [0, 2, 4]),
        TableRows("item", ("id", "name"), [(4, "a"), (5, "b"), (3, "c")], [1, 2, 3]),
    ]
    assert isolated(sink_factory(UPSERT), *groups) == [2]
    assert by_id(sink_factory.rows("item"), "id") == [(1,), (3,), (4,)]


def test_insert_keeps_the_order_of_records(sink_factory: SinkFactory) -> None:
    """Rows of a table without a key lie as they would without the bad ones."""
    sink = sink_factory()
    events = group("event", "id body", *((number, str(number)) for number in range(20)))
    assert isolated(sink, events, items(*(-1 if number in {3, 4, 11} else 0 for number in range(20)))) == [3, 4, 11]
    found = [row["id"] for row in sink_factory.rows("event")]
    assert found == [number for number in range(20) if number not in {3, 4, 11}]


# Modes that fold


def test_a_bad_last_one_leaves_the_one_before(sink_factory: SinkFactory) -> None:
    """Of an upserted key the last good record wins, also over the table."""
    sink = sink_factory(UPSERT)
    write(sink, group("item", "id name amount", (1, "old", 1), (2, "old", 1)))
    rows = [(1, "first", 2), (2, "bad", -1), (1, "second", 3), (1, "bad", -1), (3, "new", 1)]
    assert isolated(sink, group("item", "id name amount", *rows)) == [1, 3]
    assert by_id(sink_factory.rows("item"), "id", "name", "amount") == [(1, "second", 3), (2, "old", 1), (3, "new", 1)]


def test_a_version_counts_among_the_good_ones(sink_factory: SinkFactory) -> None:
    """A newer one that is at fault does not keep an older one out."""
    rows = [(1, "one", 1, 1), (1, "nine", -1, 9), (1, "two", 2, 2), (1, "none", 1, None)]
    assert isolated(sink_factory(VERSIONED), group("item", "id name amount version", *rows)) == [1, 3]
    assert by_id(sink_factory.rows("item"), "id", "name", "version") == [(1, "two", 2)]


def test_of_a_sum_only_the_one_at_fault_leaves(sink_factory: SinkFactory) -> None:
    """What cannot be added is left out of the sum; all else of its key is in it."""
    sink = sink_factory(PAIR)
    write(sink, group("pair", "a b total rate", (1, "x", 100, 1.0)))
    rows = [(1, "x", 1, 0.5), (1, "x", None, 0.5), (1, "x", 2, 0.5), (2, "y", 3, 0.5), (1, "x", 2**70, 0.5)]
    assert isolated(sink, group("pair", "a b total rate", *rows, (1, "x", 4, 0.5))) == [1, 4]
    assert by_id(sink_factory.rows("pair"), "a", "b", "total", "rate") == [(1, "x", 107, 2.5), (2, "y", 3, 0.5)]


def test_a_sum_that_the_table_cannot_bear_loses_what_is_too_much(sink_factory: SinkFactory) -> None:
    """The decrement that goes below zero leaves; those that the row can bear are in."""
    sink = sink_factory(INCREMENT)
    write(sink, items(5, 5))
    assert isolated(sink, group("item", "id amount", (0, -4), (0, -3), (1, -5), (0, -1))) == [1]
    assert by_id(sink_factory.rows("item"), "id", "amount") == [(0, 0), (1, 0)]


def test_a_batch_is_judged_by_its_net_effect(sink_factory: SinkFactory) -> None:
    """What passes as part of a whole is not at fault because a record far from it is."""
    sink = sink_factory(INCREMENT)
    write(sink, items(1))
    rows = [(0, -1), (0, -1), (0, 1), *((number, 1) for number in range(100, 160)), (99, -1)]
    assert isolated(sink, group("item", "id amount", *rows)) == [63]
    assert (0, 0) in by_id(sink_factory.rows("item"), "id", "amount")


def test_deletes_among_upserts_are_isolated_in_order(sink_factory: SinkFactory) -> None:
    """A bad row neither undoes the delete before it nor keeps out the row after it."""
    sink = sink_factory(UPSERT)
    write(sink, group("item", "id name amount", (1, "old", 1), (2, "old", 1), (3, "old", 1)))
    rows = [(1, None, None), (1, "bad", -1), (2, None, None), (2, "new", 2), (2, "bad", -1), (None, None, None)]
    deletes = [True, False, True, False, False, True]
    assert isolated(sink, group("item", "id name amount", *rows, deletes=deletes)) == [1, 4, 5]
    assert by_id(sink_factory.rows("item"), "id", "name") == [(2, "new"), (3, "old")]


def test_a_delete_without_its_key_is_at_fault(sink_factory: SinkFactory) -> None:
    """The other deletes take place."""
    write(sink_factory(), group("item", "id", (1,), (2,), (3,)))
    assert isolated(sink_factory(DELETE), group("item", "id", (1,), (None,), (3,))) == [1]
    assert by_id(sink_factory.rows("item"), "id") == [(2,)]


# The transaction


def test_what_was_applied_before_stays(sink_factory: SinkFactory) -> None:
    """Isolation is part of the transaction: earlier and later rows and the offsets are committed with what it wrote."""
    sink = opened(sink_factory())
    sink.apply([group("event", "id body", (1, "before"))])
    assert [failure.ordinal for failure in isolate(sink, items(1, -1, 1)).failures] == [1]
    sink.apply([group("event", "id body", (2, "after"))])
    with pytest.raises(RejectedError):
        sink.apply([group("item", "id amount", (9, -1))])
    assert [failure.ordinal for failure in isolate(sink, group("item", "id amount", (0, 1), (5, 1))).failures] == [0]
    assert sink_factory.rows("item") == []
    sink.commit({P: 7})
    assert by_id(sink_factory.rows("event"), "body") == [("after",), ("before",)]
    assert by_id(sink_factory.rows("item"), "id") == [(0,), (2,), (5,)]
    assert sink.offsets()[P].position.next_offset == 7


def test_a_rollback_takes_all_of_it_back(sink_factory: SinkFactory) -> None:
    """Nothing of the good ones stays either, and the same can be isolated again."""
    sink = sink_factory()
    for _ in range(2):
        isolate(opened(sink), items(1, -1, 1))
        sink.rollback()
        assert sink_factory.rows("item") == []


def test_isolation_after_the_end_of_a_transaction_is_refused(sink_factory: SinkFactory) -> None:
    """An interrupt ends it: nothing gets in, and nothing is said of the records."""
    sink = opened(sink_factory())
    with pytest.raises(RejectedError):
        sink.apply([items(1, -1)])
    sink.interrupt()
    with pytest.raises(UnavailableError):
        sink.isolate([items(1, -1)])
    assert sink_factory.rows("item") == []


def test_ordinals_need_not_be_close(sink_factory: SinkFactory) -> None:
    """Records without rows are none of its business."""
    rows = TableRows("item", ("id", "amount"), [(1, 1), (2, -1), (3, -1), (4, 1)], [7, 1000, 5000, 1_000_000])
    assert isolated(sink_factory(), rows) == [1000, 5000]
    assert by_id(sink_factory.rows("item"), "id") == [(1,), (4,)]


@pytest.mark.parametrize("exactly_once", [True, False])
def test_many_records_are_isolated(sink_factory: SinkFactory, exactly_once: bool) -> None:
    """A batch of usual size, with one bad record in a hundred, with offsets and without."""
    sink = sink_factory(exactly_once=exactly_once)
    bad = list(range(17, 3000, 100))
    sink.begin(fences(sink.claim({P: START})))
    found = isolate(sink, items(*(-1 if number in bad else 1 for number in range(3000))))
    sink.commit({P: 3000})
    assert [failure.ordinal for failure in found.failures] == bad
    assert len(sink_factory.rows("item")) == 3000 - len(bad)


# Patience


@pytest.mark.parametrize(
    ("patience", "bad", "finished"),
    [
        (None, range(20), True),
        (0, [13], False),
        (2, [0, 1, 4, 5, 18, 19], True),
        (2, [3, 7, 8, 9], False),
        (2, [17, 18, 19], False),
        (3, [17, 18, 19], True),
        (19, range(20), False),
        (20, range(20), True),
    ],
)
def test_it_gives_up_when_too_many_in_a_row_are_at_fault(
    sink_factory: SinkFactory, patience: int | None, bad: Sequence[int], finished: bool
) -> None:
    """One more than `patience` without a good one between them ends it; fewer, however often, do not."""
    sink = opened(sink_factory())
    rows = [(number, -1 if number in bad else 1) for number in range(20)]
    found = isolate(
        sink, TableRows("item", ("id", "amount"), rows, [2 * number for number in range(20)]), patience=patience
    )
    assert found.finished is finished
    ordinals = [failure.ordinal for failure in found.failures]
    if finished:
        assert ordinals == [2 * number for number in bad]
    else:
        assert patience is not None
        assert len(ordinals) > patience
        assert set(ordinals) <= {2 * number for number in bad}
    sink.rollback()
    assert sink_factory.rows("item") == []


def test_patience_counts_anew_after_a_good_one_of_another_table(sink_factory: SinkFactory) -> None:
    """Any written record ends a row of bad ones."""
    rows = TableRows("item", ("id", "amount"), [(0, -1), (1, -1), (3, -1), (4, -1)], [0, 1, 3, 4])
    found = isolate(opened(sink_factory(ITEM, EVENT)), rows, TableRows("event", ("id",), [(2,)], [2]), patience=2)
    assert found.finished
    assert [failure.ordinal for failure in found.failures] == [0, 1, 3, 4]


def test_a_table_that_is_not_configured_is_isolated(sink_factory: SinkFactory) -> None:
    """It is inserted into, as `apply` does."""
    sink = sink_factory(EVENT)
    assert isolated(sink, items(1, -1, 2)) == [1]
    assert by_id(sink_factory.rows("item"), "id") == [(0,), (2,)]

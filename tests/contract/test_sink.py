"""What every sink must do, the fake as well as the real ones. A new one joins with a line in `databases.DATABASES`."""

from __future__ import annotations

import datetime
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from consumer.errors import FatalError, FencedError, RejectedError, UnavailableError
from consumer.sinks import Claim, Fence, Position, Sink
from consumer.table import Kind, Mode, TableRows, Target
from tests.databases import HOSTILE
from tests.sinks import (
    DELETE,
    INCREMENT,
    ITEM,
    PAIR,
    START,
    UPSERT,
    VERSIONED,
    P,
    Q,
    SinkFactory,
    by_id,
    fences,
    group,
    opened,
    write,
)


def advice(sink: Sink, *tables: str) -> list[str]:
    """What `check` says, but for the tests' own server, which is made unsafe for speed."""
    return [sentence for sentence in sink.check(tables) if not sentence.startswith("fsync is off")]


# Tables


def test_a_missing_table_is_fatal(sink_factory: SinkFactory) -> None:
    """Describing a table that is not there stops the daemon, and the error names it."""
    with pytest.raises(FatalError, match="nowhere"):
        sink_factory().describe("nowhere")


def test_a_table_is_described(sink_factory: SinkFactory) -> None:
    """Columns come in the table's order with kind, nullability and default; the primary key is the first key."""
    table = sink_factory().describe("item")
    assert list(table.columns) == ["id", "name", "amount", "version"]
    assert table.keys[0] == ("id",)
    assert [column.kind for column in table.columns.values()] == [Kind.INTEGER, Kind.TEXT, Kind.INTEGER, Kind.INTEGER]
    assert [column.nullable for column in table.columns.values()] == [False, True, False, True]
    assert [column.has_default for column in table.columns.values()] == [False, False, True, False]
    assert all(column.writable for column in table.columns.values())


def test_a_unique_constraint_is_a_key(sink_factory: SinkFactory) -> None:
    """A key of several columns that is not primary is found, and a table without keys has none."""
    sink = sink_factory()
    assert sink.describe("pair").keys == (("a", "b"),)
    assert sink.describe("event").keys == ()


def test_kinds_are_what_the_columns_hold(sink_factory: SinkFactory) -> None:
    """Every type of the schema is told apart."""
    columns = sink_factory().describe("kinds").columns
    expected = {
        "truth": Kind.BOOLEAN,
        "small": Kind.INTEGER,
        "real": Kind.FLOAT,
        "exact": Kind.DECIMAL,
        "words": Kind.TEXT,
        "bytes": Kind.BYTES,
        "day": Kind.DATE,
        "hour": Kind.TIME,
        "moment": Kind.TIMESTAMPTZ,
        "uuid": Kind.UUID,
        "json": Kind.JSON,
    }
    assert {name: column.kind for name, column in columns.items() if name in expected} == expected
    assert (columns["small"].minimum, columns["small"].maximum) == (-(2**63), 2**63 - 1)


def test_check_finds_nothing_in_a_sound_set_up(sink_factory: SinkFactory) -> None:
    """A set-up that works is not complained about."""
    assert advice(sink_factory(Target("event"), PAIR), "event", "pair") == []


def test_check_names_what_is_wrong(sink_factory: SinkFactory) -> None:
    """A missing table and a key that is not unique are each told in a sentence."""
    sink = sink_factory(Target("nowhere"), Target("pair", Mode.UPSERT, key=("a",)))
    found = sink.check(["nowhere", "pair"])
    assert any("nowhere" in sentence for sentence in found)
    assert any("pair" in sentence and "unique" in sentence for sentence in found)


# Claims and fences


def test_a_claim_stores_the_start_and_then_keeps_what_is_stored(sink_factory: SinkFactory) -> None:
    """A new partition starts where the caller says; a known one where the database says, under a higher epoch."""
    sink = sink_factory()
    first = sink.claim({P: Position(5, "c", "t")})[P]
    second = sink.claim({P: Position(9, "other", "other"), Q: START})
    assert first.position == second[P].position == Position(5, "c", "t")
    assert second[P].epoch > first.epoch
    assert second[Q].position == START


def test_first_claims_at_once_all_succeed(sink_factory: SinkFactory) -> None:
    """Whoever makes the tables, the others find them, or are unavailable until they are made."""
    for _ in range(5):
        sinks = [sink_factory(owner=str(number), group=str(number)) for number in range(6)]
        ready = threading.Barrier(len(sinks))

        def claim(sink: Sink, ready: threading.Barrier = ready) -> dict[tuple[str, int], Claim]:
            sink.offsets()  # connects
            ready.wait()
            while True:
                with suppress(UnavailableError):
                    return sink.claim({P: START})

        with ThreadPoolExecutor(len(sinks)) as pool:
            assert list(pool.map(claim, sinks)) == [{P: Claim(1, START)}] * len(sinks)
        sink_factory.close()
        sink_factory.database.clear()


def test_a_later_claim_fences_the_earlier(sink_factory: SinkFactory) -> None:
    """Who claimed first is refused at begin, and has no transaction then."""
    first, second = sink_factory(owner="a"), sink_factory(owner="b")
    mine = fences(first.claim({P: START}))
    theirs = fences(second.claim({P: START}))
    with pytest.raises(FencedError):
        first.begin(mine)
    second.begin(theirs)
    second.commit({P: 1})


def test_fencing_names_exactly_the_partitions_that_differ(sink_factory: SinkFactory) -> None:
    """Of several partitions only those with another epoch or offset are named; the rest can be begun at once."""
    first, second = sink_factory(owner="a"), sink_factory(owner="b")
    mine = fences(first.claim({P: START, Q: START, ("other", 0): START}))
    second.claim({P: START})
    wrong = mine | {("other", 0): Fence(mine["other", 0].epoch, 3)}
    with pytest.raises(FencedError) as raised:
        first.begin(wrong)
    assert raised.value.partitions == {P, ("other", 0)}
    first.begin({Q: mine[Q]})
    first.commit({Q: 1})
    assert first.offsets()[Q].position.next_offset == 1


def test_an_unclaimed_partition_is_fenced(sink_factory: SinkFactory) -> None:
    """Without a row of its own nothing can be begun."""
    sink = sink_factory()
    sink.claim({P: START})
    with pytest.raises(FencedError) as raised:
        sink.begin({Q: Fence(1, 0)})
    assert raised.value.partitions == {Q}


def test_confirm_answers_only_what_is_still_ours(sink_factory: SinkFactory) -> None:
    """A partition that somebody else claimed is missing; ours comes with the committed next offset."""
    first, second = sink_factory(owner="a"), sink_factory(owner="b")
    mine = fences(first.claim({P: START, Q: START}))
    first.begin(mine)
    first.commit({P: 4, Q: 7})
    second.claim({Q: START})
    ours = first.confirm(mine)
    assert ours == first.confirm(mine) == {P: Fence(mine[P].epoch, 4)}
    first.begin(ours)
    first.rollback()


def test_a_claim_and_an_open_transaction_never_both_win(sink_factory: SinkFactory) -> None:
    """While the former owner is in a transaction, either the claim is unavailable or that transaction is lost."""
    first, second = sink_factory(owner="a"), sink_factory(owner="b")
    mine = fences(first.claim({P: START}))
    first.begin(mine)
    first.apply([group("event", "id body", (1, "zombie"))])
    try:
        claims = second.claim({P: START})
    except UnavailableError:
        first.rollback()
        claims = second.claim({P: START})
    else:
        with pytest.raises(UnavailableError):
            first.commit({P: 1})
    assert claims[P].position == START
    with pytest.raises(FencedError):
        first.begin(mine)
    assert sink_factory.rows("event") == []


def test_a_reset_moves_the_offset_and_fences(sink_factory: SinkFactory) -> None:
    """After a reset, back or forth, the running owner is fenced, and the next claim starts there."""
    sink, admin = sink_factory(), sink_factory(owner="admin")
    mine = fences(sink.claim({P: Position(8, "c", "t")}))
    admin.reset({P: Position(3, "c2", "t2"), Q: Position(1, "c", "t")})
    with pytest.raises(FencedError):
        sink.begin(mine)
    claims = sink.claim({P: START, Q: START})
    assert (claims[P].position, claims[Q].position) == (Position(3, "c2", "t2"), Position(1, "c", "t"))


def test_offsets_shows_what_is_stored(sink_factory: SinkFactory) -> None:
    """Position, epoch, owner and time of each partition; nothing before the first claim."""
    sink = sink_factory(owner="somebody")
    assert sink.offsets() == {}
    claim = sink.claim({P: Position(2, "c", "t")})[P]
    stored = sink.offsets()[P]
    assert (stored.position, stored.epoch, stored.owner) == (claim.position, claim.epoch, "somebody")
    assert datetime.datetime.fromisoformat(stored.updated_at).utcoffset() == datetime.timedelta(0)


# Transactions


def test_rows_and_offsets_are_seen_together(sink_factory: SinkFactory) -> None:
    """Before COMMIT nobody sees either; after it, both."""
    sink, other = opened(sink_factory()), sink_factory(owner="b")
    sink.apply([group("event", "id body", (1, "x"))])
    assert sink_factory.rows("event") == []
    assert other.offsets()[P].position.next_offset == 0
    sink.commit({P: 1})
    assert by_id(sink_factory.rows("event")) == [(1, "x")]
    assert other.offsets()[P].position.next_offset == 1


def test_a_transaction_in_one_call(sink_factory: SinkFactory) -> None:
    """Rows of several tables and the offsets are in, batch after batch, and it is told when the rows were sent."""
    sink, told = sink_factory(), list[str]()
    fence = fences(sink.claim({P: START}))[P]
    for number in range(3):
        groups = [group("event", "id body", (number, "x")), group("item", "id name", (number, "y"))]
        at = replace(fence, next_offset=number)
        seconds = sink.transact({P: at}, groups, {P: number + 1}, lambda: told.append("sent"))
        assert 0 <= seconds < 10
        assert told
    assert by_id(sink_factory.rows("event")) == [(0, "x"), (1, "x"), (2, "x")]
    assert by_id(sink_factory.rows("item"), "id", "name") == [(0, "y"), (1, "y"), (2, "y")]
    assert sink.offsets()[P].position.next_offset == 3


def test_a_transaction_in_one_call_may_have_no_rows(sink_factory: SinkFactory) -> None:
    """A batch of which everything was filtered moves the offset."""
    sink = sink_factory()
    sink.transact(fences(sink.claim({P: START})), [], {P: 10}, lambda: None)
    assert sink.offsets()[P].position.next_offset == 10


def test_a_fenced_transaction_in_one_call_writes_nothing(sink_factory: SinkFactory) -> None:
    """By another epoch or offset, which are named; and what is still ours can be written at once."""
    first, second = sink_factory(owner="a"), sink_factory(owner="b")
    mine = fences(first.claim({P: START, Q: START, ("other", 0): START}))
    rows = [group("event", "id body", (1, "zombie"))]
    second.claim({P: START})
    wrong = mine | {("other", 0): Fence(mine["other", 0].epoch, 3)}
    for _ in range(2):
        with pytest.raises(FencedError) as raised:
            first.transact(wrong, rows, {P: 1, Q: 1, ("other", 0): 4}, lambda: None)
        assert raised.value.partitions == {P, ("other", 0)}
    assert sink_factory.rows("event") == []
    first.transact({Q: mine[Q]}, [group("event", "id body", (2, "x"))], {Q: 1}, lambda: None)
    assert by_id(sink_factory.rows("event")) == [(2, "x")]
    assert {key: row.position.next_offset for key, row in first.offsets().items()} == {P: 0, Q: 1, ("other", 0): 0}


@pytest.mark.parametrize("target", [ITEM, UPSERT])
def test_a_refused_transaction_in_one_call_goes_on_to_isolation(sink_factory: SinkFactory, target: Target) -> None:
    """Nothing of it is seen, and it is open: the records that are not at fault get in with the offsets."""
    sink = sink_factory(target, Target("event"))
    mine = fences(sink.claim({P: START}))
    rows = [group("event", "id body", (1, "x"), (2, "y")), group("item", "id amount", (1, 1), (2, -1))]
    with pytest.raises(RejectedError) as raised:
        sink.transact(mine, rows, {P: 2}, lambda: None)
    assert raised.value.table == "item"
    assert sink_factory.rows("event") == sink_factory.rows("item") == []
    assert [failure.ordinal for failure in sink.isolate(rows).failures] == [1]
    sink.commit({P: 2})
    assert by_id(sink_factory.rows("event")) == [(1, "x")]
    assert by_id(sink_factory.rows("item"), "id", "amount") == [(1, 1)]
    assert sink.offsets()[P].position.next_offset == 2


@pytest.mark.parametrize("end", ["rollback", "close"])
def test_without_commit_nothing_stays(sink_factory: SinkFactory, end: str) -> None:
    """A rollback, or the end of the connection, leaves no trace, and the fence still holds."""
    sink = sink_factory()
    mine = fences(sink.claim({P: START}))
    sink.begin(mine)
    sink.apply([group("event", "id body", (1, "x"))])
    getattr(sink, end)()
    assert sink_factory.rows("event") == []
    sink.begin(mine)
    sink.apply([group("event", "id body", (2, "y"))])
    sink.commit({P: 2})
    assert by_id(sink_factory.rows("event")) == [(2, "y")]


def test_the_next_offset_advances_without_rows(sink_factory: SinkFactory) -> None:
    """A batch of which everything was filtered moves the offset."""
    sink = opened(sink_factory())
    sink.apply([])
    sink.commit({P: 10})
    assert sink.offsets()[P].position == Position(10, "cluster", "topic")


def test_a_transaction_can_commit_some_of_its_partitions(sink_factory: SinkFactory) -> None:
    """Partitions that commit does not name stay where they are."""
    sink = sink_factory()
    sink.begin(fences(sink.claim({P: START, Q: START})))
    sink.commit({Q: 3})
    assert {key: row.position.next_offset for key, row in sink.offsets().items()} == {P: 0, Q: 3}


def test_apply_after_the_end_of_a_transaction_is_refused(sink_factory: SinkFactory) -> None:
    """Rows never get in outside a transaction."""
    sink = opened(sink_factory())
    sink.rollback()
    with pytest.raises((UnavailableError, FatalError)):
        sink.apply([group("event", "id body", (1, "x"))])
    assert sink_factory.rows("event") == []


def test_rollback_and_close_are_harmless_at_any_time(sink_factory: SinkFactory) -> None:
    """Before a connection, without a transaction, and twice."""
    sink = sink_factory()
    sink.rollback()
    sink.claim({P: START})
    sink.rollback()
    sink.close()
    sink.close()
    sink.rollback()


def test_a_refused_apply_leaves_the_earlier_ones(sink_factory: SinkFactory) -> None:
    """The transaction goes on as if the refused call had not been: before it and after it rows get in."""
    sink = opened(sink_factory())
    sink.apply([group("item", "id name", (1, "before"))])
    with pytest.raises(RejectedError):
        sink.apply([group("item", "id name", (2, "new"), (1, "twice"))])
    sink.apply([group("item", "id name", (3, "after"))])
    sink.commit({P: 3})
    assert by_id(sink_factory.rows("item"), "id", "name") == [(1, "before"), (3, "after")]


def test_apply_is_all_or_nothing_over_tables(sink_factory: SinkFactory) -> None:
    """When the last table refuses, the first has nothing either."""
    sink = opened(sink_factory())
    with pytest.raises(RejectedError) as raised:
        sink.apply([group("event", "id body", (1, "x")), group("item", "id amount", (1, 1), (2, -1))])
    sink.commit({P: 1})
    assert raised.value.table == "item"
    assert sink_factory.rows("event") == sink_factory.rows("item") == []


@pytest.mark.parametrize(
    ("columns", "rows"),
    [
        ("id name", [(1, "secret-x"), (1, "secret-y")]),
        ("id amount", [(1, -987654)]),
        ("id amount", [(1, None)]),
        ("id amount", [(1, 98765498765498765498765)]),
        ("id amount", [(1, "secret-x")]),
        ("id name", [(1, "secret-\ud800")]),
        ("id name", [(1, {"secret-": 1})]),
    ],
    ids=["unique", "check", "null", "range", "type", "surrogate", "object"],
)
@pytest.mark.parametrize("ahead", [False, True])
def test_a_refusal_never_tells_values(
    sink_factory: SinkFactory, columns: str, rows: list[tuple[Any, ...]], ahead: bool
) -> None:
    """Each kind of refusal is a RejectedError that says where and why, without the value; also of prepared rows."""
    sink = opened(sink_factory())
    sink.apply([group("item", columns, (9, "x" if columns == "id name" else 1))])
    refused = [group("item", columns, *rows)]
    if ahead:
        sink.prepare(refused)
    with pytest.raises(RejectedError) as raised:
        sink.apply(refused)
    said = f"{raised.value} {raised.value.reason} {raised.value.__dict__} {raised.value.__cause__}"
    assert "secret" not in said
    assert "98765" not in said
    assert raised.value.table == "item"
    sink.rollback()


def test_a_deferred_constraint_refuses_in_apply(sink_factory: SinkFactory) -> None:
    """What the database would check only at COMMIT is refused while the record can still be found."""
    if not sink_factory.database.refers:
        pytest.skip("this database has no deferred constraints")
    sink = opened(sink_factory(Target("child"), ITEM))
    sink.apply([group("child", "id item", (1, 10)), group("item", "id", (10,))])
    with pytest.raises(RejectedError) as raised:
        sink.apply([group("child", "id item", (2, 11))])
    sink.apply([group("child", "id item", (3, 10))])
    sink.commit({P: 3})
    assert raised.value.table == "child"
    assert by_id(sink_factory.rows("child")) == [(1, 10), (3, 10)]


# Modes


def test_insert_adds_rows_in_order_with_repeats(sink_factory: SinkFactory) -> None:
    """Each row is one more row, equal ones too."""
    write(sink_factory(), group("event", "id body", (1, "x"), (1, "x"), (2, None)))
    assert [(row["id"], row["body"]) for row in sink_factory.rows("event")] == [(1, "x"), (1, "x"), (2, None)]


def test_many_rows_of_one_apply_all_get_in(sink_factory: SinkFactory) -> None:
    """Whatever a sink does in portions, none is forgotten or doubled."""
    for count in (1, 31, 32, 33, 63, 64, 65, 1000):
        write(sink_factory(), group("event", "id body", *((count, str(i)) for i in range(count))))
    found = sink_factory.rows("event")
    for count in (1, 31, 32, 33, 63, 64, 65, 1000):
        assert [row["body"] for row in found if row["id"] == count] == [str(i) for i in range(count)]


def test_missing_columns_take_their_default(sink_factory: SinkFactory) -> None:
    """A column that the rows do not have is filled by the database, also next to rows that have it."""
    write(sink_factory(), group("item", "id name", (1, "x")), group("item", "id amount", (2, 3)))
    assert by_id(sink_factory.rows("item"), "id", "name", "amount") == [(1, "x", 7), (2, None, 3)]


def test_several_rows_of_one_record_over_tables(sink_factory: SinkFactory) -> None:
    """Records with many rows, in several tables, are written whole."""
    rows = TableRows("event", ("id", "body"), [(1, "a"), (1, "b"), (2, "c")], [0, 0, 1])
    write(sink_factory(), rows, TableRows("item", ("id",), [(1,)], [0]))
    assert by_id(sink_factory.rows("event")) == [(1, "a"), (1, "b"), (2, "c")]
    assert by_id(sink_factory.rows("item"), "id", "amount") == [(1, 7)]


def test_upsert_takes_the_last_of_a_key(sink_factory: SinkFactory) -> None:
    """Within a batch and against the table the last row of a key wins; columns that it does not have stay."""
    sink = sink_factory(UPSERT)
    write(sink, group("item", "id name amount", (1, "a", 1), (2, "b", 2), (1, "c", 3)))
    write(sink, group("item", "id name", (2, "d"), (3, "e")))
    assert by_id(sink_factory.rows("item"), "id", "name", "amount") == [(1, "c", 3), (2, "d", 2), (3, "e", 7)]


def test_upsert_by_a_key_of_several_columns(sink_factory: SinkFactory) -> None:
    """The key may be any unique constraint, its columns in any order."""
    sink = sink_factory(Target("pair", Mode.UPSERT, key=("b", "a")))
    write(sink, group("pair", "a b total", (1, "x", 1), (1, "y", 2), (1, "x", 3)))
    assert by_id(sink_factory.rows("pair"), "a", "b", "total") == [(1, "x", 3), (1, "y", 2)]


def test_upsert_of_keys_alone(sink_factory: SinkFactory) -> None:
    """Rows that have only the key are there once."""
    sink = sink_factory(UPSERT)
    write(sink, group("item", "id", (1,), (1,)))
    write(sink, group("item", "id", (1,), (2,)))
    assert by_id(sink_factory.rows("item"), "id") == [(1,), (2,)]


def test_deletes_among_upserts_keep_their_order(sink_factory: SinkFactory) -> None:
    """The last operation on a key wins, whichever it is; only key columns of a delete count."""
    sink = sink_factory(UPSERT)
    write(sink, group("item", "id name", (1, "old"), (2, "old"), (3, "old")))
    rows = [(1, "new"), (1, None), (2, None), (2, "new"), (4, "new"), (5, None), (3, "new")]
    write(sink, group("item", "id name", *rows, deletes=[False, True, True, False, False, True, False]))
    assert by_id(sink_factory.rows("item"), "id", "name") == [(2, "new"), (3, "new"), (4, "new")]


def test_a_row_after_its_delete_starts_anew(sink_factory: SinkFactory) -> None:
    """Nothing of the deleted row is left in the one that follows it in the same batch."""
    sink = sink_factory(UPSERT)
    write(sink, group("item", "id name amount", (1, "old", 5)))
    write(sink, group("item", "id name", (1, None), (1, "new"), deletes=[True, False]))
    assert by_id(sink_factory.rows("item"), "id", "name", "amount") == [(1, "new", 7)]


def test_delete_mode_deletes(sink_factory: SinkFactory) -> None:
    """Every row deletes its key; one that is not there is no error."""
    write(sink_factory(ITEM), group("item", "id", (1,), (2,), (3,)))
    write(sink_factory(DELETE), group("item", "id", (1,), (9,), (3,), (3,)))
    assert by_id(sink_factory.rows("item"), "id") == [(2,)]


def test_increment_adds_and_starts(sink_factory: SinkFactory) -> None:
    """Numbers are summed over the batch and the table; all else takes the last value; a new key starts with them."""
    sink = sink_factory(PAIR)
    write(
        sink,
        group("pair", "a b total rate note", (1, "x", 5, 0.5, "p"), (2, "x", 1, 0.25, "q"), (1, "x", -3, 0.25, "r")),
    )
    write(sink, group("pair", "a b total rate note", (1, "x", 10, 1.0, "s"), (3, "x", -4, 0.0, None)))
    expected = [(1, "x", 12, 1.75, "s"), (2, "x", 1, 0.25, "q"), (3, "x", -4, 0.0, None)]
    assert by_id(sink_factory.rows("pair")) == expected


def test_increment_counts_from_null_as_from_zero(sink_factory: SinkFactory) -> None:
    """A row without a number yet takes the sum."""
    write(sink_factory(Target("pair")), group("pair", "a b", (1, "x")))
    write(sink_factory(PAIR), group("pair", "a b total rate", (1, "x", 4, 0.5)))
    assert by_id(sink_factory.rows("pair"), "total", "rate") == [(4, 0.5)]


def test_increment_is_judged_by_its_net_effect(sink_factory: SinkFactory) -> None:
    """A decrement passes if the row can bear it, and a batch if its sum can; else nothing changes."""
    sink = sink_factory(INCREMENT)
    write(sink, group("item", "id amount", (1, 5)))
    write(sink, group("item", "id amount", (1, -3)))
    write(sink, group("item", "id amount", (1, -3), (1, 2), (2, -1), (2, 1)))
    assert by_id(sink_factory.rows("item"), "id", "amount") == [(1, 1), (2, 0)]
    opened(sink)
    with pytest.raises(RejectedError):
        sink.apply([group("item", "id amount", (1, -2))])
    with pytest.raises(RejectedError):
        sink.apply([group("item", "id amount", (3, -1))])
    sink.commit({P: 9})
    assert by_id(sink_factory.rows("item"), "id", "amount") == [(1, 1), (2, 0)]


def test_increment_refuses_sums_that_do_not_fit(sink_factory: SinkFactory) -> None:
    """A sum beyond the column's range is refused instead of changed, in the table and within the batch."""
    sink = sink_factory(INCREMENT)
    write(sink, group("item", "id amount", (1, 2**63 - 2)))
    opened(sink)
    sink.apply([group("item", "id amount", (1, 1))])
    with pytest.raises(RejectedError):
        sink.apply([group("item", "id amount", (1, 1))])
    with pytest.raises(RejectedError):
        sink.apply([group("item", "id amount", (2, 2**63 - 1), (2, 1))])
    sink.commit({P: 9})
    assert by_id(sink_factory.rows("item"), "id", "amount") == [(1, 2**63 - 1)]


def test_an_increment_by_null_is_refused(sink_factory: SinkFactory) -> None:
    """Nothing cannot be added."""
    sink = opened(sink_factory(PAIR))
    with pytest.raises(RejectedError) as raised:
        sink.apply([group("pair", "a b total", (1, "x", 1), (1, "x", None))])
    assert raised.value.column == "total"
    sink.rollback()


@pytest.mark.parametrize("target", [UPSERT, INCREMENT, DELETE], ids=lambda target: target.mode)
def test_a_row_without_its_key_is_refused(sink_factory: SinkFactory, target: Target) -> None:
    """A null or missing key finds no row: the record is at fault."""
    sink = opened(sink_factory(target))
    with pytest.raises(RejectedError):
        sink.apply([group("item", "id amount", (1, 1), (None, 1))])
    with pytest.raises(RejectedError):
        sink.apply([group("item", "amount", (1,))])
    sink.commit({P: 1})
    assert sink_factory.rows("item") == []


def test_a_version_keeps_newer_rows(sink_factory: SinkFactory) -> None:
    """An older row changes nothing, an equal one is written again, a row without version is older than all."""
    write(
        sink_factory(ITEM),
        group("item", "id name version", (1, "old", 5), (2, "old", 5), (3, "old", 5), (4, "old", None)),
    )
    rows = [(1, "older", 4), (2, "equal", 5), (3, "newer", 6), (4, "first", 0), (5, "new", 1)]
    write(sink_factory(VERSIONED), group("item", "id name version", *rows))
    expected = [(1, "old", 5), (2, "equal", 5), (3, "newer", 6), (4, "first", 0), (5, "new", 1)]
    assert by_id(sink_factory.rows("item"), "id", "name", "version") == expected


def test_a_version_counts_within_the_batch(sink_factory: SinkFactory) -> None:
    """Of several rows of a key the newest wins, of equal versions the last."""
    rows = [(1, "two", 2), (1, "three", 3), (1, "one", 1), (2, "a", 1), (2, "b", 1)]
    write(sink_factory(VERSIONED), group("item", "id name version", *rows))
    assert by_id(sink_factory.rows("item"), "id", "name") == [(1, "three"), (2, "b")]


def test_a_version_keeps_newer_rows_from_deletes(sink_factory: SinkFactory) -> None:
    """A delete that is older than the row leaves it."""
    sink = sink_factory(VERSIONED)
    write(sink, group("item", "id name version", (1, "x", 5), (2, "x", 5)))
    write(sink, group("item", "id name version", (1, None, 4), (2, None, 5), deletes=[True, True]))
    assert by_id(sink_factory.rows("item"), "id") == [(1,)]


def test_a_delete_ends_what_counts_of_versions(sink_factory: SinkFactory) -> None:
    """After a delete that took place any version is new; one that was older than the row leaves all of it."""
    sink = sink_factory(VERSIONED)
    write(sink, group("item", "id name amount version", (1, "x", 1, 5), (2, "x", 2, 5)))
    rows = [(1, None, 9), (1, "old", 3), (1, None, 2), (2, "new", 7), (2, None, 6)]
    write(sink, group("item", "id name version", *rows, deletes=[True, False, True, False, True]))
    assert by_id(sink_factory.rows("item"), "id", "name", "amount") == [(1, "old", 7), (2, "new", 2)]


def test_a_row_without_its_version_is_refused(sink_factory: SinkFactory) -> None:
    """What cannot be compared must not overwrite."""
    sink = opened(sink_factory(VERSIONED))
    with pytest.raises(RejectedError):
        sink.apply([group("item", "id name version", (1, "x", None))])
    sink.rollback()


# Values and names


def test_hostile_names_are_names(sink_factory: SinkFactory) -> None:
    """Quotes, reserved words, placeholders and other alphabets in table and column names do nothing but name."""
    order, ab, size, quote = sink_factory().describe(HOSTILE).columns
    columns = (order, ab, size, quote)
    row = TableRows(HOSTILE, columns, [(1, "'); drop table item; --", 2, '"')], [0])
    write(sink_factory(Target(HOSTILE)), row)
    write(sink_factory(Target(HOSTILE, Mode.UPSERT, version=size)), row)
    write(sink_factory(Target(HOSTILE, Mode.INCREMENT, add=(size,))), row)
    assert by_id(sink_factory.rows(HOSTILE)) == [(1, "'); drop table item; --", 4, '"')]
    write(sink_factory(Target(HOSTILE, Mode.DELETE)), TableRows(HOSTILE, (order,), [(1,)], [0]))
    assert sink_factory.rows(HOSTILE) == []
    assert advice(sink_factory(Target(HOSTILE, Mode.DELETE)), HOSTILE) == []


UTC = datetime.UTC
VALUES: list[tuple[str, Any]] = [
    ("truth", True),
    ("truth", False),
    *(("small", value) for value in (-(2**63), 2**63 - 1, 2**53 + 1, 0, -1)),
    *(("real", value) for value in (0.1, -1.7976931348623157e308, 5e-324, 1e22, 3.0, float("inf"), float("-inf"))),
    *(("exact", Decimal(value)) for value in ("0.1", "-123456789012.345", "9223372036854775807", "1E+3", "0")),
    *(("words", value) for value in ("", "007", "1e5", "NULL", "\\N", "\t\n\r", "ß☃𝄞", "a" * 100_000)),
    *(("bytes", value) for value in (b"", b"\x00\xff", b"x" * 100_000)),
    *(("day", value) for value in (datetime.date(1, 1, 1), datetime.date(2024, 2, 29), datetime.date(9999, 12, 31))),
    *(("hour", value) for value in (datetime.time(0), datetime.time(23, 59, 59, 999_999))),
    ("moment", datetime.datetime(1, 1, 1, tzinfo=UTC)),
    ("moment", datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)),
    (
        "moment",
        datetime.datetime(2024, 2, 29, 1, 2, 3, 4, datetime.timezone(datetime.timedelta(hours=-5, minutes=-30))),
    ),
    ("uuid", uuid.UUID(int=0)),
    ("uuid", uuid.UUID(int=2**128 - 1)),
    *(("json", value) for value in ({"a": [1, None, True, "ß"]}, [], {}, "text", 1.5, 2**53 + 1, False)),
]


@pytest.mark.parametrize(("column", "value"), VALUES, ids=lambda value: repr(value)[:30])
def test_values_read_back_equal(sink_factory: SinkFactory, column: str, value: Any) -> None:
    """The boundary values of each type come back as they were given, next to a null."""
    write(sink_factory(Target("kinds")), group("kinds", f"id {column}", (1, value), (2, None)))
    found = sorted(sink_factory.rows("kinds"), key=lambda row: row["id"])
    assert [row[column] for row in found] == [value, None]
    assert type(found[0][column]) is type(value)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("small", 2**63),
        ("small", -(2**63) - 1),
        ("small", 1.5),
        ("small", True),
        ("truth", 1),
        ("exact", Decimal("NaN")),
        ("words", "a\0b"),
        ("words", "\ud800"),
        ("words", 1),
        ("bytes", "text"),
        ("day", "2024-02-30"),
        ("moment", datetime.datetime(2024, 1, 1)),
        ("uuid", "not one"),
        ("json", {"a": float("nan")}),
        ("json", {"a": {1, 2}.__iter__()}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_values_that_do_not_fit_are_refused(sink_factory: SinkFactory, column: str, value: Any) -> None:
    """What a column cannot hold as it is, is never changed to fit: it is refused with the column's name."""
    sink = opened(sink_factory(Target("kinds")))
    with pytest.raises(RejectedError) as raised:
        sink.apply([group("kinds", f"id {column}", (1, value))])
    assert raised.value.table == "kinds"
    sink.apply([group("kinds", "id", (2,))])
    sink.commit({P: 2})
    assert by_id(sink_factory.rows("kinds"), "id") == [(2,)]


def test_what_is_known_is_believed_only_as_far_as_the_column_takes_it(sink_factory: SinkFactory) -> None:
    """Rows of known values are written as others are; where they may be too large for the column, they are checked."""
    sink = opened(sink_factory(Target("kinds")))
    columns = sink.describe("kinds").columns
    day = datetime.date(2024, 2, 29)
    rows = group("kinds", "id words day", (1, "x", day))
    sink.apply([replace(rows, known=tuple(columns[name] for name in rows.columns))])
    larger = replace(columns["small"], minimum=None, maximum=None)
    rows = group("kinds", "id small", (2, 2**63))
    with pytest.raises(RejectedError, match="small"):
        sink.apply([replace(rows, known=(columns["id"], larger))])
    sink.commit({P: 1})
    assert by_id(sink_factory.rows("kinds"), "id", "words", "day") == [(1, "x", day)]


# Interruption, and delivery at least once


def test_after_an_interrupt_the_sink_works(sink_factory: SinkFactory) -> None:
    """Out of a transaction the next call works, at the latest after one UnavailableError."""
    sink = sink_factory()
    sink.interrupt()
    sink.claim({P: START})
    sink.interrupt()
    try:
        claims = sink.claim({P: START})
    except UnavailableError:
        claims = sink.claim({P: START})
    sink.begin(fences(claims))
    sink.commit({P: 1})


def test_an_interrupted_transaction_leaves_nothing(sink_factory: SinkFactory) -> None:
    """The next call in the transaction is unavailable, and its rows are gone."""
    sink = opened(sink_factory())
    sink.apply([group("event", "id body", (1, "x"))])
    sink.interrupt()
    with pytest.raises(UnavailableError):
        sink.commit({P: 1})
    assert sink_factory.rows("event") == []
    assert sink.offsets()[P].position.next_offset == 0


def test_an_interrupt_frees_a_call_that_waits(sink_factory: SinkFactory) -> None:
    """A begin that waits for another transaction ends as unavailable, and the sink works again."""
    holder, waiter = sink_factory(owner="a"), sink_factory(owner="a")
    mine = fences(holder.claim({P: START}))
    holder.begin(mine)
    ended: list[Exception] = []

    def wait() -> None:
        try:
            waiter.begin(mine)
        except UnavailableError as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join(0.1)
    while thread.is_alive():
        waiter.interrupt()
        thread.join(0.1)
    assert len(ended) == 1
    holder.commit({P: 1})
    assert waiter.confirm(mine)[P].next_offset == 1


def test_without_exactly_once_no_offsets_are_kept(sink_factory: SinkFactory) -> None:
    """Claims answer with the starts and epoch 0, confirm with what it is given; rows are still all or nothing."""
    sink = sink_factory(exactly_once=False)
    assert sink.transactional is False
    assert sink.claim({P: START}) == {P: Claim(0, START)}
    mine = {P: Fence(0, 17)}
    assert sink.confirm(mine) == mine
    sink.begin(mine)
    sink.apply([group("event", "id body", (1, "x"))])
    sink.rollback()
    sink.begin(mine)
    sink.apply([group("event", "id body", (2, "y"))])
    sink.commit({P: 18})
    assert by_id(sink_factory.rows("event")) == [(2, "y")]
    assert sink_factory().offsets() == {}


def test_with_exactly_once_it_says_so(sink_factory: SinkFactory) -> None:
    """The pipeline reads from `transactional` whether offsets are the sink's."""
    assert sink_factory().transactional is True

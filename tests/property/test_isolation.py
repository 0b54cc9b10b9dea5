"""Isolation against the plainest reference there is: records one by one, each with those before it that got in."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from itertools import groupby
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.errors import RejectedError
from consumer.sinks import Isolated
from consumer.table import Mode, TableRows, Target
from tests.databases import Database, Memory, PostgresDatabase, Sqlite
from tests.sinks import opened

EXAMPLES: dict[type[Database], int] = {Memory: 200, Sqlite: 100, PostgresDatabase: 30}
Item = tuple[int | None, int | None]  # id and amount, which the table wants not to be null, the amount not below zero
Items = dict[int, int]


def checking(database: Database) -> settings:
    """As many examples as the database has time for."""
    return settings(max_examples=EXAMPLES[type(database)], deadline=None, suppress_health_check=[HealthCheck.too_slow])


def is_bad(item: Item) -> bool:
    """Wherever it comes, and whatever is there."""
    key, amount = item
    return key is None or amount is None or not 0 <= amount < 2**63


def rows_of(records: Sequence[Sequence[Item]]) -> list[TableRows]:
    """For each record its items, and its number into the table of events; every second number of a batch has none."""
    items = [(2 * number, item) for number, record in enumerate(records) for item in record]
    ordinals = [2 * number for number in range(len(records))]
    events = [(number, str(len(record))) for number, record in enumerate(records)]
    return [
        TableRows("event", ("id", "body"), events, ordinals),
        TableRows("item", ("id", "amount"), [item for _, item in items], [ordinal for ordinal, _ in items]),
    ]


def isolate(
    database: Database, target: Target, before: Items, records: Sequence[Sequence[Item]], patience: int | None = None
) -> tuple[Isolated, set[int]]:
    """Isolate these records, if the sink refuses them, on a table with those rows. Returns which are at fault."""
    database.clear()
    with closing(database.sink((Target("item"), Target("event")), "a")) as sink:
        opened(sink).apply([TableRows("item", ("id", "amount"), list(before.items()), list(range(len(before))))])
        sink.commit({})
    rows, found = rows_of(records), Isolated([])
    with closing(database.sink((target, Target("event")), "a")) as sink:
        try:
            opened(sink).apply(rows)
        except RejectedError:
            found = sink.isolate(rows, patience)
        if found.finished:
            sink.commit({})
    ordinals = [failure.ordinal for failure in found.failures]
    assert ordinals == sorted(set(ordinals))
    return found, {ordinal // 2 for ordinal in ordinals}


def items(database: Database) -> Items:
    return {row["id"]: row["amount"] for row in database.rows("item")}


def events(database: Database) -> list[int]:
    return [row["id"] for row in database.rows("event")]


KEYS = st.sampled_from([*range(8)] * 2 + [None])
AMOUNTS = st.sampled_from([*range(6)] * 2 + [-1, -2, -5, None, 2**63])
ITEMS = st.tuples(KEYS, AMOUNTS)
BEFORE = st.dictionaries(st.integers(0, 8), st.integers(0, 5), max_size=3)
RECORDS = st.lists(st.lists(ITEMS, max_size=3), max_size=30)
SINGLES = st.lists(st.lists(ITEMS, min_size=1, max_size=1), max_size=30)
PATIENCE = st.none() | st.integers(0, 5)


def inserted(before: Items, records: Sequence[Sequence[Item]]) -> tuple[Items, set[int]]:
    """One by one: what the table holds then, and the numbers of the records at fault."""
    there, bad = dict(before), set[int]()
    for number, record in enumerate(records):
        added: dict[Any, Any] = dict(record)
        if any(map(is_bad, record)) or len(added) < len(record) or added.keys() & there.keys():
            bad.add(number)
        else:
            there |= added
    return there, bad


def test_insert_is_isolated_as_if_records_came_one_by_one(database: Database) -> None:
    """The same records are at fault, the same are there, in order; it gives up exactly where too many are in a row."""

    @checking(database)
    @given(BEFORE, RECORDS, PATIENCE)
    def hold(before: Items, records: list[list[Item]], patience: int | None) -> None:
        found, bad = isolate(database, Target("item"), before, records, patience)
        expected, wrong = inserted(before, records)
        runs = [len(list(run)) for at_fault, run in groupby(n in wrong for n in range(len(records))) if at_fault]
        assert found.finished is (patience is None or max(runs, default=0) <= patience)
        if found.finished:
            assert bad == wrong
            assert items(database) == expected
            assert events(database) == [number for number in range(len(records)) if number not in wrong]
        else:
            assert bad <= wrong

    hold()


@pytest.mark.parametrize("mode", [Mode.UPSERT, Mode.DELETE])
def test_of_records_by_key_only_bad_ones_are_left_out(database: Database, mode: Mode) -> None:
    """No good one ever leaves, and the table is what those that stay make of it one by one."""

    @checking(database)
    @given(BEFORE, RECORDS)
    def hold(before: Items, records: list[list[Item]]) -> None:
        _, bad = isolate(database, Target("item", mode), before, records)
        expected: dict[Any, Any] = dict(before)
        for number, record in enumerate(records):
            if number in bad:
                assert any(key is None if mode is Mode.DELETE else is_bad((key, amount)) for key, amount in record)
            else:
                expected |= dict(record)
                for key, _ in record if mode is Mode.DELETE else ():
                    expected.pop(key, None)
        assert items(database) == expected
        assert events(database) == [number for number in range(len(records)) if number not in bad]

    hold()


def test_of_sums_only_what_they_cannot_bear_is_left_out(database: Database) -> None:
    """Who leaves would break its sum, after all that stayed before it; the table is the sum of those that stay."""

    @checking(database)
    @given(BEFORE, SINGLES)
    def hold(before: Items, records: list[list[Item]]) -> None:
        _, bad = isolate(database, Target("item", Mode.INCREMENT, add=("amount",)), before, records)
        sums: dict[Any, Any] = dict(before)
        for number, ((key, amount),) in enumerate(records):
            if number in bad:
                fits = amount is not None and amount < 2**63  # else there is no such summand
                assert key is None or amount is None or not fits or not 0 <= sums.get(key, 0) + amount < 2**63
            else:
                sums[key] = sums.get(key, 0) + amount
        assert items(database) == sums
        assert events(database) == [number for number in range(len(records)) if number not in bad]

    hold()

"""What rows and offsets come to, whatever is written in whatever batches: sinks against plain dicts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from consumer.errors import FencedError, TopicPartition, UnavailableError
from consumer.sinks import Fence, Position, Sink
from consumer.sinks.transaction import in_steps
from consumer.table import Mode, TableRows, Target
from tests.databases import Database, Memory, PostgresDatabase, Sqlite

P, Q = ("t", 0), ("t", 1)
START = Position(0, "c", "i")
EXAMPLES: dict[type[Database], int] = {Memory: 500, Sqlite: 300, PostgresDatabase: 80}
Rows = list[tuple[Any, ...]]


@dataclass(frozen=True)
class Operation:
    """On the table `item`: a row, or the deletion of its key."""

    id: int
    name: str | None
    version: int
    delete: bool


def cut(items: Sequence[Any], places: Sequence[int]) -> Iterator[Sequence[Any]]:
    """The items in pieces, which end at these places."""
    edges = [0, *sorted(place % (len(items) + 1) for place in places), len(items)]
    return (items[low:high] for low, high in pairwise(edges) if low < high)


def write(sink: Sink, batches: Iterator[list[TableRows]], *, at_once: bool) -> None:
    """A transaction for each, the fence kept as the writer keeps it; with everything known before, or in steps."""
    claim = sink.claim({P: START})[P]
    for offset, rows in enumerate(batches, claim.position.next_offset):
        sink.prepare(rows)
        (sink.transact if at_once else partial(in_steps, sink))(
            {P: Fence(claim.epoch, offset)}, rows, {P: offset + 1}, lambda: None
        )


def checking(database: Database, share: int = 1) -> settings:
    """As many examples as the database has time for, divided by `share`."""
    examples = EXAMPLES[type(database)] // share
    return settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])


OPERATIONS = st.lists(
    st.builds(Operation, st.integers(0, 3), st.sampled_from([None, "a", "b", "c"]), st.integers(0, 4), st.booleans()),
    max_size=40,
)
PLACES = st.lists(st.integers(0, 40), max_size=5)


def folded(operations: Sequence[Operation], versioned: bool) -> dict[int, tuple[str | None, int]]:
    """One by one: what is not older than the row of its key replaces it or takes it away."""
    rows: dict[int, tuple[str | None, int]] = {}
    for operation in operations:
        if versioned and operation.id in rows and rows[operation.id][1] > operation.version:
            continue
        if operation.delete:
            rows.pop(operation.id, None)
        else:
            rows[operation.id] = (operation.name, operation.version)
    return rows


def batch_of(operations: Sequence[Operation]) -> list[TableRows]:
    rows: Rows = [(each.id, None if each.delete else each.name, each.version) for each in operations]
    deletes = [each.delete for each in operations]
    ordinals = list(range(len(rows)))
    return [TableRows("item", ("id", "name", "version"), rows, ordinals, deletes if True in deletes else None)]


@pytest.mark.parametrize("version", [None, "version"])
def test_the_last_of_a_key_wins_however_batches_are_cut(database: Database, version: str | None) -> None:
    """Upserts and deletes end in the table that they make one by one."""

    @checking(database)
    @given(OPERATIONS, PLACES, st.booleans())
    def hold(operations: list[Operation], places: list[int], at_once: bool) -> None:
        database.clear()
        sink = database.sink((Target("item", Mode.UPSERT, version=version),), "a")
        write(sink, (batch_of(piece) for piece in cut(operations, places)), at_once=at_once)
        sink.close()
        found = {row["id"]: (row["name"], row["version"]) for row in database.rows("item")}
        assert found == folded(operations, version is not None)

    hold()


INCREMENTS = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from("xy"), st.integers(-100, 100), st.integers(-8, 8), st.sampled_from("pq")
    ),
    max_size=40,
)


def test_increments_sum_up_however_batches_are_cut(database: Database) -> None:
    """Each number lands once in the row of its key; what is not added up is the last."""

    @checking(database)
    @given(INCREMENTS, PLACES, st.booleans())
    def hold(rows: Rows, places: list[int], at_once: bool) -> None:
        database.clear()
        target = Target("pair", Mode.INCREMENT, key=("a", "b"), add=("total", "rate"))
        sink, columns = database.sink((target,), "a"), ("a", "b", "total", "rate", "note")
        pieces = cut(rows, places)
        batches = ([TableRows("pair", columns, list(piece), list(range(len(piece))))] for piece in pieces)
        write(sink, batches, at_once=at_once)
        sink.close()
        expected: dict[tuple[int, str], tuple[Any, ...]] = {}
        for a, b, total, rate, note in rows:
            before = expected.get((a, b), (0, 0, ""))
            expected[a, b] = (before[0] + total, before[1] + rate, note)
        found = {(row["a"], row["b"]): (row["total"], row["rate"], row["note"]) for row in database.rows("pair")}
        assert found == expected

    hold()


class Instance:
    """One owner, and what it believes. `open`: the next offsets that its open transaction is to store."""

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.fences: dict[TopicPartition, Fence] = {}
        self.open: dict[TopicPartition, int] = {}

    def idle(self) -> Instance:
        """Without a transaction."""
        self.sink.rollback()
        self.open = {}
        return self

    def rows(self) -> Rows:
        """The records of the open transaction."""
        return [
            (number, str(key)) for key in self.open for number in range(self.fences[key].next_offset, self.open[key])
        ]


NUMBERS = st.integers(0, 2)


class Offsets(RuleBasedStateMachine):
    """Three owners, two partitions; a record is a row of its offset and partition, in a table without keys."""

    database: Database

    @initialize()
    def start(self) -> None:
        self.database.clear()
        self.instances = [self._instance(number) for number in range(3)]
        self.owner: dict[TopicPartition, int | None] = {P: None, Q: None}  # who claimed last
        self.passes = {P: [[0, 0]], Q: [[0, 0]]}  # from which offset to which; a reset begins another

    def teardown(self) -> None:
        for instance in getattr(self, "instances", []):
            instance.sink.close()

    @rule(number=NUMBERS, keys=st.sampled_from([(P,), (Q,), (P, Q)]))
    def claim(self, number: int, keys: tuple[TopicPartition, ...]) -> None:
        """The claimant has them from now on; or it is blocked, as long as another has a transaction open."""
        me = self.instances[number].idle()
        blocked = self._somebody_is_open()
        if blocked and isinstance(self.database, PostgresDatabase):
            return  # it takes two seconds to end the other's session; the contract tests do that
        try:
            claims = me.sink.claim(dict.fromkeys(keys, START))
        except UnavailableError:
            assert blocked
            return
        assert {key: claim.position.next_offset for key, claim in claims.items()} == {
            key: self._next(key) for key in keys
        }
        me.fences |= {key: Fence(claim.epoch, claim.position.next_offset) for key, claim in claims.items()}
        self.owner |= dict.fromkeys(keys, number)

    @rule(number=NUMBERS, records=st.integers(0, 3))
    def begin(self, number: int, records: int) -> None:
        """It begins and writes if all are still its own; else exactly the others are named."""
        me = self.instances[number].idle()
        if not me.fences or self._somebody_is_open():
            return
        lost = {key for key in me.fences if self.owner[key] != number}
        if lost:
            with pytest.raises(FencedError) as raised:
                me.sink.begin(me.fences)
            assert raised.value.partitions == lost
            me.fences = {key: fence for key, fence in me.fences.items() if key not in lost}
            return
        me.sink.begin(me.fences)
        me.open = {key: fence.next_offset + records for key, fence in me.fences.items()}
        me.sink.apply([TableRows("event", ("id", "body"), me.rows(), list(range(len(me.rows()))))])

    @rule(number=NUMBERS)
    def commit(self, number: int) -> None:
        """Rows and offsets get in together if all are still its own, else neither does."""
        me = self.instances[number]
        if not me.open:
            return
        whole = all(self.owner[key] == number for key in me.open)
        try:
            me.sink.commit(me.open)
        except UnavailableError:
            assert not whole
        else:
            assert whole
            for key, offset in me.open.items():
                self.passes[key][-1][1] = offset
                me.fences[key] = Fence(me.fences[key].epoch, offset)
        me.open = {}

    @rule(number=NUMBERS)
    def roll_back(self, number: int) -> None:
        """Nothing is left."""
        self.instances[number].idle()

    @rule(number=NUMBERS)
    def confirm(self, number: int) -> None:
        """It learns what is still its own, and where that stands."""
        me = self.instances[number].idle()
        if not self._somebody_is_open():
            me.fences = me.sink.confirm(me.fences)
            assert {key: fence.next_offset for key, fence in me.fences.items()} == {
                key: self._next(key) for key in me.fences if self.owner[key] == number
            }

    @rule(number=NUMBERS)
    def crash(self, number: int) -> None:
        """The process is gone without a word; another of its name knows nothing."""
        self.instances[number].sink.close()
        self.instances[number] = self._instance(number)

    @rule(key=st.sampled_from([P, Q]), offset=st.integers(0, 5))
    def reset(self, key: TopicPartition, offset: int) -> None:
        """The offset moves anywhere, and the owner is fenced; records from there on land once more."""
        if not self._somebody_is_open():
            self.instances[0].sink.reset({key: Position(offset, "c", "i")})
            self.owner[key] = None
            self.passes[key].append([offset, offset])

    @invariant()
    def every_record_is_there_once_a_pass(self) -> None:
        if hasattr(self, "passes"):
            rows = [
                (n, str(key)) for key, passes in self.passes.items() for low, high in passes for n in range(low, high)
            ]
            assert sorted((row["id"], row["body"]) for row in self.database.rows("event")) == sorted(rows)
            stored = self.instances[0].sink.offsets()
            assert all(row.position.next_offset == self._next(key) for key, row in stored.items())

    def _instance(self, number: int) -> Instance:
        return Instance(self.database.sink((Target("event"),), f"owner{number}"))

    def _somebody_is_open(self) -> bool:
        return any(instance.open for instance in self.instances)

    def _next(self, key: TopicPartition) -> int:
        return self.passes[key][-1][1]


def test_offsets_belong_to_the_last_claimant(database: Database) -> None:
    """Only it commits, all or nothing; offsets move forward except by a reset; no record is lost or doubled."""
    machine = type("OffsetsOfDatabase", (Offsets,), {"database": database})
    run_state_machine_as_test(machine, settings=settings(checking(database, 5), stateful_step_count=25))

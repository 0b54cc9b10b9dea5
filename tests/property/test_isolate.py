"""Finding records at fault, on a list for a database."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from consumer.errors import RejectedError
from consumer.sinks.postgres.isolate import Refusals, Tries, isolate
from consumer.table import TableRows


class Ledger:
    """Takes what holds no bad record; says of a refusal what it is told to say, be it true or not."""

    def __init__(
        self, unfit: set[int], bad: set[int], hints: list[int | None], near: bool = True, sure: bool = False
    ) -> None:
        self.unfit, self.bad, self.hints, self.near, self.sure = unfit, bad, hints, near, sure
        self.hint: int | None = None
        self.refused: set[int] = set()  # the last to be
        self.written: list[tuple[str, int]] = []
        self.last = 0  # how many of them came with the last attempt

    def tries(self) -> Tries:
        return Tries(
            self.attempt,
            self.judge,
            lambda rows, records, patience: None,
            self.suspect,
            self.convict,
            self.undo,
            lambda: self.near,
        )

    def attempt(self, rows: Sequence[TableRows]) -> RejectedError | None:
        new = [(group.table, ordinal) for group in rows for ordinal in group.ordinals]
        if any(ordinal in self.bad | self.unfit for _, ordinal in new):
            self.refused = {ordinal for _, ordinal in new}
            return RejectedError("no")
        self.written += new
        self.last = len(new)
        return None

    def undo(self) -> None:
        assert self.last
        del self.written[-self.last :]
        self.last = 0

    def judge(self, rows: Sequence[TableRows]) -> Refusals:
        found = {ordinal for group in rows for ordinal in group.ordinals} & self.unfit
        return {ordinal: RejectedError("never") for ordinal in found}

    def suspect(self) -> int | None:
        self.hint = self.hints.pop() if self.hints else None
        return self.hint

    def convict(self) -> RejectedError | None:
        """Never of a record that is not at fault, or was not among those that were refused."""
        at_fault = self.hint in self.refused & (self.bad | self.unfit)
        return RejectedError("sure") if self.sure and at_fault else None


def batch(tables: Sequence[Sequence[int]]) -> list[TableRows]:
    names = enumerate(tables)
    return [TableRows(str(i), ("a",), [(n,) for n in ordinals], sorted(ordinals)) for i, ordinals in names]


ORDINALS = st.integers(0, 60)
TABLES = st.lists(st.lists(ORDINALS, max_size=60), min_size=1, max_size=3)
HINTS = st.lists(st.none() | st.integers(-5, 70), max_size=4)


@given(TABLES, st.sets(ORDINALS), st.sets(ORDINALS), HINTS, st.booleans(), st.booleans())
def test_exactly_the_bad_are_found(
    tables: list[list[int]], unfit: set[int], bad: set[int], hints: list[int | None], near: bool, sure: bool
) -> None:
    """Whatever the server hints at: the others are written once, those of each table in order."""
    ledger = Ledger(unfit, bad, hints, near, sure)
    ledger.refused = there = {ordinal for ordinals in tables for ordinal in ordinals}
    found = isolate(ledger.tries(), batch(tables), None)
    assert found.finished
    assert [failure.ordinal for failure in found.failures] == sorted(there & (unfit | bad))
    for name, ordinals in enumerate(tables):
        kept = [ordinal for ordinal in sorted(ordinals) if ordinal not in unfit | bad]
        assert [ordinal for table, ordinal in ledger.written if table == str(name)] == kept


@given(st.integers(0, 12), st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_patience_counts_records_in_a_row(patience: int, unfit: set[int], bad: set[int]) -> None:
    """It is lost exactly when more than so many neighbours are at fault, whoever refuses them."""
    ledger, marks = Ledger(unfit, bad, []), "".join("x" if i in unfit | bad else "." for i in range(41))
    found = isolate(ledger.tries(), batch([range(41)]), patience)
    assert found.finished is ("x" * (patience + 1) not in marks)

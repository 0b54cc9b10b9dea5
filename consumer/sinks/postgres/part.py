"""Rows of one table as a script writes them: into the table, or into a stage and from there."""

from __future__ import annotations

from dataclasses import dataclass

from consumer.sinks.postgres.copying import copy
from consumer.sinks.postgres.plan import Plan
from consumer.sinks.postgres.script import Script
from consumer.table import TableRows


@dataclass(frozen=True, slots=True)
class Part:
    """`numbers` are the rows' in their stage, which the script `creates`, unless it is there; if there is one at all.

    What a plan does in rounds comes after the script, because how many there are is to be asked.
    """

    plan: Plan
    rows: TableRows
    numbers: range
    creates: bool

    @property
    def statements(self) -> list[str]:
        """What the script needs for it."""
        return [*([self.plan.create] if self.creates else []), self.plan.copy, *self._merges]

    def send(self, script: Script, *, listens: bool) -> None:
        """Give the rows to the script, and hear its answers to these statements. Raises what `copy` does."""
        if self.creates:
            script.next()
        copy(script, self.plan, self.rows, self.numbers, listens=listens)
        for _ in self._merges:
            script.next()

    @property
    def rounds(self) -> str:
        """The query that says how many rounds come after the script; empty if none do."""
        return self.plan.count(self._which) if self.plan.rounds else ""

    def round(self, number: int) -> list[str]:
        """The statements of one of them, from 1; they move rows out of the stage."""
        return [*self.plan.queries(self._which, number), *self.plan.changes(self._which, number)]

    @property
    def _which(self) -> str:
        return f'"#row" >= {self.numbers.start}' if self.plan.numbered else "true"

    @property
    def _merges(self) -> list[str]:
        return self.round(1) if self.plan.stage and not self.plan.rounds else []

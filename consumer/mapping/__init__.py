"""Records into rows. Every record keeps its own rows; nothing is folded here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from consumer.errors import Failure
from consumer.table import TableRows


@dataclass(frozen=True, slots=True)
class Mapped:
    """What became of records: rows, and the `failures`, by ascending ordinal; those have no row in any table.

    `dropped`: by topic the names of fields that no column takes, as far as they stand in the first of its records here.
    """

    rows: list[TableRows] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    dropped: dict[str, frozenset[str]] = field(default_factory=dict)

    def only(self, kept: Sequence[int]) -> Mapped:
        """The same of these records alone, by ascending ordinal, which are numbered anew from 0."""
        places = {ordinal: place for place, ordinal in enumerate(kept)}
        rows = [part for group in self.rows if (part := group.only(places)).rows]
        failures = [Failure(places[f.ordinal], f.error) for f in self.failures if f.ordinal in places]
        return Mapped(rows, failures, self.dropped)

"""Records into rows. Every record keeps its own rows; nothing is folded here."""

from __future__ import annotations

from dataclasses import dataclass, field

from consumer.errors import RecordError
from consumer.table import TableRows


@dataclass(frozen=True, slots=True)
class Failure:
    """A record that cannot be handled, by its index in the batch, and why."""

    ordinal: int
    error: RecordError


@dataclass(frozen=True, slots=True)
class Mapped:
    """What became of records: rows, and the `failures`, by ascending ordinal; those have no row in any table."""

    rows: list[TableRows] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

"""What tests of sinks share: sinks on one database, rows for them, and transactions."""

from __future__ import annotations

from typing import Any

from consumer.sinks import Claim, Fence, Position, Sink
from consumer.table import Mode, TableRows, Target
from tests.databases import Database

P, Q = ("orders", 0), ("orders", 1)
START = Position(0, "cluster", "topic")
ITEM = Target("item")
UPSERT = Target("item", Mode.UPSERT)
VERSIONED = Target("item", Mode.UPSERT, version="version")
INCREMENT = Target("item", Mode.INCREMENT, add=("amount",))
DELETE = Target("item", Mode.DELETE)
PAIR = Target("pair", Mode.INCREMENT, key=("a", "b"), add=("total", "rate"))
EVENT = Target("event")


class SinkFactory:
    """Makes sinks on one database, and closes them."""

    def __init__(self, database: Database) -> None:
        self.database, self.rows, self._sinks = database, database.rows, list[Sink]()

    def __call__(self, *targets: Target, owner: str = "a", exactly_once: bool = True, group: str = "group") -> Sink:
        self._sinks.append(self.database.sink(targets or (ITEM, EVENT), owner, exactly_once, group))
        return self._sinks[-1]

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()


def group(table: str, columns: str, *rows: tuple[Any, ...], deletes: list[bool] | None = None) -> TableRows:
    return TableRows(table, tuple(columns.split()), list(rows), list(range(len(rows))), deletes)


def fences(claims: dict[tuple[str, int], Claim]) -> dict[tuple[str, int], Fence]:
    return {key: Fence(claim.epoch, claim.position.next_offset) for key, claim in claims.items()}


def opened(sink: Sink) -> Sink:
    """With P claimed and a transaction open."""
    sink.begin(fences(sink.claim({P: START})))
    return sink


def write(sink: Sink, *groups: TableRows) -> None:
    """A transaction of its own, as the writer makes it."""
    sink.prepare(groups)
    claimed = fences(sink.claim({P: START}))
    sink.transact(claimed, groups, {P: claimed[P].next_offset + 1}, lambda: None)


def by_id(rows: list[dict[str, Any]], *columns: str) -> list[tuple[Any, ...]]:
    return sorted(tuple(row[column] for column in columns or row) for row in rows)

"""Rows of various columns into as few TableRows as keep their order where it matters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from msgspec import UNSET

from consumer.table import TableRows


class Item(NamedTuple):
    """One row: its columns and their values, the record it came from, and whether it deletes its key."""

    names: tuple[str, ...]
    values: tuple[Any, ...]
    ordinal: int
    delete: bool = False


@dataclass(frozen=True, slots=True)
class Arranger:
    """Arranges rows for one table. `key`: the columns that rows are matched by; empty where order does not matter."""

    table: str
    key: tuple[str, ...] = ()

    def arrange(self, items: Iterable[Item]) -> list[TableRows]:
        """Rows of the same columns together, in their order.

        Two rows of one key stay in their order: either they are in the same TableRows, or the one of the later is
        later. A row that deletes takes part with whatever columns there are, None in all that it does not give.
        """
        finished: list[list[Item]] = []
        groups: dict[tuple[str, ...], list[Item]] = {}
        homes: dict[tuple[Any, ...], tuple[str, ...]] = {}
        for item in items:
            if self.key:
                mark = self._mark(item)
                home = homes.get(mark)
                if item.delete:
                    item = _padded(item, home or next(iter(groups), item.names))
                elif home is not None and home != item.names:
                    finished += groups.values()
                    groups, homes = {}, {}
                homes[mark] = item.names
            groups.setdefault(item.names, []).append(item)
        return [_rows_of(self.table, group) for group in (*finished, *groups.values())]

    def _mark(self, item: Item) -> tuple[Any, ...]:
        row = dict(zip(item.names, item.values, strict=True))
        return tuple(_comparable(row.get(name, UNSET)) for name in self.key)


def items_of(names: tuple[str, ...], rows: Sequence[tuple[Any, ...]], ordinals: Iterable[int]) -> Iterator[Item]:
    """Items of rows in which UNSET stands for what a record does not have."""
    for row, ordinal in zip(rows, ordinals, strict=True):
        if any(value is UNSET for value in row):
            kept = [(name, value) for name, value in zip(names, row, strict=True) if value is not UNSET]
            yield Item(tuple(name for name, _ in kept), tuple(value for _, value in kept), ordinal)
        else:
            yield Item(names, row, ordinal)


def _comparable(value: Any) -> Any:
    # Equal for all that a database may hold equal (citext, padded char). Too much of it only costs a few more calls.
    if isinstance(value, str):
        return value.strip().casefold()
    return value if value.__hash__ else repr(value)


def _padded(item: Item, names: tuple[str, ...]) -> Item:
    row = dict(zip(item.names, item.values, strict=True))
    return Item(names, tuple(row.get(name) for name in names), item.ordinal, True) if row.keys() <= set(names) else item


def _rows_of(table: str, group: Sequence[Item]) -> TableRows:
    deletes = [item.delete for item in group]
    ordinals = [item.ordinal for item in group]
    rows = [item.values for item in group]
    return TableRows(table, group[0].names, rows, ordinals, deletes if True in deletes else None)

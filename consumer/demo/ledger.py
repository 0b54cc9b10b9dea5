"""The proof: what was produced, counted from the orders themselves, against what the database holds."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

Query = Callable[[str], list[tuple[Any, ...]]]
_TOTALS = {
    "order lines": "count(*)",
    "different orders": "count(distinct order_id)",
    "different times": "count(distinct placed_at)",
    "sum of line numbers": "sum(line)",
    "sum of the customers' lengths": "sum(length(customer))",
    "checksum": "sum((order_id * 31 + line * 7 + item_id * 3 + quantity) % 1000003 + price_cents)",
}
_SOLD = "select item_id, sum(quantity), sum(quantity * price_cents) from transactions group by item_id"
_INVENTORY = "select item_id, sold, revenue_cents from inventory"
_OFFSETS = "select partition, next_offset from microbatch_offsets"
_DEAD_LETTERS = 'select partition, "offset" from microbatch_dead_letters'
_SHOWN = 3


@dataclass(slots=True)
class Ledger:
    """Orders as they were produced: good ones in sums, spoilt ones by partition and offset.

    It knows neither Avro nor the transform nor the sink.
    """

    orders: int = 0
    spoilt: set[tuple[int, int]] = field(default_factory=set)
    lines: int = 0
    numbers: int = 0
    lengths: int = 0
    checksum: int = 0
    pieces: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    cents: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    partitions: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, order: Mapping[str, Any], partition: int) -> None:
        """This good order is produced to this partition."""
        self._count(partition)
        lines, order_id = order["lines"], order["order_id"]
        self.lines += len(lines)
        self.lengths += len(lines) * len(order["customer"])
        for number, line in enumerate(lines, 1):
            item, quantity, price = line["item_id"], line["quantity"], line["price_cents"]
            self.numbers += number
            self.checksum += (order_id * 31 + number * 7 + item * 3 + quantity) % 1000003 + price
            self.pieces[item] += quantity
            self.cents[item] += quantity * price

    def add_spoilt(self, partition: int) -> None:
        """An order that must become a dead letter is produced to this partition."""
        self.spoilt.add((partition, self.partitions[partition]))
        self._count(partition)

    def differences(self, query: Query) -> list[str]:
        """What the database holds otherwise than it was produced: a sentence each that names the table."""
        found = self._of_totals(query), self._of_items(query), self._of_offsets(query), self._of_dead_letters(query)
        return list(chain.from_iterable(found))

    def _count(self, partition: int) -> None:
        self.orders += 1
        self.partitions[partition] += 1

    def _of_totals(self, query: Query) -> Iterator[str]:
        good = self.orders - len(self.spoilt)
        produced = (self.lines, good, good, self.numbers, self.lengths, self.checksum)
        (stored,) = query(f"select {', '.join(_TOTALS.values())} from transactions")  # noqa: S608 - constants
        for name, expected, found in zip(_TOTALS, produced, stored, strict=True):
            if found != expected:
                yield f"transactions: {name}: produced {expected:,}, stored {found or 0:,}"

    def _of_items(self, query: Query) -> Iterator[str]:
        produced = {item: (pieces, self.cents[item]) for item, pieces in self.pieces.items()}
        for table, text in ("transactions", _SOLD), ("inventory", _INVENTORY):
            stored = {item: (int(pieces), int(cents)) for item, pieces, cents in query(text)}
            yield from _unequal(f"{table}: pieces and cents of item", produced, stored)

    def _of_offsets(self, query: Query) -> Iterator[str]:
        produced = {partition: (count,) for partition, count in self.partitions.items()}
        stored = {partition: (offset,) for partition, offset in query(_OFFSETS) if offset or partition in produced}
        yield from _unequal("microbatch_offsets: next offset of partition", produced, stored)

    def _of_dead_letters(self, query: Query) -> Iterator[str]:
        produced, stored = Counter(self.spoilt), Counter(query(_DEAD_LETTERS))
        yield from _unequal("microbatch_dead_letters: orders at partition and offset", produced, stored)


def _unequal(what: str, produced: Mapping[Any, object], stored: Mapping[Any, object]) -> Iterator[str]:
    wrong = sorted(key for key in produced.keys() | stored.keys() if produced.get(key) != stored.get(key))
    for key in wrong[:_SHOWN]:
        yield f"{what} {key}: produced {produced.get(key)}, stored {stored.get(key)}"
    if len(wrong) > _SHOWN:
        yield f"{what}: {len(wrong) - _SHOWN:,} more differ"

"""The demo's spoilt orders: few, of three kinds, in every partition."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

import pytest

from consumer.demo.spoiling import Order, spoilt

LINE = {"item_id": 1, "quantity": 3, "price_cents": 100}


def encode(order: Order) -> bytes:
    return json.dumps(order).encode()


def all_spoilt(count: int) -> Iterator[tuple[int, bytes]]:
    for number in range(1, count + 1):
        if (value := spoilt({"order_id": number, "lines": [LINE, LINE]}, encode)) is not None:
            yield number, value


def fault(value: bytes) -> str:
    try:
        lines = json.loads(value)["lines"]
    except json.JSONDecodeError:
        return "cut"
    return "without lines" if not lines else f"quantities {[line['quantity'] for line in lines]}"


def test_there_are_three_kinds_of_them() -> None:
    """Of 200,000 there are 40: some end in the middle, some have no lines, some a last line with the quantity 0."""
    kinds = Counter(fault(value) for _, value in all_spoilt(200_000))
    assert kinds == {"quantities [3, 0]": 14, "cut": 13, "without lines": 13}


@pytest.mark.parametrize("partitions", [2, 3, 4])
def test_every_partition_gets_some(partitions: int) -> None:
    """They are spread over the partitions, to which orders go by their number."""
    assert {number % partitions for number, _ in all_spoilt(50_000)} == set(range(partitions))


@pytest.mark.parametrize(("count", "expected"), [(1, 0), (2000, 0), (3000, 1), (20_000, 4)])
def test_a_short_run_has_few(count: int, expected: int) -> None:
    """There is one in a few thousand orders, and none in less."""
    assert len(list(all_spoilt(count))) == expected

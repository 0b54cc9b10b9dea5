"""The demo's orders, and the transform that makes rows of each: a model for your own."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from consumer import MappingError, Record, Row

ITEMS = 500
_CUSTOMERS = 20_000
_MOST_LINES = 5
_MOST_PIECES = 9
_FIRST_MS = 1_735_689_600_000  # 2025-01-01T00:00:00Z


def orders(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """The first `count` orders of a seed, always the same: fields as in order.avsc, times all different."""
    draw = random.Random(seed).random  # noqa: S311 - made to be repeated, not to be secret
    for number in range(count):
        lines = [
            {
                "item_id": 1 + int(ITEMS * draw() * draw()),
                "quantity": 1 + int(_MOST_PIECES * draw()),
                "price_cents": 99 + 100 * int(50 * draw()),
            }
            for _ in range(1 + int(_MOST_LINES * draw()))
        ]
        customer = f"customer-{int(_CUSTOMERS * draw())}"
        yield {"order_id": 1 + number, "customer": customer, "placed_at": _FIRST_MS + 137 * number, "lines": lines}


def explode_order(record: Record) -> Iterator[Row]:
    """One row of `transactions` an order line, and what it adds to its item in `inventory`.

    Raises MappingError for an order without lines.
    """
    order = record.value
    if not order["lines"]:
        raise MappingError("an order without lines")
    for number, line in enumerate(order["lines"], 1):
        yield Row(
            "transactions",
            {
                "order_id": order["order_id"],
                "line": number,
                "placed_at": order["placed_at"],
                "customer": order["customer"],
                **line,
            },
        )
        sold = line["quantity"]
        yield Row(
            "inventory",
            {"item_id": line["item_id"], "sold": sold, "revenue_cents": sold * line["price_cents"]},
        )

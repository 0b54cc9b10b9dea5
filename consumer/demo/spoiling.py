"""Orders that no table can take, one in about 5,000: what becomes dead letters in the demo."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Order = dict[str, Any]
Encode = Callable[[Order], bytes]
_EVERY = 4999  # a prime number, so that every partition gets its share
_FIRST = 2500


def spoilt(order: Order, encode: Encode) -> bytes | None:
    """The value of an order that is to be spoilt, in three ways by turns; None: this one is to stay good."""
    turn, rest = divmod(order["order_id"], _EVERY)
    return _WAYS[turn % len(_WAYS)](order, encode) if rest == _FIRST else None


def _of_nothing(order: Order, encode: Encode) -> bytes:
    """Its last line has the quantity 0, which the table refuses; the lines before it are good, and go with it."""
    *others, last = order["lines"]
    return encode(order | {"lines": [*others, last | {"quantity": 0}]})


def _cut(order: Order, encode: Encode) -> bytes:
    """It ends in the middle, and cannot be decoded."""
    value = encode(order)
    return value[: len(value) // 2]


def _without_lines(order: Order, encode: Encode) -> bytes:
    """There is nothing that the transform could make a row of."""
    return encode(order | {"lines": []})


_WAYS = (_of_nothing, _cut, _without_lines)

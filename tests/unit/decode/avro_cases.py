"""What tests of Avro are made of: a schema of orders, and its bytes."""

from __future__ import annotations

from typing import Any

ORDER: dict[str, Any] = {
    "type": "record",
    "name": "Order",
    "fields": [
        {"name": "order_id", "type": "long"},
        {"name": "customer_id", "type": "long"},
        {"name": "quantity", "type": "int"},
        {"name": "price", "type": "double"},
        {"name": "sku", "type": "string"},
        {"name": "status", "type": "string"},
        {"name": "note", "type": "string"},
        {"name": "placed_at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}


def number(value: int) -> bytes:
    """Avro's zig-zag variable-length number."""
    raw, out = (value << 1) ^ (value >> 63), bytearray()
    while raw > 127:
        out.append(raw & 127 | 128)
        raw >>= 7
    return bytes([*out, raw])


def text(value: bytes) -> bytes:
    """Avro's bytes or string."""
    return number(len(value)) + value

"""What the programs share that write by COPY: rows of orders from decoded JSON."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import psycopg

BATCH = 5000
_TYPES = ["int8", "int8", "int4", "float8", "text", "text", "text", "timestamptz"]


def copy(connection: psycopg.Connection, values: Iterable[dict[str, Any]]) -> None:
    """Append the orders to the table, in a transaction of their own."""
    statement = "copy orders from stdin (format binary)"
    with connection.transaction(), connection.cursor() as cursor, cursor.copy(statement) as channel:
        channel.set_types(_TYPES)
        for value in values:
            *row, placed_at = value.values()
            channel.write_row([*row, datetime.fromisoformat(placed_at)])

"""Whether what a decoder says that it knows of values is true."""

from __future__ import annotations

from consumer.decode import Fields
from consumer.sinks.conversion import checked
from consumer.table import Kind


def require_known(fields: Fields) -> None:
    """Raises AssertionError, or RejectedError, when a value is not what is said to be known of it."""
    for index, column in enumerate(fields.known):
        values = [row[index] for row in fields.rows]
        if column is not None and column.kind is Kind.TEXT:  # of text NUL and surrogates are left open
            assert set(map(type, values)) <= {str, type(None) if column.nullable else str}
        elif column is not None:
            assert checked(column, values) is values

"""What isolation has given up is not committed, whatever the breaker would say of what it has found."""

from __future__ import annotations

import pytest

from consumer.errors import HeldError
from tests.unit.test_writer import batch_of, fresh, joined, letters, next_offset, stored


def test_a_batch_whose_isolation_was_given_up_keeps_nothing() -> None:
    """Records that make no row stand between those at fault: to isolation, which sees rows only, they are in a row."""
    database = fresh()
    writer, _ = joined(database, max_consecutive=2)
    with pytest.raises(HeldError):
        writer.write(batch_of(b"5000", b"-", b"5001", b"-", b"5002", b"-", b"1"))
    assert (stored(database), letters(database), next_offset(database)) == ([], {}, 0)

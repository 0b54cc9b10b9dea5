"""A sample of the live topics decoded, mapped and written, in a transaction that is rolled back."""

from __future__ import annotations

from enum import StrEnum


class Begin(StrEnum):
    """Where the sample of each partition begins. Where that is the end: as much as is wanted before it."""

    STORED = "stored"  # where the group goes on, or would start
    EARLIEST = "earliest"
    LATEST = "latest"

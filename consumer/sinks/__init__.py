"""Where rows go: the Sink protocol. Driver errors are translated in the sinks and nowhere else.

One transaction is `begin`, `apply` (as often as needed), `commit`; or `rollback` at any point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from consumer.errors import TopicPartition


@dataclass(frozen=True, slots=True)
class Fence:
    """What this instance believes of a partition; the transaction holds only while the database agrees."""

    epoch: int
    next_offset: int


class Sink(Protocol):
    """A database that keeps rows and offsets in one transaction."""

    def claim(self, starts: Mapping[TopicPartition, int]) -> dict[TopicPartition, Fence]:
        """Take the partitions over, whoever had them; `starts` is used where no offset is stored yet.

        Raises UnavailableError, FatalError.
        """

    def confirm(self, fences: Mapping[TopicPartition, Fence]) -> dict[TopicPartition, Fence]:
        """Claim again only those that are still ours: tells how a COMMIT without an answer ended.

        Partitions missing from the answer belong to somebody else. Raises UnavailableError, FatalError.
        """

    def begin(self, fences: Mapping[TopicPartition, Fence]) -> None:
        """Open the transaction and lock the offsets. Raises FencedError, UnavailableError, FatalError."""

    def apply(self, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Write all rows, or none of them and raise RejectedError; the transaction stays usable."""

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Store the offsets and commit. After an UnavailableError the outcome is unknown: `confirm` tells."""

    def rollback(self) -> None:
        """End the transaction, if one is open, without a trace."""

    def close(self) -> None:
        """Release the connection; safe to call twice."""

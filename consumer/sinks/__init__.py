"""Where rows go: the Sink protocol. Driver errors are translated in the sinks and nowhere else.

One transaction is `begin`, `apply` (as often as needed), `commit`; or `rollback` at any point. All calls but
`interrupt` come from one thread. After any UnavailableError the transaction is gone and the next call connects again.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from consumer.errors import TopicPartition
from consumer.table import Table, TableRows


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition's next record is, and in which log: offsets of another cluster or topic mean nothing."""

    next_offset: int
    cluster_id: str
    topic_id: str


@dataclass(frozen=True, slots=True)
class Fence:
    """What this instance believes of a partition; a transaction holds only while the database agrees."""

    epoch: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition taken over: the epoch under which it is ours, and the position that the database holds."""

    epoch: int
    position: Position


@dataclass(frozen=True, slots=True)
class StoredOffset:
    """One row of the offset table, for people. `updated_at` is ISO 8601 in UTC."""

    position: Position
    epoch: int
    owner: str
    updated_at: str


class Sink(Protocol):
    """A database that keeps rows, and offsets with them in one transaction.

    `transactional` False: it keeps no offsets, delivery is at least once. `claim` then answers with the given starts
    and epoch 0, `confirm` with what it is given, `begin` and `commit` do not look at offsets.
    """

    transactional: bool

    def describe(self, table: str) -> Table:
        """The table as it is now. Raises FatalError when there is none, UnavailableError."""

    def claim(self, starts: Mapping[TopicPartition, Position]) -> dict[TopicPartition, Claim]:
        """Take the partitions over, whoever had them, and say where they stand; all or none.

        `starts` is stored where there is no offset yet; a stored position is answered as it is. A former owner that
        blocks longer than 2 s loses its connection. Raises UnavailableError, FatalError.
        """

    def confirm(self, fences: Mapping[TopicPartition, Fence]) -> dict[TopicPartition, Fence]:
        """Say which of these are still ours, by epoch, and where they stand: how a COMMIT without an answer ended.

        Waits until no transaction holds them, and ends the session of one that does as `claim` does. Changes nothing:
        when its own answer is lost it is asked again. Partitions missing from the answer belong to somebody else now.
        Raises UnavailableError, FatalError.
        """

    def begin(self, fences: Mapping[TopicPartition, Fence]) -> None:
        """Open the transaction and lock the offsets, in order of topic and partition.

        Raises FencedError with the partitions whose epoch or next offset differ (the transaction is over then),
        UnavailableError, FatalError.
        """

    def apply(self, rows: Sequence[TableRows]) -> None:
        """Write all of it in order, or nothing of it and raise RejectedError; the transaction goes on either way.

        Refusals that a database would make only at COMMIT (deferred constraints) come here. May be called again with
        later records. Raises UnavailableError, FatalError: the transaction is over then.
        """

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Store the offsets and commit. After an UnavailableError the outcome is unknown: `confirm` tells."""

    def rollback(self) -> None:
        """End the transaction, if one is open, without a trace. Never raises."""

    def offsets(self) -> dict[TopicPartition, StoredOffset]:
        """What is stored for this group, of all topics. Raises UnavailableError, FatalError."""

    def reset(self, positions: Mapping[TopicPartition, Position]) -> None:
        """Store these positions and raise each epoch, so that a running owner is fenced.

        Raises UnavailableError, FatalError.
        """

    def check(self, tables: Collection[str]) -> list[str]:
        """What would fail later: missing privileges, keys that are not unique, unsafe server settings.

        One sentence each, with what to do. Raises UnavailableError, FatalError.
        """

    def interrupt(self) -> None:
        """From another thread: break the connection; a blocked call ends with UnavailableError. Never raises."""

    def close(self) -> None:
        """Release the connection; safe to call twice."""

"""Where rows go: the Sink protocol. Driver errors are translated in the sinks and nowhere else.

One transaction is `begin`, `apply` (as often as needed), `commit`, or `transact` for all three; or `rollback` at any
point. All calls but `prepare` and `interrupt` come from one thread. After any UnavailableError the transaction is gone;
the next call connects again.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from consumer.errors import Failure, TopicPartition
from consumer.letter import OPEN, Coordinates, DeadLetter, Evidence, State
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


PENDING_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Isolated:
    """What isolation found: the records at fault, by ascending ordinal; all others are written.

    `finished` False: it gave up, because more in a row were at fault than it was told to bear; what it has written
    is not to be committed.
    """

    failures: list[Failure]
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters: those for which all that is given holds. Times are aware, of the first failure.

    `coordinates`: exactly these.
    """

    states: tuple[State, ...] = OPEN
    topic: str | None = None
    partition: int | None = None
    stage: str | None = None
    reason: str | None = None  # part of the evidence's reason, whatever its case
    sqlstate: str | None = None
    table: str | None = None
    constraint: str | None = None
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None
    coordinates: tuple[Coordinates, ...] | None = None


@dataclass(frozen=True, slots=True)
class Tally:
    """How many dead letters are alike, and their first and last offsets in time order; `first`, `last` aware UTC."""

    count: int
    topic: str
    state: State
    stage: str
    error: str
    sqlstate: str | None
    table: str | None
    constraint: str | None
    first: datetime.datetime
    last: datetime.datetime


class Letters(Protocol):
    """The table of dead letters of one group, on the sink's own connection.

    `keep`, `lock` and `settle` belong to the sink's open transaction; the others are a transaction each, and must not
    be called while one is open. All raise UnavailableError, FatalError.
    """

    def keep(self, letters: Sequence[DeadLetter]) -> None:
        """Add these. One with the same coordinates as a kept one takes its place: its record was read again."""

    def lock(self, coordinates: Collection[Coordinates]) -> set[Coordinates]:
        """Those of them that are still open (see letter.OPEN), held until the transaction ends."""

    def settle(self, replayed: Collection[Coordinates], failed: Mapping[Coordinates, Evidence]) -> None:
        """After a replay: the one are done with, the others keep their place with new evidence; both count one more."""

    def pending(self, partitions: Collection[TopicPartition], most: int, size: int = PENDING_BYTES) -> list[DeadLetter]:
        """Those of these partitions that their topic does not have yet, by coordinates: at most `most`, and no more
        than one beyond `size` bytes of keys and values."""

    def count_pending(self, partitions: Collection[TopicPartition]) -> int:
        """How many that are in all."""

    def published(self, coordinates: Collection[Coordinates], *, empty: bool = False) -> None:
        """The topic has these, as far as they are pending. `empty`: key, value and headers are not kept any longer."""

    def select(self, which: Selection, most: int, after: Coordinates | None = None) -> list[DeadLetter]:
        """By coordinates, those beyond `after`, at most `most`."""

    def tally(self, which: Selection) -> list[Tally]:
        """How many of which kind, most first."""

    def discard(self, which: Selection) -> int:
        """Mark these as not needed any longer, as far as they are open. Returns how many."""


class Sink(Protocol):
    """A database that keeps rows, and offsets and dead letters with them in one transaction.

    `transactional` False: it keeps no offsets and no dead letters, delivery is at least once. `claim` then answers with
    the given starts and epoch 0, `confirm` with what it is given, `begin` and `commit` do not look at offsets; nothing
    of `letters` is called.
    """

    transactional: bool
    letters: Letters

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

    def prepare(self, rows: Sequence[TableRows]) -> None:
        """Do now what `apply` would have to do with these rows before it sends them; refuses nothing, may do nothing.

        May be called from another thread, at any time.
        """

    def apply(self, rows: Sequence[TableRows]) -> None:
        """Write all of it in order, or nothing of it and raise RejectedError; the transaction goes on either way.

        Refusals that a database would make only at COMMIT (deferred constraints) come here. May be called again with
        later records. Raises UnavailableError, FatalError: the transaction is over then.
        """

    def isolate(self, rows: Sequence[TableRows], patience: int | None = None) -> Isolated:
        """Write all records of `rows` but those at fault, in order; called after `apply` refused the same rows.

        A record's rows in all tables are written together or not at all. It is at fault if it is refused alone, with
        the ones before it that are not at fault written; for rows that are folded by key (sums, last one wins) ranges
        of records are tried as a whole, so that a batch is judged by its net effect. `patience`: give up when more
        records in a row are at fault (ordinals that have no rows do not count); None: never.
        Raises UnavailableError, FatalError: the transaction is over then.
        """

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        """Store the offsets and commit. After an UnavailableError the outcome is unknown: `confirm` tells."""

    def transact(
        self,
        fences: Mapping[TopicPartition, Fence],
        rows: Sequence[TableRows],
        next_offsets: Mapping[TopicPartition, int],
        sent: Callable[[], None],
    ) -> float:
        """`begin`, `apply` once and `commit`, in as few round trips as can be; raises what they raise.

        After a RejectedError the transaction is open, as after a refused `apply`: `isolate` may follow. `sent` is
        called when the rows are with the database and its answer is to be waited for; or before. Returns how many
        seconds the commit took, as far as that can be told.
        """

    def rollback(self) -> None:
        """End the transaction, if one is open, without a trace. Never raises."""

    def offsets(self) -> dict[TopicPartition, StoredOffset]:
        """What is stored for this group, of all topics. Raises UnavailableError, FatalError."""

    def reset(self, positions: Mapping[TopicPartition, Position]) -> None:
        """Store these positions and raise each epoch, so that a running owner is fenced.

        Open dead letters from there on are discarded, because their records are read again; not those of a topic that
        was created anew since.
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

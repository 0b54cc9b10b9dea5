"""The exception tree: each class is one instruction to the pipeline.

MicrobatchError
├── ConfigError        before start: exit 2
├── RecordError        this record is at fault
│   ├── DecodeError    its bytes are not what the format says
│   ├── MappingError   it cannot become rows
│   └── RejectedError  the sink refused its data
├── UnavailableError   the world is at fault: hold, retry the same batch
├── HeldError          too many records are at fault: keep nothing, hold until somebody looked
├── FencedError        another instance owns these partitions: drop their records
└── FatalError         the set-up is at fault: stop, commit nothing, exit 1
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

TopicPartition = tuple[str, int]


class MicrobatchError(Exception):
    """The root of every error that this package raises on purpose."""


class ConfigError(MicrobatchError):
    """A setting is wrong; found before anything starts.

    `field` is its path in the file (`batch.max_records`), `value` what was given (never a secret), `reason` one
    sentence that says why and what to do.
    """

    def __init__(self, field: str, value: object, reason: str) -> None:
        shown = "" if value is None else f" (got {value!r})"
        super().__init__(f"{field}: {reason}{shown}")
        self.field, self.value, self.reason = field, value, reason


class RecordError(MicrobatchError):
    """One record cannot be handled. `reason` never holds its values."""

    stage = "record"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DecodeError(RecordError):
    """The bytes are not what the format says."""

    stage = "decode"


class MappingError(RecordError):
    """The decoded record cannot become a row."""

    stage = "map"


class RejectedError(RecordError):
    """The sink refused the data; `sqlstate` (and table, column, constraint) say why, as far as the database told."""

    stage = "write"

    def __init__(
        self,
        reason: str,
        sqlstate: str | None = None,
        table: str | None = None,
        column: str | None = None,
        constraint: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.sqlstate, self.table, self.column, self.constraint = sqlstate, table, column, constraint


@dataclass(slots=True)  # frozen, it takes twice as long to make, and a batch may have thousands
class Failure:
    """A record that cannot be handled, by its index in the batch, and why."""

    ordinal: int
    error: RecordError

    def __post_init__(self) -> None:
        # Frames hold the batch, and hold this: a cycle that keeps all its records until garbage is collected.
        self.error.__traceback__ = self.error.__context__ = None


class UnavailableError(MicrobatchError):
    """The sink, Kafka, or a schema registry cannot serve now; the same work is to be tried again.

    `retry_after` is the wait in seconds that the other side asked for, if it did. `smaller`: the work took too long,
    and half of it may do.
    """

    def __init__(self, reason: str, retry_after: float | None = None, *, smaller: bool = False) -> None:
        super().__init__(reason)
        self.retry_after, self.smaller = retry_after, smaller


class HeldError(MicrobatchError):
    """More records are at fault than the limits allow: nothing of the batch is kept, an operator must look."""


class FencedError(MicrobatchError):
    """Another instance owns `partitions`; their records must be dropped here, nothing of them committed."""

    def __init__(self, partitions: Collection[TopicPartition]) -> None:
        super().__init__(f"owned by another instance: {sorted(partitions)}")
        self.partitions = frozenset(partitions)


class FatalError(MicrobatchError):
    """The set-up is at fault; `hint` says what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint

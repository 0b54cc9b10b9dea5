"""The exception tree: each class is one instruction to the pipeline.

MicrobatchError
├── ConfigError        before start: exit 2
├── RecordError        this record is at fault
│   ├── DecodeError
│   ├── MappingError
│   └── RejectedError  the sink refused its data
├── UnavailableError   the world is at fault: hold, retry the same batch
├── FencedError        another instance owns these partitions: drop their records
└── FatalError         the set-up is at fault: stop, commit nothing, exit 1
"""

from __future__ import annotations

from collections.abc import Collection

TopicPartition = tuple[str, int]


class MicrobatchError(Exception):
    """The root of every error that this package raises on purpose."""


class ConfigError(MicrobatchError):
    """A setting is wrong; found before anything starts."""

    def __init__(self, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field}: {reason} (got {value!r})")
        self.field, self.value, self.reason = field, value, reason


class RecordError(MicrobatchError):
    """One record cannot be handled. `reason` never holds its values."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class DecodeError(RecordError):
    """The bytes are not what the format says."""


class MappingError(RecordError):
    """The decoded record cannot become a row."""


class RejectedError(RecordError):
    """The sink refused the data; `sqlstate` says why, if the database gave one."""

    def __init__(self, reason: str, sqlstate: str | None = None) -> None:
        super().__init__(reason)
        self.sqlstate = sqlstate


class UnavailableError(MicrobatchError):
    """The sink cannot take the batch now; the same batch is to be tried again."""


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

"""A dead letter as the Kafka record that it was."""

from __future__ import annotations

from dataclasses import dataclass

from consumer.letter import DeadLetter
from consumer.record import Headers

_UNREADABLE = "name is not UTF-8"  # how the evidence tells of headers that the client could not read


def headers_lost(letter: DeadLetter) -> bool:
    """Whether the record had headers that nobody could read: they are only in its topic."""
    return letter.headers is None and _UNREADABLE in letter.evidence.reason


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """See record.Message: with the coordinates, bytes and time that the record had."""

    letter: DeadLetter

    def topic(self) -> str:
        """See Message."""
        return self.letter.topic

    def partition(self) -> int:
        """See Message."""
        return self.letter.partition

    def offset(self) -> int:
        """See Message."""
        return self.letter.offset

    def key(self) -> bytes | None:
        """See Message."""
        return self.letter.key

    def value(self) -> bytes | None:
        """See Message."""
        return self.letter.value

    def headers(self) -> Headers | None:
        """See Message. Raises SystemError where the client did."""
        if headers_lost(self.letter):
            raise SystemError(f"a header's {_UNREADABLE}")
        return self.letter.headers

    def timestamp(self) -> tuple[int, int]:
        """See Message.timestamp."""
        return self.letter.timestamp

    def __len__(self) -> int:
        """See Message.__len__."""
        return len(self.letter.value or b"")

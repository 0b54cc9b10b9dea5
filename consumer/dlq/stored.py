"""A dead letter as the Kafka record that it was."""

from __future__ import annotations

from dataclasses import dataclass

from consumer.letter import DeadLetter
from consumer.record import Headers


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
        if self.letter.evidence.headers_lost:
            raise SystemError("a header's name is not UTF-8")
        return self.letter.headers

    def timestamp(self) -> tuple[int, int]:
        """See Message.timestamp."""
        return self.letter.timestamp

    def __len__(self) -> int:
        """See Message.__len__."""
        return len(self.letter.value or b"")

"""When too many records are at fault: a fault of the set-up then, most likely, and not of the records."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum, auto

from consumer.errors import HeldError

WINDOW = 1000
PROBE = 100


class _Mode(Enum):
    CLOSED = auto()  # the limits hold
    OPEN = auto()  # nothing is to be tried
    PROBING = auto()  # a few records show whether the fault is gone
    ACCEPTING = auto()  # somebody looked: the next batch may be as bad as it is


class Breaker:
    """Counts records at fault, in the order in which they are handled.

    It opens at more than `max_consecutive` without a good one between them, or at more than the share `max_ratio` of
    the last records, 1,000 of them at least. Open, it is probed with at most `PROBE` records: it closes if they are
    not as bad as that.
    """

    def __init__(self, max_consecutive: int, max_ratio: float) -> None:
        self._max_consecutive, self._max_ratio = max_consecutive, max_ratio
        self._mode = _Mode.CLOSED
        self._in_a_row = 0
        self._lately: deque[tuple[int, int]] = deque()  # batches: records, and how many of them at fault

    @property
    def open(self) -> bool:
        """Whether nothing is to be tried until `probe` or `accept`."""
        return self._mode is _Mode.OPEN

    @property
    def most(self) -> int | None:
        """With how many records the next try is to be made; None: with all there are."""
        return PROBE if self._mode is _Mode.PROBING else None

    @property
    def patience(self) -> int | None:
        """After how many more in a row isolation need not go on; None: always to the end."""
        return None if self._mode is _Mode.ACCEPTING else max(0, self._max_consecutive - self._in_a_row)

    def probe(self) -> None:
        """Half-open it: the next records decide."""
        if self._mode is _Mode.OPEN:
            self._mode = _Mode.PROBING

    def accept(self) -> None:
        """Let the next batch pass as it is, and count anew after it."""
        if self._mode is not _Mode.CLOSED:
            self._mode = _Mode.ACCEPTING

    def judge(self, count: int, failed: Iterable[int], finished: bool = True) -> None:
        """Say whether the failures among `count` records, by ascending ordinal, may be kept; nothing is counted yet.

        `finished` False: isolation lost its patience. Raises HeldError, and is open then.
        """
        failed = list(failed)
        if self._mode is _Mode.ACCEPTING or (not failed and finished):
            return
        longest = max(_runs(count, failed, self._in_a_row))
        if longest > self._max_consecutive or not finished:
            self._trip(f"more than {self._max_consecutive} records in a row (dead_letter.max_consecutive)")
        seen, bad = count + sum(n for n, _ in self._lately), len(failed) + sum(n for _, n in self._lately)
        if seen >= WINDOW and bad > self._max_ratio * seen:
            self._trip(f"{bad} of the last {seen} records, more than {self._max_ratio:.0%} (dead_letter.max_ratio)")
        if self._mode is _Mode.PROBING and (len(failed) == count or len(failed) > self._max_ratio * count):
            self._trip(f"still {len(failed)} of {count} records tried")

    def passed(self, count: int, failed: Iterable[int]) -> None:
        """Count the failures in: they are kept."""
        failed = list(failed)
        *_, self._in_a_row = _runs(count, failed, self._in_a_row)
        self._lately.append((count, len(failed)))
        while sum(n for n, _ in self._lately) - self._lately[0][0] >= WINDOW:
            self._lately.popleft()
        if self._mode is not _Mode.CLOSED:
            self._mode, self._in_a_row = _Mode.CLOSED, 0
            self._lately.clear()

    def _trip(self, what: str) -> None:
        self._mode = _Mode.OPEN
        raise HeldError(f"{what} cannot be written; nothing of this batch is kept")


def _runs(count: int, failed: list[int], before: int) -> list[int]:
    """The lengths of the rows of failures, the first one after `before` others; the last is the one still going on."""
    runs, last = [before], -1
    for ordinal in failed:
        if ordinal != last + 1:
            runs.append(0)
        runs[-1] += 1
        last = ordinal
    if last != count - 1:
        runs.append(0)
    return runs

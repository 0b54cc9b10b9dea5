"""How long to wait before trying again: exponential with full jitter."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass


def delay(attempt: int, random: Callable[[], float] = random.random, base: float = 0.1, cap: float = 30.0) -> float:
    """Seconds before the try after `attempt` failures: evenly between 0 and base * 2**attempt, at most `cap`.

    Full jitter, so that many members do not come back to a database at the same moment
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    return random() * min(cap, base * 2.0 ** min(attempt, 30))


@dataclass(slots=True)
class Backoff:
    """When one kind of work may be tried again, after how many failures in a row. Monotonic seconds.

    `cap` is the longest wait between two tries, `since` when the first of these failures was.
    """

    cap: float = 30.0
    failures: int = 0
    since: float = 0.0
    until: float = 0.0

    def failed(self, now: float, retry_after: float | None = None) -> None:
        """It failed again; `retry_after` is the wait that the other side asked for."""
        if not self.failures:
            self.since = now
        self.failures += 1
        self.until = now + (delay(self.failures, cap=self.cap) if retry_after is None else retry_after)

    def succeeded(self) -> None:
        """It works."""
        self.failures, self.since, self.until = 0, 0.0, 0.0

"""How long to wait before trying again: exponential with full jitter."""

from __future__ import annotations

import random
from collections.abc import Callable


def delay(attempt: int, random: Callable[[], float] = random.random, base: float = 0.1, cap: float = 30.0) -> float:
    """Seconds before the try after `attempt` failures: evenly between 0 and base * 2**attempt, at most `cap`.

    Full jitter, so that many members do not come back to a database at the same moment
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
    """
    return random() * min(cap, base * 2.0 ** min(attempt, 30))

"""Waiting for a condition, never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")
_LOOK_SECONDS = 0.03


class OverdueError(AssertionError):
    """What was waited for did not happen."""


def until(condition: Callable[[], _T], what: str, seconds: float = 60) -> _T:
    """Return the first true answer of `condition`. Raises OverdueError, which says `what` was waited for."""
    end = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > end:
            raise OverdueError(f"not within {seconds:.0f} s: {what}")
        time.sleep(_LOOK_SECONDS)
    return answer

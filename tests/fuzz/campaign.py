"""Fuzzing in a process of its own: where it dies or is wrong, the seed and the fewest inputs that show it are told."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.fuzz.inputs import Input, life
from tests.fuzz.lives import CASES

_TAIL = 2000  # characters of what the process said
_SECONDS = 40  # for finding the fewest inputs
_ROOT = Path(__file__).parents[2]


def run(case: str, dsn: str, seed: int, inputs: int, progress: Callable[[int], None] = lambda done: None) -> int:
    """Fuzz one case with at least so many inputs, told to `progress` as they are done. Returns how many.

    Raises AssertionError, which names the seed and shows the inputs.
    """
    at, done = seed, 0
    with tempfile.TemporaryFile() as errors:
        command = _command(case, dsn, seed, inputs)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, cwd=_ROOT) as child:
            assert child.stdout is not None
            for line in child.stdout:
                at, done = map(int, line.split())
                progress(done)
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    assert child.returncode == 0, _told(case, dsn, at, f"ended with {child.returncode}: ...{said[-_TAIL:]}")
    return done


def _command(case: str, dsn: str, seed: int, inputs: int | str, places: Sequence[int] = ()) -> list[str]:
    return [sys.executable, "-m", "tests.fuzz.child", case, dsn, *map(str, (seed, inputs, *places))]


def _told(case: str, dsn: str, seed: int, what: str) -> str:
    inputs = [message for batch in life(CASES[case].payload, seed) for message in batch]
    places: Sequence[int] = range(len(inputs))
    if not _fails(case, dsn, seed, places):
        return f"case {case}, seed {seed}, which alone does not fail again; {what}"
    places = _fewest(places, lambda chosen: _fails(case, dsn, seed, chosen))
    database = "sqlite" if dsn == "sqlite" else "DSN"
    again = " ".join(["python -m tests.fuzz.child", case, database, str(seed), "-", *map(str, places)])
    return "\n".join([f"case {case}, seed {seed}; again: {again}", *(_shown(inputs[at]) for at in places), what])


def _fails(case: str, dsn: str, seed: int, places: Sequence[int]) -> bool:
    command = _command(case, dsn, seed, "-", places)
    return subprocess.run(command, capture_output=True, check=False, cwd=_ROOT).returncode != 0


def _fewest(places: Sequence[int], fails: Callable[[Sequence[int]], bool]) -> Sequence[int]:
    """Leave out ever smaller parts, as long as it still fails."""
    size, end = len(places) // 2, time.monotonic() + _SECONDS
    while size and time.monotonic() < end:
        start = 0
        while start < len(places) and time.monotonic() < end:
            left = [*places[:start], *places[start + size :]]
            if left and fails(left):
                places = left
            else:
                start += size
        size //= 2
    return places


def _shown(message: Input) -> str:
    parts = (message.number, message.place, message.body, message.label, message.timestamp(), message.extra)
    return "  " + ", ".join(repr(part)[:300] for part in parts) + (", unreadable headers" if message.unreadable else "")

"""Campaigns in rounds, each from a seed of its own: one in `make test`, as many as it takes in `make campaign`.

With MICROBATCH_CAMPAIGN set a campaign goes on where it was ended: what it has done is in .cache/campaign.
MICROBATCH_FAULTS_SEED repeats the choices of a run (their timing is the machine's).
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

LONG = bool(os.environ.get("MICROBATCH_CAMPAIGN"))
SEED = int(os.environ.get("MICROBATCH_FAULTS_SEED") or random.randrange(2**32))
_FOLDER = Path(__file__).parents[2] / ".cache" / "campaign"


class Rounds:
    """The rounds of a campaign: one of `short` faults, or until there are `long` in all. Counts are printed."""

    def __init__(self, name: str, short: int, long: int) -> None:
        self._name, self._goal, self._size = name, long if LONG else short, short
        self._file = _FOLDER / f"{name}.json"
        self._seed, self._round = SEED, 0
        self._counts: Counter[str] = Counter()
        if LONG and self._file.exists():
            kept = json.loads(self._file.read_text())
            self._seed, self._round, self._counts = kept["seed"], kept["round"], Counter(kept["counts"])
            if self._counts.total() >= self._goal:  # that one is done: a new one
                self._seed, self._round, self._counts = SEED, 0, Counter()

    def __iter__(self) -> Iterator[Round]:
        while self._counts.total() < self._goal:
            size = min(self._size, self._goal - self._counts.total())
            round_ = Round(f"{self._seed} {self._name} {self._round}", size)
            yield round_
            self._counts += round_.counts
            self._round += 1
            self._keep()
            sys.stdout.write(f"{self._name}, round {self._round} of seed {self._seed}: {dict(self._counts)}\n")

    def _keep(self) -> None:
        if not LONG:
            return
        _FOLDER.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps({"seed": self._seed, "round": self._round, "counts": self._counts}))
        part.replace(self._file)


class Round:
    """So many faults (`size`), chosen by `random`; `counts` is what was done, by kind."""

    def __init__(self, seed: str, size: int) -> None:
        self.seed, self.size, self.random = seed, size, random.Random(seed)
        self.counts: Counter[str] = Counter()

    def kinds(self, kinds: Sequence[str]) -> list[str]:
        """As many as there are to be, each kind about as often as the others, in any order."""
        first = self.random.randrange(len(kinds))
        chosen = [kinds[(first + i) % len(kinds)] for i in range(self.size)]
        self.random.shuffle(chosen)
        return chosen

    @contextmanager
    def told(self) -> Iterator[None]:
        """A failure in here says the seed."""
        try:
            yield
        except AssertionError as error:
            raise AssertionError(f"in the round of seed `{self.seed}`: {error}") from error

"""Dead letters written after all: lot by lot, through the same mapper and bulk path, a transaction each.

What became of a letter is stored in the transaction that writes its rows, so a second replay does nothing, and one
that was interrupted is gone on with by another.
"""

from __future__ import annotations

import itertools
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from consumer.backoff import delay
from consumer.dlq.fix import Fixer
from consumer.errors import FatalError, MicrobatchError, RecordError, UnavailableError
from consumer.letter import Coordinates, DeadLetter, Evidence, State, evidence_of
from consumer.sinks import Letters, Selection, Sink
from consumer.sinks.transaction import transaction

LOT = 1000
_FIRST = 10  # of the first lot, which tells how large they are
_LOT_BYTES = 16 << 20
_TRIES = 6
Delivery = Callable[[Sequence[int]], Mapping[int, MicrobatchError]]


class Destination(Protocol):
    """Where a lot goes."""

    def prepare(self, letters: Sequence[DeadLetter]) -> Delivery:
        """What needs no transaction.

        What it returns is called in one, with those that are to go, by their place in `letters`; it answers with the
        errors of those that did not get there, and may be called again.
        """


class Keeper(Protocol):
    """Where dead letters are kept."""

    def settle(self, letters: Sequence[DeadLetter], deliver: Delivery) -> Lot:
        """Deliver those that are still open, and store what became of them.

        Raises UnavailableError, FatalError.
        """


@dataclass(frozen=True, slots=True)
class Lot:
    """What became of some letters, by their place: those that were still open, and the errors among them.

    A RecordError: it failed again. Any other: it is left as it was.
    """

    kept: Sequence[int]
    errors: Mapping[int, MicrobatchError]


@dataclass(slots=True)
class Reasons:
    """Why some did not get there: how many, and the first of them."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, error: MicrobatchError, where: str) -> None:
        """One more."""
        stage = f"{error.stage}: " if isinstance(error, RecordError) else ""
        hint = f": {error.hint}" if isinstance(error, FatalError) else ""
        self.counts[f"{stage}{error}{hint}"] += 1
        self.first.setdefault(f"{stage}{error}{hint}", where)


@dataclass(slots=True)
class Report:
    """What a replay did: `failed` again and keep their place, `left` were not tried, `absent` were done already."""

    replayed: int = 0
    absent: int = 0
    failed: Reasons = field(default_factory=Reasons)
    left: Reasons = field(default_factory=Reasons)

    def add(self, letters: Sequence[DeadLetter], lot: Lot) -> None:
        """Count a lot."""
        self.replayed += len(lot.kept) - len(lot.errors)
        self.absent += len(letters) - len(lot.kept)
        for place, error in lot.errors.items():
            reasons = self.failed if isinstance(error, RecordError) else self.left
            reasons.add(error, name_of(letters[place].coordinates))


def replay(
    lots: Iterable[Sequence[DeadLetter]],
    keeper: Keeper,
    destination: Destination,
    report: Report,
    fixer: Fixer | None = None,
) -> None:
    """Replay them, adding to the `report` lot by lot. Raises UnavailableError, FatalError: what is done stays done."""
    for letters in lots:
        report.add(letters, keeper.settle(letters, _prepared(letters, destination, fixer)))


def lots_of(letters: Letters, which: Selection, most: int = LOT) -> Iterator[list[DeadLetter]]:
    """Those of the table, in order of coordinates, each once; fewer at a time where they are large."""
    after, size = None, min(most, _FIRST)
    while lot := letters.select(which, size, after):
        yield lot
        after = lot[-1].coordinates
        large = sum(len(letter.value or b"") for letter in lot) > _LOT_BYTES
        size = max(1, size // 2) if large else min(most, size * 2)


def name_of(coordinates: Coordinates) -> str:
    """How they are printed, and typed."""
    return "/".join(map(str, coordinates))


class TableKeeper:
    """The table of a sink: it is locked, written and settled in one transaction. `dry_run`: which is rolled back."""

    def __init__(self, sink: Sink, *, dry_run: bool = False, pause: Callable[[float], None] = time.sleep) -> None:
        self._sink, self._dry_run, self._pause = sink, dry_run, pause
        self._life, self._lots = uuid.uuid4().hex[:8], itertools.count(1)

    def settle(self, letters: Sequence[DeadLetter], deliver: Delivery) -> Lot:
        """See Keeper.settle. Tried again a few times: what an unanswered COMMIT did is known by then."""
        for attempt in itertools.count(1):
            try:
                return self._settled(letters, deliver)
            except UnavailableError:
                if attempt == _TRIES:
                    raise
            self._pause(delay(attempt, cap=5.0))
        raise AssertionError

    def _settled(self, letters: Sequence[DeadLetter], deliver: Delivery) -> Lot:
        with transaction(self._sink, keep=not self._dry_run):
            held = self._sink.letters.lock([letter.coordinates for letter in letters])
            kept = [place for place, letter in enumerate(letters) if letter.coordinates in held]
            errors = deliver(kept)
            done = [letters[place].coordinates for place in kept if place not in errors]
            self._sink.letters.settle(done, evidence_again(letters, errors, self._name()))
        return Lot(kept, errors)

    def _name(self) -> str:
        return f"replay-{self._life}-{next(self._lots)}"


def evidence_again(
    letters: Sequence[DeadLetter], errors: Mapping[int, MicrobatchError], batch: str
) -> dict[Coordinates, Evidence]:
    """The new evidence of those that failed again."""
    return {
        letters[place].coordinates: _evidence(letters[place], error, batch)
        for place, error in errors.items()
        if isinstance(error, RecordError)
    }


def _evidence(letter: DeadLetter, error: RecordError, batch: str) -> Evidence:
    found = evidence_of(error, batch, letter.evidence.attempts + 1)
    return replace(found, headers_lost=letter.evidence.headers_lost)


def _prepared(letters: Sequence[DeadLetter], destination: Destination, fixer: Fixer | None) -> Delivery:
    """The delivery of those that have their payload and can be fixed; the others answer with why not."""
    errors: dict[int, MicrobatchError] = {}
    ready: dict[int, DeadLetter] = {}
    for place, letter in enumerate(letters):
        try:
            _require_payload(letter)
            ready[place] = fixer.fixed(letter) if fixer else letter
        except (RecordError, FatalError) as error:
            errors[place] = error
    inner = destination.prepare(list(ready.values()))
    numbers = {place: number for number, place in enumerate(ready)}
    places = list(ready)

    def deliver(kept: Sequence[int]) -> dict[int, MicrobatchError]:
        found = inner([numbers[place] for place in kept if place in numbers]) if ready else {}
        unfit = {place: errors[place] for place in kept if place in errors}
        return unfit | {places[number]: error for number, error in found.items()}

    return deliver


def _require_payload(letter: DeadLetter) -> None:
    if letter.state is State.PUBLISHED and (letter.key, letter.value, letter.headers) == (None, None, None):
        hint = "Replay it with --from-topic."
        raise FatalError("the table has no payload of it any longer (dead_letter.keep_payload: false)", hint)

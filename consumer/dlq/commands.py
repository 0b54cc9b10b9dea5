"""What `microbatch dlq` does: from settings to the parts that do it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Any

from consumer.config import Settings
from consumer.deadletter.opening import open_outbox
from consumer.dlq.back import SourceTopics, require_topics
from consumer.dlq.choosing import fits, unlimited
from consumer.dlq.fix import open_fixer
from consumer.dlq.replay import Keeper, Reasons, Report, TableKeeper, lots_of, replay
from consumer.dlq.tables import open_destination, require_guard
from consumer.dlq.topic import DeadLetterReader, TopicKeeper, open_reader
from consumer.errors import ConfigError
from consumer.letter import Coordinates, DeadLetter, State
from consumer.sinks import Selection, Tally
from consumer.sinks.opening import open_sink
from consumer.sinks.transaction import transaction

_OWNER = "dlq"


@dataclass(frozen=True, slots=True)
class Listing:
    """Dead letters by kind, most first; the first of them; and what is none in their topic."""

    tallies: Sequence[Tally]
    letters: Sequence[DeadLetter]
    strays: Reasons


@dataclass(frozen=True, slots=True)
class Way:
    """How to replay. `fix`: `module:function`. `to_topic`: into the source topic, not into the tables."""

    fix: str | None = None
    to_topic: bool = False
    from_topic: bool = False
    dry_run: bool = False
    overwrite: bool = False


def listing(settings: Settings, which: Selection, limit: int, *, from_topic: bool) -> Listing:
    """Those, and the first `limit` of them. Raises ConfigError, UnavailableError, FatalError."""
    if not in_topic(settings, from_topic=from_topic):
        with closing(open_sink(settings, _OWNER)) as sink:
            return Listing(sink.letters.tally(which), sink.letters.select(which, limit) if limit else [], Reasons())
    strays, first = Reasons(), list[DeadLetter]()
    with open_reader(settings, which.topic, all_of_it=_transactional(settings)) as reader:
        tallies = tallied(_noted(_fitting(reader, which, strays, whole=False), first, limit))
    return Listing(tallies, first, strays)


def find(settings: Settings, coordinates: Coordinates, *, from_topic: bool) -> DeadLetter:
    """That one, in whatever state. Raises ConfigError when it is not there, UnavailableError, FatalError."""
    which = Selection(tuple(State), coordinates=(coordinates,))
    found = listing(settings, which, 1, from_topic=from_topic).letters
    if not found:
        raise ConfigError("coordinates", "/".join(map(str, coordinates)), "no dead letter of this group has them")
    return found[0]


def discard(settings: Settings, which: Selection) -> int:
    """These are not needed any longer. Returns how many. Raises ConfigError, UnavailableError, FatalError."""
    if _transactional(settings):
        with closing(open_sink(settings, _OWNER)) as sink:
            return sink.letters.discard(which)
    if not unlimited(which):
        reason = "a topic keeps what it has: of delivery at_least_once only all can be discarded, without a filter"
        raise ConfigError("dlq discard", None, reason)
    with open_reader(settings, None, all_of_it=False) as reader:
        count = sum(map(len, reader.lots(Reasons(), whole=False)))
        reader.remember()
    return count


def run_replay(settings: Settings, which: Selection, way: Way, report: Report) -> None:
    """Replay these, and add to the `report` what became of them, lot by lot.

    Raises ConfigError before anything is done; UnavailableError, FatalError: what is done stays done.
    """
    fixer = open_fixer(settings, way.fix) if way.fix else None
    with ExitStack() as stack:
        sink, destination = stack.enter_context(open_destination(settings, overwrite=way.overwrite))
        keeper: Keeper = TableKeeper(sink, dry_run=way.dry_run)
        if in_topic(settings, from_topic=way.from_topic):
            reader = stack.enter_context(open_reader(settings, which.topic, all_of_it=sink.transactional))
            lots, topics = _fitting(reader, which, report.left), set(reader.origins.values())
            if not sink.transactional:
                outbox = open_outbox(settings, table=False) if unlimited(which) and not way.dry_run else None
                if outbox:
                    stack.callback(outbox.close)
                keeper = TopicKeeper(reader, outbox, partial(transaction, sink, keep=not way.dry_run))
        else:
            lots, topics = lots_of(sink.letters, which), {tally.topic for tally in sink.letters.tally(which)}
        if not way.overwrite:
            require_guard(settings, topics, to_topic=way.to_topic)
        there = require_topics(settings, topics) if way.to_topic else {}
        chosen = SourceTopics(settings, there, dry_run=way.dry_run) if way.to_topic else destination
        replay(lots, keeper, chosen, report, fixer)


def in_topic(settings: Settings, *, from_topic: bool) -> bool:
    """Whether dead letters are read from their topics: they are asked for there, or there is no table."""
    return from_topic or not _transactional(settings)


def forgets(settings: Settings, which: Selection) -> bool:
    """Whether a replay of these is not remembered, because a topic knows only how far all of it is done."""
    return not _transactional(settings) and not unlimited(which)


def tallied(letters: Iterable[DeadLetter]) -> list[Tally]:
    """How many of which kind, most first; as Letters.tally tells."""
    found: dict[tuple[Any, ...], Tally] = {}
    for one in letters:
        told, at = one.evidence, one.first_failed_at
        kind = (one.topic, one.state, told.stage, told.error, told.sqlstate, told.table, told.constraint)
        old = found.get(kind) or Tally(0, *kind, at, at)
        found[kind] = replace(old, count=old.count + 1, first=min(old.first, at), last=max(old.last, at))
    return sorted(found.values(), key=lambda tally: -tally.count)


def _transactional(settings: Settings) -> bool:
    return settings.delivery == "exactly_once"


def _fitting(
    reader: DeadLetterReader, which: Selection, strays: Reasons, *, whole: bool = True
) -> Iterator[list[DeadLetter]]:
    for lot in reader.lots(strays, whole=whole):
        yield [letter for letter in lot if fits(which, letter)]


def _noted(lots: Iterable[Sequence[DeadLetter]], first: list[DeadLetter], limit: int) -> Iterator[DeadLetter]:
    """All of them, of which the first ones are noted."""
    for letter in chain.from_iterable(lots):
        if len(first) < limit:
            first.append(letter)
        yield letter

"""Kafka's offsets, the offset table and the dead letters held against each other: the ledger across restarts."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from consumer.config import Settings
from consumer.errors import TopicPartition
from consumer.letter import State
from consumer.offsets import Standing, standings
from consumer.sinks import Letters, Selection
from consumer.sinks.opening import open_sink

_PATIENCE = datetime.timedelta(minutes=15)
_ALL = tuple(State)


@dataclass(frozen=True, slots=True)
class Account:
    """One partition: where it stands, its dead letters by state, and what is wrong, a sentence each."""

    standing: Standing
    dead_letters: Mapping[str, int]
    faults: Sequence[str]


@dataclass(frozen=True, slots=True)
class Filed:
    """The dead letters of one partition.

    `pending_since`: when the oldest that waits for its topic failed first. `astray`: the first offset of those that
    are not before the next offset.
    """

    counts: Mapping[str, int]
    pending_since: datetime.datetime | None = None
    astray: int | None = None


def verify(settings: Settings, now: datetime.datetime) -> list[Account]:
    """Every partition that is configured or known. Raises ConfigError, UnavailableError, FatalError."""
    found = standings(settings)
    with closing(open_sink(settings, "verify")) as sink:
        filed = {_key(one): _filed(sink.letters, one) for one in found} if sink.transactional else {}
        orphans = _orphans(sink.letters, found) if sink.transactional else []
    published = settings.dead_letter.topic is not None
    accounts = [_account(one, filed.get(_key(one), Filed({})), now, published) for one in found]
    return accounts + orphans


def faults_of(standing: Standing, filed: Filed, now: datetime.datetime, *, published: bool) -> Iterator[str]:
    """What is wrong with a partition; `published`: dead letters are meant for a topic."""
    if standing.remark:
        yield f"{standing.remark}: {_place(standing)}"
    elif standing.next_offset is None:
        yield from _committed_alone(standing)
    elif standing.committed is not None and standing.committed > standing.next_offset:
        yield (
            f"Kafka's committed offset {standing.committed} is ahead of the database's {standing.next_offset}: was an "
            "older state of the database restored, or its offset reset? The database's counts"
        )
    if filed.astray is not None:
        after = "there is no offset" if standing.next_offset is None else f"the next offset is {standing.next_offset}"
        yield (
            f"there is a dead letter at offset {filed.astray}, and {after}: was it reset, or the database restored in "
            "part? The record will be read again"
        )
    if filed.pending_since is not None and not published:
        yield "dead letters wait for a topic, and dead_letter.topic is null: nobody publishes them"
    elif filed.pending_since is not None and now - filed.pending_since > _PATIENCE:
        since = filed.pending_since.isoformat(timespec="seconds")
        yield f"dead letters wait for their topic since {since}: is the daemon running, and the topic there?"


def lines(account: Account) -> Iterator[str]:
    """An account for people: what there is, or what is wrong with it, each with a number that tells."""
    one = account.standing
    subject = f"{one.topic}/{one.partition}"
    if account.faults:
        yield from (f"{subject}: {fault}" for fault in account.faults)
        return
    told = ", ".join(f"{count:,} {state}" for state, count in sorted(account.dead_letters.items())) or "none"
    where = "nothing written yet" if one.lag is None else f"{_next(one)} is next, {one.lag:,} behind the end"
    yield f"{subject}: {where}; Kafka holds {one.log_start} to {one.end}; dead letters: {told}"


def _account(standing: Standing, filed: Filed, now: datetime.datetime, published: bool) -> Account:
    return Account(standing, filed.counts, list(faults_of(standing, filed, now, published=published)))


def _committed_alone(standing: Standing) -> Iterator[str]:
    """Where the database keeps no offset, Kafka's is the one that counts."""
    committed, start, end = standing.committed, standing.log_start, standing.end
    if committed is None or start is None or end is None:
        return
    if committed < start:
        yield f"{start - committed} records are gone from Kafka: {_place(standing)}"
    elif committed > end:
        yield f"beyond the end: {_place(standing)}"


def _place(standing: Standing) -> str:
    held = "" if standing.end is None else f", Kafka holds {standing.log_start} to {standing.end}"
    return f"the next offset is {_next(standing)}{held}"


def _next(standing: Standing) -> int | None:
    return standing.committed if standing.next_offset is None else standing.next_offset


def _filed(letters: Letters, standing: Standing) -> Filed:
    topic, partition = _key(standing)
    tallies = letters.tally(Selection(_ALL, topic, partition))
    counts: dict[str, int] = {}
    for tally in tallies:
        counts[tally.state] = counts.get(tally.state, 0) + tally.count
    pending = [tally.first for tally in tallies if tally.state is State.PENDING]
    astray = letters.select(Selection(_ALL, topic, partition), 1, (topic, partition, (standing.next_offset or 0) - 1))
    return Filed(counts, min(pending, default=None), astray[0].offset if astray else None)


def _orphans(letters: Letters, found: Sequence[Standing]) -> list[Account]:
    """Dead letters of topics that the group has no offsets of."""
    known = {one.topic for one in found}
    counts: dict[str, dict[str, int]] = {}
    for tally in letters.tally(Selection(_ALL)):
        if tally.topic not in known:
            states = counts.setdefault(tally.topic, {})
            states[tally.state] = states.get(tally.state, 0) + tally.count
    fault = "there are dead letters, but no offset: was the database restored in part?"
    nothing = (None,) * 8
    return [Account(Standing(topic, 0, *nothing, ""), states, [fault]) for topic, states in counts.items()]


def _key(standing: Standing) -> TopicPartition:
    return standing.topic, standing.partition

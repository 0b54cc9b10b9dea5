"""Writes batches through a sink: bulk first; what the sink refuses is isolated and becomes dead letters.

Runs in one thread, maps in another, and knows the fences: what the database believes of each partition that is ours.
Knows nothing of Kafka and decides nothing: an error other than a record's fault goes to the pipeline as it is.
"""

from __future__ import annotations

import datetime
import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from consumer.batch import Batch
from consumer.breaker import Breaker
from consumer.errors import Failure, FatalError, FencedError, HeldError, RejectedError, TopicPartition, UnavailableError
from consumer.letter import Coordinates, DeadLetter, State, evidence_of, letter_of
from consumer.mapping import Mapped
from consumer.outbox import Outbox, Receipt
from consumer.record import Message
from consumer.sinks import Claim, Fence, Isolated, Position, Sink
from consumer.table import TableRows

_LOT = 500
_TRUNCATE = 300
_COURTESY_SECONDS = 0.02  # for which mapping leaves the interpreter to a batch that is being sent
_DEFECT = "This is a defect of microbatch; report it. A restart goes on at the right place."


class Mapper(Protocol):
    """Records into rows: what the writer needs of `mapping`."""

    def map(self, messages: Sequence[Message]) -> Mapped:
        """The rows of these records, of which there is at least one; each record is judged alone.

        Raises UnavailableError (nothing is remembered, call again) and FatalError.
        """

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """These partitions begin anew: drop what transforms keep of them."""


@dataclass(slots=True)
class Written:
    """What became of a batch: `next_offsets` are committed, with every record accounted for, by topic.

    `records` have rows, `filtered` have none, `duplicates` were committed already by a try without an answer, `letters`
    are the ones at fault. `rows` by table, of the records that are in. `seconds` of each stage; isolating and the
    COMMIT are parts of writing. `dropped` as Mapped's.
    """

    batch: Batch
    next_offsets: dict[TopicPartition, int]
    records: Counter[str] = field(default_factory=Counter)
    filtered: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    letters: list[DeadLetter] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    dropped: Mapping[str, frozenset[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Published:
    """How it goes with the topic of dead letters: how many it has got, who it refused, and how many it still lacks."""

    delivered: int
    errors: list[str]
    in_flight: int
    pending: int


class Writer:
    """The sink's only user. `outbox` None: dead letters stay in the sink's table. `clock` gives seconds, for durations.

    `keep_payload` False: the table forgets what a topic has.
    """

    def __init__(
        self,
        sink: Sink,
        mapper: Mapper,
        breaker: Breaker,
        outbox: Outbox | None = None,
        *,
        keep_payload: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._sink, self._mapper, self._outbox, self._clock = sink, mapper, outbox, clock
        self._keep_payload = keep_payload
        self._fences: dict[TopicPartition, Fence] = {}
        self._mapping = ThreadPoolExecutor(1, "mapper")
        self._sent = threading.Event()
        self._sent.set()
        self._life, self._batches = uuid.uuid4().hex[:8], itertools.count(1)
        self.breaker = breaker

    def claim(self, starts: Mapping[TopicPartition, Position]) -> dict[TopicPartition, Claim]:
        """Take partitions over, as `Sink.claim` does. Raises UnavailableError, FatalError."""
        claims = self._sink.claim(starts)
        self._mapping.submit(self._mapper.forget, claims.keys()).result()
        self._fences |= {key: Fence(claim.epoch, claim.position.next_offset) for key, claim in claims.items()}
        return claims

    def prepare(self, batch: Batch) -> Future[None]:
        """Map a batch while another is written; from any thread. What that raises, writing the batch raises again."""
        return self._mapping.submit(self._map, batch)

    def write(self, batch: Batch) -> Written:
        """Write the batch: its rows, the dead letters of its records at fault, and its offsets, in one transaction.

        A sink without transactions gets the rows, then the topic the dead letters; this returns when it has them all.
        Raises UnavailableError (call again with the same batch: it is then found out how the last try ended),
        FencedError (call again without those partitions), HeldError (nothing is kept), FatalError.
        """
        if batch.attempted and batch.written is None:
            self._settle(batch)
        if batch.written is None:
            batch.written = self._write(batch)
        if not self._sink.transactional:
            self._deliver(batch.written)
        written: Written = batch.written
        batch.outcome = batch.written = None  # a cycle would keep all its records until garbage is collected
        return written

    @property
    def publishes(self) -> bool:
        """Whether there is something to `publish`: the sink keeps dead letters, and they have topics."""
        return self._outbox is not None and self._sink.transactional

    def publish(self, partitions: Collection[TopicPartition]) -> Published:
        """Hand pending dead letters of these to their topics, and mark those that they have; never waits for them.

        Raises UnavailableError, FatalError.
        """
        if self._outbox is None or not self._sink.transactional:
            return Published(0, [], 0, 0)
        receipts = self._outbox.receipts()
        delivered = [receipt for receipt in receipts if receipt.error is None]
        self._mark(delivered)
        self._outbox.send(self._sink.letters.pending(partitions, _LOT))
        errors = [receipt.error for receipt in receipts if receipt.error is not None]
        pending = self._sink.letters.count_pending(partitions)
        return Published(len(delivered), errors, self._outbox.in_flight, pending)

    def close(self) -> None:
        """Give up what is on its way into the topics; it is published again by whoever owns its partition then.

        What is being mapped is waited for.
        """
        self._mapping.shutdown(cancel_futures=True)
        if self._outbox is not None:
            self._outbox.close()

    def _mark(self, receipts: Sequence[Receipt]) -> None:
        for whole in (True, False):
            if found := [receipt.coordinates for receipt in receipts if receipt.whole is whole]:
                self._sink.letters.published(found, empty=whole and not self._keep_payload)

    def _deliver(self, written: Written) -> None:
        """Publish a batch's dead letters and wait for each receipt; those that came are not sent again."""
        if not written.letters or self._outbox is None:
            return
        out: set[Coordinates] = set()
        while left := [letter for letter in written.letters if letter.coordinates not in out]:
            self._outbox.send(left)
            self._outbox.wait(1.0)
            for receipt in self._outbox.receipts():
                if receipt.error is not None:
                    raise UnavailableError(f"dead letters cannot be published: {receipt.error}")
                out.add(receipt.coordinates)

    def _write(self, batch: Batch) -> Written:
        batch.name = batch.name or f"{self._life}-{next(self._batches)}"
        if batch.empty:
            return Written(batch, dict(batch.next_offsets), duplicates=batch.skipped)
        if batch.prepared is None:
            self.prepare(batch).result()
        mapped: Mapped = batch.prepared  # type: ignore[assignment]
        began, seconds = self._clock(), {"map": batch.map_seconds}
        written = self._transact(batch, mapped, seconds)
        written.seconds["write"] = self._clock() - began
        for key, offset in batch.next_offsets.items():
            self._fences[key] = Fence(self._fences[key].epoch, offset)
        return written

    def _map(self, batch: Batch) -> None:
        """In the one thread that maps: records in order, and a user's transform always in the same thread."""
        if batch.prepared is None:
            self._sent.wait(_COURTESY_SECONDS)
            began = self._clock()
            batch.prepared = mapped = self._mapper.map(batch.messages) if batch.messages else Mapped([], [])
            self._sink.prepare(mapped.rows)
            batch.map_seconds = self._clock() - began

    def _transact(self, batch: Batch, mapped: Mapped, seconds: dict[str, float]) -> Written:
        fences = self._fences_of(batch)
        if wrong := {key: batch.starts[key] for key, fence in fences.items() if fence.next_offset != batch.starts[key]}:
            raise FatalError(f"the batch starts at {wrong}, the fences are {fences}", _DEFECT)
        count = len(batch.messages)
        batch.attempted = True
        try:
            if mapped.failures:
                self._sink.begin(fences)
                isolated = self._apply(mapped.rows, seconds)
            elif written := self._write_whole(batch, mapped, fences, seconds):
                return written
            else:
                isolated = self._isolate(mapped.rows, seconds)
            failures = sorted([*mapped.failures, *isolated.failures], key=lambda failure: failure.ordinal)
            ordinals = [failure.ordinal for failure in failures]
            self._judge(batch, failures, isolated.finished)
            letters = self._letters(batch, failures)
            if letters and self._sink.transactional:
                self._sink.letters.keep(letters)
            batch.outcome = written = _written(batch, mapped, failures, letters, seconds)
            began = self._clock()
            self._sink.commit(batch.next_offsets)
            seconds["commit"] = self._clock() - began
        except BaseException:
            self._sink.rollback()
            raise
        self.breaker.passed(count, ordinals)
        return written

    def _write_whole(
        self, batch: Batch, mapped: Mapped, fences: Mapping[TopicPartition, Fence], seconds: dict[str, float]
    ) -> Written | None:
        """At once, as if no record were at fault; None: one is, and the transaction waits for isolation."""
        batch.outcome = written = _written(batch, mapped, [], [], seconds)
        try:
            self._sent.clear()
            seconds["commit"] = self._sink.transact(fences, mapped.rows, batch.next_offsets, self._sent.set)
        except RejectedError:
            batch.outcome = None
            return None
        finally:
            self._sent.set()
        self.breaker.passed(len(batch.messages), [])
        return written

    def _apply(self, rows: list[TableRows], seconds: dict[str, float]) -> Isolated:
        try:
            self._sink.apply(rows)
        except RejectedError:
            return self._isolate(rows, seconds)
        return Isolated([])

    def _isolate(self, rows: list[TableRows], seconds: dict[str, float]) -> Isolated:
        began = self._clock()
        isolated = self._sink.isolate(rows, self.breaker.patience)
        seconds["isolate"] = self._clock() - began
        return isolated

    def _judge(self, batch: Batch, failures: Sequence[Failure], finished: bool) -> None:
        try:
            self.breaker.judge(len(batch.messages), [failure.ordinal for failure in failures], finished)
        except HeldError as error:
            message, cause = batch.messages[failures[0].ordinal], failures[0].error
            where = f"{message.topic()} partition {message.partition()} offset {message.offset()}"
            reason = f"{error}; the first is {where} ({cause.stage}: {cause.reason[:_TRUNCATE]})"
            raise HeldError(reason) from None

    def _letters(self, batch: Batch, failures: Sequence[Failure]) -> list[DeadLetter]:
        if not failures:
            return []
        now, state = datetime.datetime.now(datetime.UTC), State.KEPT if self._outbox is None else State.PENDING
        # Records that are refused alike share their error.
        told = {error: evidence_of(error, batch.name) for error in {failure.error for failure in failures}}
        return [letter_of(batch.messages[f.ordinal], told[f.error], state, now) for f in failures]

    def _fences_of(self, batch: Batch) -> dict[TopicPartition, Fence]:
        if missing := batch.starts.keys() - self._fences.keys():
            raise FencedError(missing)
        return {key: self._fences[key] for key in batch.starts}

    def _settle(self, batch: Batch) -> None:
        """Claim again what is still ours, and find out whether the last try, perhaps unanswered, was committed."""
        fences = self._fences_of(batch)
        ours = self._sink.confirm(fences)
        self._fences |= ours
        if gone := fences.keys() - ours.keys():
            for key in gone:
                del self._fences[key]
            raise FencedError(gone)
        positions = {key: fence.next_offset for key, fence in ours.items()}
        if positions == batch.next_offsets and batch.outcome is not None:
            batch.written = batch.outcome
        else:
            batch.skip(positions)


def _written(
    batch: Batch, mapped: Mapped, failures: Sequence[Failure], letters: list[DeadLetter], seconds: dict[str, float]
) -> Written:
    failed = {failure.ordinal for failure in failures}
    every, filtered = range(len(batch.messages)), Counter[str]()
    if all(table.ordinals != every for table in mapped.rows):
        accounted = failed.union(*(table.ordinals for table in mapped.rows))
        filtered.update(batch.messages[ordinal].topic() for ordinal in every if ordinal not in accounted)
    rows: Counter[str] = Counter()
    for table in mapped.rows:
        lost = sum(ordinal in failed for ordinal in table.ordinals) if failed else 0
        rows[table.table] += len(table.rows) - lost
    records = batch.counts() - filtered - Counter(letter.topic for letter in letters)
    ends = dict(batch.next_offsets)
    return Written(batch, ends, records, filtered, batch.skipped, rows, letters, seconds, mapped.dropped)

"""Writes batches through a sink: bulk first, then halves, to find the first record that the sink refuses.

Runs in one thread, and knows the fences: what the database believes of each partition that is ours. Knows nothing of
Kafka and decides nothing: an error other than a record's fault goes to the pipeline as it is.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from consumer.batch import Batch
from consumer.errors import FatalError, FencedError, RejectedError, TopicPartition
from consumer.mapping import Failure, Mapped
from consumer.record import Message
from consumer.sinks import Claim, Fence, Position, Sink
from consumer.table import TableRows


class Mapper(Protocol):
    """Records into rows: what the writer needs of `mapping`."""

    def map(self, messages: Sequence[Message]) -> Mapped:
        """The rows of these records, of which there is at least one; each record is judged alone.

        Raises UnavailableError (nothing is remembered, call again) and FatalError.
        """

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """These partitions begin anew: drop what transforms keep of them."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """The rows of a batch's first `count` records; `failure` is the record after them, if one stopped it."""

    rows: list[TableRows]
    count: int
    failure: Failure | None = None


@dataclass(slots=True)
class Written:
    """What became of a batch: `next_offsets` are committed, `records` (by topic) written, `filtered` made no row.

    `failure`: the record that stopped it; everything before it is in, nothing after it. `rows` by table. `seconds` of
    each stage.
    """

    batch: Batch
    next_offsets: dict[TopicPartition, int]
    records: Counter[str]
    filtered: Counter[str]
    rows: Counter[str]
    failure: Failure | None
    seconds: dict[str, float] = field(default_factory=dict)


class Writer:
    """The sink's only user. `clock` gives seconds, for the durations in `Written`."""

    def __init__(self, sink: Sink, mapper: Mapper, clock: Callable[[], float] = time.perf_counter) -> None:
        self._sink, self._mapper, self._clock = sink, mapper, clock
        self._fences: dict[TopicPartition, Fence] = {}

    def claim(self, starts: Mapping[TopicPartition, Position]) -> dict[TopicPartition, Claim]:
        """Take partitions over, as `Sink.claim` does. Raises UnavailableError, FatalError."""
        claims = self._sink.claim(starts)
        self._mapper.forget(claims.keys())
        self._fences |= {key: Fence(claim.epoch, claim.position.next_offset) for key, claim in claims.items()}
        return claims

    def write(self, batch: Batch) -> Written:
        """Write all records of the batch and its offsets in one transaction, or those before the first bad one.

        Raises UnavailableError (call again with the same batch: it is then found out how the last try ended),
        FencedError (call again without those partitions), FatalError.
        """
        committed = self._settle(batch) if batch.attempted else Counter[str]()
        began = self._clock()
        if batch.prepared is None:
            batch.prepared = self._prepare(batch.messages)
        mapped = self._clock()
        if batch.messages:
            self._transact(batch)
        written = self._written(batch, {"map": mapped - began, "write": self._clock() - mapped})
        written.records += committed
        return written

    def _transact(self, batch: Batch) -> None:
        fences = self._fences_of(batch)
        if wrong := {key: batch.starts[key] for key, fence in fences.items() if fence.next_offset != batch.starts[key]}:
            hint = "This is a defect of microbatch; report it. A restart goes on at the right place."
            raise FatalError(f"the batch starts at {wrong}, the fences are {fences}", hint)
        batch.attempted = True
        prepared: Prepared = batch.prepared
        try:
            self._sink.begin(fences)
            count, error = self._apply(prepared.rows, 0, prepared.count)
            if error is not None:
                batch.prepared = prepared = Prepared(_cut(prepared.rows, 0, count), count, Failure(count, error))
            self._sink.commit(_next_offsets(batch, prepared))
        except BaseException:
            self._sink.rollback()
            raise

    def _apply(self, rows: list[TableRows], low: int, high: int) -> tuple[int, RejectedError | None]:
        """Apply the records low <= ordinal < high. Returns how far it got, and what stopped it there."""
        try:
            self._sink.apply(rows)
        except RejectedError as error:
            if high - low <= 1:
                return low, error
        else:
            return high, None
        middle = (low + high) // 2
        reached, stop = self._apply(_cut(rows, low, middle), low, middle)
        return (reached, stop) if stop else self._apply(_cut(rows, middle, high), middle, high)

    def _prepare(self, messages: list[Message]) -> Prepared:
        if not messages:
            return Prepared([], 0)
        mapped = self._mapper.map(messages)
        if not mapped.failures:
            return Prepared(mapped.rows, len(messages))
        first = mapped.failures[0]
        return Prepared(_cut(mapped.rows, 0, first.ordinal), first.ordinal, first)

    def _fences_of(self, batch: Batch) -> dict[TopicPartition, Fence]:
        if missing := batch.starts.keys() - self._fences.keys():
            raise FencedError(missing)
        return {key: self._fences[key] for key in batch.starts}

    def _settle(self, batch: Batch) -> Counter[str]:
        """Claim again what is still ours, and take out of the batch what the last try, perhaps unanswered, committed.

        Returns how many records that were, by topic.
        """
        fences = self._fences_of(batch)
        ours = self._sink.confirm(fences)
        self._fences |= ours
        if gone := fences.keys() - ours.keys():
            for key in gone:
                del self._fences[key]
            raise FencedError(gone)
        return batch.skip({key: fence.next_offset for key, fence in ours.items()})

    def _written(self, batch: Batch, seconds: dict[str, float]) -> Written:
        prepared: Prepared = batch.prepared
        committed = _next_offsets(batch, prepared)
        for key, offset in committed.items():
            self._fences[key] = Fence(self._fences[key].epoch, offset)
        with_rows = set[int]().union(*(table.ordinals for table in prepared.rows))
        filtered: Counter[str] = Counter()
        if len(with_rows) < prepared.count:
            filtered.update(batch.messages[i].topic() for i in range(prepared.count) if i not in with_rows)
        records = _topics(batch.messages[: prepared.count]) if prepared.failure else batch.counts()
        rows: Counter[str] = Counter()
        for table in prepared.rows:
            rows[table.table] += len(table.rows)
        return Written(batch, committed, records - filtered, filtered, rows, prepared.failure, seconds)


def _topics(messages: Sequence[Message]) -> Counter[str]:
    return Counter(message.topic() for message in messages)


def _next_offsets(batch: Batch, prepared: Prepared) -> dict[TopicPartition, int]:
    """What is committed with these rows: of each partition, the offset after its last record before the failure."""
    if prepared.failure is None:
        return batch.next_offsets
    return {(m.topic(), m.partition()): m.offset() + 1 for m in batch.messages[: prepared.count]}


def _cut(rows: Sequence[TableRows], low: int, high: int) -> list[TableRows]:
    """The rows of the records low <= ordinal < high."""
    cut = []
    for table in rows:
        first, last = bisect_left(table.ordinals, low), bisect_left(table.ordinals, high)
        if first < last:
            deletes = table.deletes and table.deletes[first:last]
            part = TableRows(table.table, table.columns, table.rows[first:last], table.ordinals[first:last], deletes)
            cut.append(part)
    return cut

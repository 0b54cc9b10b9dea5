"""The loop; the only place that decides retry or stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from consumer.batch import Batch, BatchPolicy, coordinates, offset_of
from consumer.errors import DecodeError, FatalError, FencedError, RecordError, TopicPartition, UnavailableError
from consumer.sinks import Fence, Sink
from consumer.source import KafkaSource

log = structlog.get_logger()
_POLL_SECONDS = 0.2
_RETRY_SECONDS = 1.0


@dataclass(slots=True)
class Counts:
    """Records of this process's life."""

    consumed: int = 0
    written: int = 0
    released: int = 0


class Pipeline:
    """Moves records from a source into a sink until told to stop, or until a record cannot be written."""

    def __init__(self, sink: Sink, columns: list[str], types: dict[str, type], policy: BatchPolicy) -> None:
        self._sink, self._columns, self._policy = sink, columns, policy
        self._decoder = msgspec.json.Decoder(msgspec.defstruct("Row", list(types.items()), gc=False))
        self._fences: dict[TopicPartition, Fence] = {}
        self._unclaimed: set[TopicPartition] = set()
        self._batch = Batch()
        self.counts = Counts()

    def run(self, open_source: Callable[[Pipeline], KafkaSource], stop: threading.Event) -> None:
        """Poll, write, commit, until `stop` is set; then write what was read and leave the group."""
        source = open_source(self)
        try:
            while not stop.is_set():
                self._claim(source)
                room = self._policy.max_records - len(self._batch.messages)
                messages = source.poll(room, _POLL_SECONDS)
                self.counts.consumed += len(messages)
                self._batch.add(messages, time.monotonic())
                if trigger := self._batch.trigger(self._policy, time.monotonic()):
                    self._flush(source, trigger)
            self._flush(source, "shutdown")
        finally:
            source.close()
            self._sink.close()

    def assigned(self, partitions: frozenset[TopicPartition]) -> None:
        """Partitions have come: they are claimed before they are read."""
        self._unclaimed |= partitions

    def revoked(self, partitions: frozenset[TopicPartition]) -> None:
        """Partitions have gone: their unwritten records are given back."""
        self._unclaimed -= partitions
        self._drop(partitions)

    def _claim(self, source: KafkaSource) -> None:
        if not self._unclaimed:
            return
        partitions = frozenset(self._unclaimed)
        try:
            fences = self._sink.claim(source.starts(partitions))
        except UnavailableError as error:
            log.warning("claim_postponed", reason=str(error))
            return
        self._fences |= fences
        source.start_at({key: fence.next_offset for key, fence in fences.items()})
        self._unclaimed -= partitions
        log.info("claimed", partitions=sorted(partitions))

    def _flush(self, source: KafkaSource, trigger: str) -> None:
        while self._batch.messages:
            batch = self._batch
            try:
                self._write(batch)
            except FencedError as error:
                log.warning("fenced", partitions=sorted(error.partitions))
                self._drop(error.partitions)
                source.pause(error.partitions)
                continue
            except UnavailableError as error:
                batch.attempts += 1
                log.warning("write_retried", reason=str(error), attempts=batch.attempts)
                source.pause(frozenset(self._fences))
                self._batch.add(source.poll(1, _RETRY_SECONDS), time.monotonic())
                continue
            source.commit(batch.next_offsets)
            log.debug("batch_written", records=len(batch.messages), trigger=trigger)
            self._batch = Batch()

    def _write(self, batch: Batch) -> None:
        if batch.attempts and self._resolved(batch):
            self.counts.written += len(batch.messages)
            return
        rows = self._decode(batch)
        mine = {key: self._fences[key] for key in batch.next_offsets}
        try:
            self._sink.begin(mine)
            self._sink.apply(self._columns, rows)
            self._sink.commit(batch.next_offsets)
        except RecordError as error:
            self._sink.rollback()
            hint = "Mend the record's producer, or the table; nothing of this batch was written."
            raise FatalError(f"a record was refused: {error}", hint) from error
        for key, offset in batch.next_offsets.items():
            self._fences[key] = Fence(mine[key].epoch, offset)
        self.counts.written += len(batch.messages)

    def _resolved(self, batch: Batch) -> bool:
        """Claim again what is still ours; True when the COMMIT whose answer was lost had succeeded."""
        mine = {key: self._fences[key] for key in batch.next_offsets}
        ours = self._sink.confirm(mine)
        self._fences |= ours
        if lost := mine.keys() - ours.keys():
            raise FencedError(lost)
        batch.attempts = 0
        return all(ours[key].next_offset == offset for key, offset in batch.next_offsets.items())

    def _decode(self, batch: Batch) -> list[tuple[Any, ...]]:
        rows = []
        for message in batch.messages:
            try:
                rows.append(msgspec.structs.astuple(self._decoder.decode(message.value() or b"")))
            except msgspec.MsgspecError as error:
                topic, partition = coordinates(message)
                where = f"{topic} partition {partition} offset {offset_of(message)}"
                raise FatalError(f"{where}: {DecodeError(str(error))}", "Mend the record's producer.") from None
        return rows

    def _drop(self, partitions: frozenset[TopicPartition]) -> None:
        for key in partitions:
            self._fences.pop(key, None)
        kept = self._batch.without(partitions)
        self.counts.released += len(self._batch.messages) - len(kept.messages)
        self._batch = kept

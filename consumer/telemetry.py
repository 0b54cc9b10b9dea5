"""What happens, told to the metrics and the log: the one place that knows both. Never row values, never secrets."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import structlog

from consumer.assignment import Assignment, Phase
from consumer.errors import TopicPartition
from consumer.health import Health
from consumer.metrics import Metrics
from consumer.writer import Written

log = structlog.get_logger("microbatch")
_ALIVE_SECONDS = 60.0
_REPEAT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the daemon is, in records of this process's life.

    `next_offsets` are of the batch just committed, `trigger` is what closed it.
    """

    written: int
    filtered: int
    next_offsets: Mapping[TopicPartition, int]
    trigger: str


class Telemetry:
    """Told by the pipeline, in its thread; `health` may be asked from any. `clock` as the pipeline's."""

    def __init__(
        self,
        metrics: Metrics,
        on_progress: Callable[[Progress], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics, self._on_progress, self._clock = metrics, on_progress, clock
        self._lock = threading.Lock()
        self._beat = clock()
        self._state, self._reason = "starting", "it has not joined the group yet"
        self._joined = False
        self._written = self._filtered = 0
        self._told: dict[str, float] = {}
        self._times: dict[TopicPartition, tuple[int, int]] = {}  # timestamps of the records committed last
        self._set_state("starting", self._reason)

    def health(self) -> Health:
        """Alive: the loop turned lately. Ready: in the group, every partition claimed, the sink answering."""
        with self._lock:
            age = self._clock() - self._beat
            if age > _ALIVE_SECONDS:
                return Health(False, False, f"the loop has not turned for {age:.0f} s")
            return Health(True, self._state == "running", self._reason)

    def beat(self, now: float) -> None:
        """The loop has turned."""
        with self._lock:
            gap, self._beat = now - self._beat, now
        self._metrics.set("poll_gap_seconds", gap)

    def consumed(self, counts: Counter[str]) -> None:
        """Records were read."""
        with self._metrics.update() as update:
            for topic, count in counts.items():
                update.count("records_consumed", count, topic=topic)
                update.add("records_in_flight", count, topic=topic)

    def released(self, counts: Counter[str]) -> None:
        """Records were given back unwritten."""
        with self._metrics.update() as update:
            for topic, count in counts.items():
                update.count("records_released", count, topic=topic)
                update.add("records_in_flight", -count, topic=topic)

    def wrote(self, written: Written, seconds: float) -> None:
        """A batch was committed."""
        batch = written.batch
        with self._metrics.update() as update:
            for topic, count in written.records.items():
                update.count("records_written", count, topic=topic)
                update.add("records_in_flight", -count, topic=topic)
            for topic, count in written.filtered.items():
                update.count("records_filtered", count, topic=topic)
                update.add("records_in_flight", -count, topic=topic)
            for table, count in written.rows.items():
                update.count("rows_affected", count, table=table)
            for stage, spent in written.seconds.items():
                update.observe("stage_seconds", spent, stage=stage)
            update.observe("write_duration_seconds", seconds, outcome="written")
            update.observe("batch_records", len(batch.messages))
            update.observe("batch_bytes", batch.size)
            update.count("batches_closed", 1, trigger=batch.trigger)
            update.observe("end_to_end_latency_seconds", _age(batch.messages[-1].timestamp()) if batch.messages else 0)
            update.set("last_success_timestamp_seconds", time.time())
        whole = (key for key, offset in batch.next_offsets.items() if written.next_offsets.get(key) == offset)
        self._times |= {key: batch.lasts[key].timestamp() for key in whole if key in batch.lasts}
        self._set_state("running", "records are being written")
        self._written += sum(written.records.values())
        self._filtered += sum(written.filtered.values())
        log.debug("batch_written", records=len(batch.messages), trigger=batch.trigger, seconds=round(seconds, 3))
        if self._on_progress:
            self._on_progress(Progress(self._written, self._filtered, written.next_offsets, batch.trigger))

    def unavailable(self, reason: str, failures: int, seconds: float) -> None:
        """The sink, or Kafka's metadata, cannot serve: the same work is tried again."""
        with self._metrics.update() as update:
            update.count("write_retries", 1, reason="unavailable")
            update.observe("write_duration_seconds", seconds, outcome="unavailable")
        self._set_state("unavailable", reason)
        self._tell("retry", reason, failures=failures)

    def fenced(self, partitions: Collection[TopicPartition]) -> None:
        """Another instance owns these."""
        self._metrics.count("fenced", len(partitions))
        log.warning("fenced", partitions=_names(partitions))

    def held(self, partition: TopicPartition, reason: str, hint: str) -> None:
        """This partition waits for its operator."""
        log.error("held", topic=partition[0], partition=partition[1], reason=reason, hint=hint)

    def claimed(self, starts: Mapping[TopicPartition, int]) -> None:
        """These flow from now on."""
        self._metrics.count("claims", len(starts), outcome="claimed")
        if self._state == "unavailable":
            self._set_state("running", "the sink answers again")
        log.info("claimed", next_offsets={f"{topic}/{number}": offset for (topic, number), offset in starts.items()})

    def rebalanced(self, kind: str, partitions: Collection[TopicPartition]) -> None:
        """Partitions have come or gone."""
        self._joined = True
        with self._metrics.update() as update:
            update.count("rebalances", 1, kind=kind)
            if kind != "assigned":
                for topic, partition in partitions:
                    update.forget(topic, partition)
                    self._times.pop((topic, partition), None)
        log.info("rebalanced", kind=kind, partitions=_names(partitions))

    def commit_failed(self, reason: str) -> None:
        """Offsets did not reach Kafka; where the sink keeps them, only lag tools suffer."""
        self._metrics.count("commit_failures", 1)
        self._tell("commit_failed", reason)

    def trouble(self, reason: str) -> None:
        """Something that mends itself."""
        self._tell("trouble", reason)

    def cut(self, seconds: float) -> None:
        """A write hung, and its connection was broken."""
        self._metrics.count("watchdog_kills", 1)
        log.warning("connection_cut", seconds=round(seconds, 1), reason="no answer within sink.write_deadline_ms")

    def draining(self) -> None:
        """The end has begun."""
        self._set_state("draining", "it is writing what was read, and will leave")
        log.info("draining")

    def looked(
        self,
        assignment: Assignment,
        ends: Mapping[TopicPartition, int | None],
        written_to: Mapping[TopicPartition, int],
        paused: Collection[TopicPartition],
        oldest: float | None,
    ) -> None:
        """The state of things, about once a second."""
        phases, reasons = assignment.phases(), assignment.reasons()
        with self._metrics.update() as update:
            update.set("partitions_assigned", sum(phases.values()))
            update.set("partitions_paused", len(paused), reason="backpressure")
            update.set("partitions_paused", phases[Phase.HELD], reason="held")
            update.set("partitions_paused", phases[Phase.FENCED], reason="fenced")
            update.set("partitions_paused", phases[Phase.UNCLAIMED] + phases[Phase.CLAIMING], reason="unclaimed")
            update.set("oldest_unwritten_seconds", self._clock() - oldest if oldest is not None else 0.0)
            for key, end in ends.items():
                if end is not None and key in written_to:
                    lag = max(0, end - written_to[key])
                    seconds = _age(self._times[key]) if lag and key in self._times else 0.0
                    update.set("consumer_lag", lag, topic=key[0], partition=str(key[1]))
                    update.set("consumer_lag_seconds", seconds, topic=key[0], partition=str(key[1]))
        self._judge(phases, reasons)

    def _judge(self, phases: Mapping[Phase, int], reasons: Mapping[TopicPartition, str]) -> None:
        if self._state in {"unavailable", "draining"}:
            return
        if reasons:
            (topic, partition), reason = min(reasons.items())
            self._set_state("held", f"{len(reasons)} partitions are held; {topic} {partition}: {reason}")
        elif phases[Phase.UNCLAIMED] or phases[Phase.CLAIMING]:
            self._set_state("claiming", "partitions are being claimed")
        elif self._joined:
            self._set_state("running", "records are written as they come")

    def _set_state(self, state: str, reason: str) -> None:
        with self._lock:
            before, self._state, self._reason = self._state, state, reason
        if before != state or state == "starting":
            with self._metrics.update() as update:
                update.set("state", 0, state=before)
                update.set("state", 1, state=state)

    def _tell(self, event: str, reason: str, **fields: object) -> None:
        """Log a repeating event at most every 30 s for each reason."""
        now = self._clock()
        if now - self._told.get(reason, -_REPEAT_SECONDS) >= _REPEAT_SECONDS:
            self._told = {text: at for text, at in self._told.items() if now - at < _REPEAT_SECONDS} | {reason: now}
            log.warning(event, reason=reason, **fields)


def _age(timestamp: tuple[int, int]) -> float:
    kind, milliseconds = timestamp
    return max(0.0, time.time() - milliseconds / 1000) if kind else 0.0


def _names(partitions: Collection[TopicPartition]) -> list[str]:
    return [f"{topic}/{number}" for topic, number in sorted(partitions)]

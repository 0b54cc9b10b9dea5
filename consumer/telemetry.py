"""What happens, told to the metrics, the log and systemd: the one place that knows all. Never row values or secrets."""

from __future__ import annotations

import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from consumer.assignment import Assignment, Phase
from consumer.batch import Batch
from consumer.errors import TopicPartition
from consumer.events import Event, Repeats, tell
from consumer.health import Health
from consumer.letter import DeadLetter
from consumer.metrics import Metrics, Update
from consumer.pauses import BACKPRESSURE, TURN
from consumer.systemd import ServiceManager
from consumer.writer import Published, Written

ALIVE_SECONDS = 60.0
_EVENTS = 50  # kept for `status`
_KINDS = 50
_CODE = re.compile(r"\(([0-9A-Z]{5}|SQLITE_\w+)\)$")  # how a sentence about an outage ends
_SAMPLES = 5  # places of dead letters of one kind
_HISTORY = 600  # looks
_FIELDS, _FIELD_LENGTH = 50, 60  # names kept of fields that a topic's records have and no column takes
_LEDGER = (
    "records_consumed",
    "records_written",
    "records_filtered",
    "records_duplicate",
    "records_released",
    "records_in_flight",
)
_SERVICES = {"Kafka": "kafka", "dead letters": "kafka", "schema registry": "registry"}
_CONNECTION = "connection"  # an outage without a code
_LIMITS, _PENDING = "limits", "dead_letters_pending"  # what holds everything


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the daemon is, in records of this process's life.

    `next_offsets` are of the batch just committed, `trigger` is what closed it.
    """

    written: int
    filtered: int
    next_offsets: Mapping[TopicPartition, int]
    trigger: str


class Observer:
    """Told what matters beyond the moment, in the pipeline's thread; must not block. This one does nothing with it."""

    def wrote(self, written: Written) -> None:
        """A batch was committed."""

    def looked(self) -> None:
        """About once a second."""

    def held(self, reason: str, hint: str) -> None:
        """Something waits for an operator: everything, or one partition."""

    def resumed(self) -> None:
        """Nothing does any longer."""

    def job(self) -> dict[str, Any] | None:
        """How far it is, as JSON can hold it; None where it has no end. Asked from any thread."""
        return None


class Telemetry:
    """Told by the pipeline, in its thread; `health` may be asked from any. `clock` as the pipeline's."""

    def __init__(
        self,
        metrics: Metrics,
        on_progress: Callable[[Progress], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        manager: ServiceManager | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._observer = observer or Observer()
        self._holding: dict[str, str] = {}  # what waits for an operator, and why
        self._metrics, self._on_progress, self._clock = metrics, on_progress, clock
        self._manager = manager or ServiceManager()
        self._lock = threading.Lock()
        self._beat = clock()
        self._state, self._reason = "starting", "it has not joined the group yet"
        self._joined = False
        self._away = ""  # why Kafka cannot be reached
        self._waited: dict[str, str] = {}  # for which services, and why
        self._written = self._filtered = 0
        self._repeats = Repeats(clock)
        self._partitions: dict[str, dict[str, Any]] = {}
        self._kinds: dict[str, dict[str, Any]] = {}  # of dead letters
        self._dropped: dict[str, list[str]] = {}  # by topic
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self._times: dict[TopicPartition, tuple[int, int]] = {}  # timestamps of the records committed last
        self._lasts: dict[TopicPartition, dict[str, Any]] = {}  # the last batch of each partition
        self._history: deque[dict[str, Any]] = deque(maxlen=_HISTORY)
        self._started_at = time.time()
        for outcome in ("set", "reload", "refused"):
            self._metrics.count("config_changes", 0, outcome=outcome)
        self._set_state("starting", self._reason)

    def health(self) -> Health:
        """Alive: the loop turned lately. Ready: in the group, every partition claimed, the sink and Kafka answering."""
        with self._lock:
            age = self._clock() - self._beat
            if age > ALIVE_SECONDS:
                return Health(False, False, f"the loop has not turned for {age:.0f} s")
            if self._state == "running" and self._away:
                return Health(True, False, self._away)
            return Health(True, self._state in ("running", "paused"), self._reason)

    def status(self) -> dict[str, Any]:
        """How it stands, as JSON can hold it: what it does and why, how far a job is, the partitions, dead letters
        by kind with the coordinates of the last one, the latest events. Never row values, never secrets."""
        health = self.health()
        names = ("consumed", "written", "filtered", "dead_lettered", "duplicate", "released")
        with self._lock:
            return {
                "state": self._state,
                "reason": health.reason,
                "alive": health.alive,
                "ready": health.ready,
                "started_at": round(self._started_at, 3),
                "progress": self._history[-1] if self._history else None,
                "job": self._observer.job(),
                "records": {name: int(self._metrics.total(f"records_{name}")) for name in names}
                | {"in_flight": int(self._metrics.total("records_in_flight"))},
                "retries": int(self._metrics.total("write_retries")),
                "isolated_batches": int(self._metrics.total("isolation_seconds")),
                "dead_letters_pending": int(self._metrics.value("dead_letters_pending")),
                "breaker_open": bool(self._metrics.value("breaker_open")),
                "partitions": dict(self._partitions),
                "dead_letters": {name: dict(kind) for name, kind in self._kinds.items()},
                "unknown_fields": {topic: list(names) for topic, names in self._dropped.items()},
                "events": list(self._events),
            }

    def history(self) -> list[dict[str, Any]]:
        """The last ten minutes, about a second apart: Unix time, records handled by then, and the lag in records."""
        with self._lock:
            return list(self._history)

    def beat(self, now: float) -> None:
        """The loop has turned."""
        with self._lock:
            gap, self._beat = now - self._beat, now
        self._metrics.set("poll_gap_seconds", gap)
        if (health := self.health()).alive:
            self._manager.alive(now, health.reason)

    def consumed(self, counts: Counter[str]) -> None:
        """Records were read."""
        with self._metrics.update() as update:
            for topic, count in counts.items():
                update.count("records_consumed", count, topic=topic)
                update.add("records_in_flight", count, topic=topic)

    def released(self, counts: Counter[str]) -> None:
        """Records were given back unwritten."""
        with self._metrics.update() as update:
            _landed(update, "records_released", counts)

    def wrote(self, written: Written, seconds: float) -> None:
        """A batch was committed."""
        batch = written.batch
        with self._metrics.update() as update:
            _landed(update, "records_written", written.records)
            _landed(update, "records_filtered", written.filtered)
            _landed(update, "records_duplicate", written.duplicates)
            for (topic, stage, reason), count in Counter(map(_kind, written.letters)).items():
                update.count("records_dead_lettered", count, topic=topic, stage=stage, reason=reason)
                update.add("records_in_flight", -count, topic=topic)
            for table, count in written.rows.items():
                update.count("rows_affected", count, table=table)
            for stage, spent in written.seconds.items():
                update.observe("stage_seconds", spent, stage=stage)
            if "isolate" in written.seconds:
                update.observe("isolation_seconds", written.seconds["isolate"])
            update.set("breaker_open", 0)
            update.observe("write_duration_seconds", seconds, outcome="written")
            update.observe("batch_records", len(batch.messages))
            update.observe("batch_bytes", batch.size)
            update.count("batches_closed", 1, trigger=batch.trigger)
            update.observe("end_to_end_latency_seconds", _age(batch.messages[-1].timestamp()) if batch.messages else 0)
            update.set("last_success_timestamp_seconds", time.time())
        self._times |= {key: message.timestamp() for key, message in batch.lasts.items()}
        at = round(time.time(), 3)
        for key, end in batch.next_offsets.items():
            self._lasts[key] = {"at": at, "offsets": end - batch.starts.get(key, end)}
        if written.letters:
            self._dead_lettered(written.letters)
        for topic, names in written.dropped.items():
            self._drops(topic, names)
        self._goes_on(_LIMITS)
        self._set_state("running", "records are being written")
        self._written += sum(written.records.values())
        self._filtered += sum(written.filtered.values())
        tell(
            Event.BATCH_WRITTEN,
            **_of(batch),
            records=len(batch.messages),
            dead_letters=len(written.letters),
            trigger=batch.trigger,
            seconds=round(seconds, 3),
        )
        self._observer.wrote(written)
        if self._on_progress:
            self._on_progress(Progress(self._written, self._filtered, written.next_offsets, batch.trigger))

    def _dead_lettered(self, letters: Collection[DeadLetter]) -> None:
        """Tell each kind once, with the place of its last record."""
        counts, lasts = Counter(map(_kind, letters)), {_kind(letter): letter for letter in letters}
        for kind, letter in lasts.items():
            place = {"topic": letter.topic, "partition": letter.partition, "offset": letter.offset}
            with self._lock:
                name = ", ".join(kind)
                name = name if name in self._kinds or len(self._kinds) < _KINDS else "other"
                known = self._kinds.get(name, {"count": 0, "samples": []})
                self._kinds[name] = {
                    "count": known["count"] + counts[kind],
                    "reason": letter.evidence.reason,
                    "last": place,
                    "samples": [*known["samples"], place][-_SAMPLES:],
                }
            self._tell(
                Event.DEAD_LETTERED,
                letter.evidence.reason,
                topic=letter.topic,
                partition=letter.partition,
                offset=letter.offset,
                batch=letter.evidence.batch,
                records=counts[kind],
                stage=letter.evidence.stage,
                code=kind[2],
            )

    def _drops(self, topic: str, names: Collection[str]) -> None:
        """Tell once of each name; only so many, as a producer may make names of what ought to be values."""
        known = self._dropped.get(topic, [])
        new = sorted({name[:_FIELD_LENGTH] for name in names}.difference(known))[: _FIELDS - len(known)]
        if not new:
            return
        with self._lock:
            self._dropped[topic] = [*known, *new]
        self._metrics.set("unknown_fields", len(known) + len(new), topic=topic)
        hint = "Add columns for them; or let sink.tables.NAME.unknown keep them, or refuse such records."
        self._note(Event.FIELDS_DROPPED, f"{topic}: no column takes {', '.join(new)}", hint)
        tell(Event.FIELDS_DROPPED, topic=topic, fields=new, hint=hint)

    def published(self, published: Published) -> None:
        """The topics of dead letters have answered."""
        with self._metrics.update() as update:
            update.count("dead_letters_published", published.delivered)
            update.count("dead_letter_publish_failures", len(published.errors))
            update.set("dead_letters_pending", published.pending)
        if not self._waited.get("registry"):  # of which this tells nothing
            self._answers()
        if published.errors:
            self._tell(Event.DEAD_LETTERS_NOT_PUBLISHED, published.errors[0], pending=published.pending)

    def stopped_writing(self, reason: str, probe_after: float, batch: Batch | None = None) -> None:
        """Too many records of a batch are at fault, or one cannot be written and it is not known why."""
        with self._metrics.update() as update:
            update.set("breaker_open", 1)
            update.observe("write_duration_seconds", 0, outcome="held")
        hint = f"microbatch resume CONFIG tries again now; by itself it tries a few records in {probe_after:.0f} s"
        self._set_state("held", f"{reason}. {hint}")
        self._note(Event.HELD, reason, hint)
        tell(Event.HELD, **_of(batch), reason=reason, hint=hint)
        self._hold(_LIMITS, reason, hint)

    def probed(self, accepted: bool | None) -> None:
        """What was held is tried again: by itself (None), or because somebody said so."""
        self._note(Event.RESUMED, "by itself" if accepted is None else "by microbatch resume")
        tell(Event.RESUMED, by="time" if accepted is None else "operator", accepted=bool(accepted))

    def unavailable(self, reason: str, failures: int, seconds: float, batch: Batch | None = None) -> None:
        """The sink, the registry, or Kafka's metadata cannot serve: the same work is tried again, a `batch` perhaps."""
        code = _code(reason)
        with self._metrics.update() as update:
            update.count("write_retries", 1, reason=code)
            update.observe("write_duration_seconds", seconds, outcome="unavailable")
        service = _service(reason)
        if (
            batch is not None
        ):  # it meets one after the other: what it waited for before has answered, or is not asked yet
            for other in {"database", "registry"} - {service}:
                self._wait_for(other, "")
        self._wait_for(service, code)
        self._set_state("unavailable", reason)
        self._tell(Event.RETRY, reason, failures=failures, **_of(batch))

    def fenced(self, partitions: Collection[TopicPartition]) -> None:
        """Another instance owns these."""
        self._metrics.count("fenced", len(partitions))
        tell(Event.FENCED, partitions=_names(partitions))

    def held(self, partition: TopicPartition, reason: str, hint: str) -> None:
        """This partition waits for its operator."""
        (name,) = _names([partition])
        self._note(Event.HELD, f"{name}: {reason}", hint)
        tell(Event.HELD, topic=partition[0], partition=partition[1], reason=reason, hint=hint)
        self._hold(name, f"{name}: {reason}", hint)

    def claimed(self, starts: Mapping[TopicPartition, int]) -> None:
        """These flow from now on."""
        self._metrics.count("claims", len(starts), outcome="claimed")
        self._answers()
        self._goes_on(*_names(starts))
        tell(Event.CLAIMED, next_offsets={f"{topic}/{number}": offset for (topic, number), offset in starts.items()})

    def rebalanced(self, kind: str, partitions: Collection[TopicPartition]) -> None:
        """Partitions have come or gone."""
        self._joined = True
        with self._metrics.update() as update:
            update.count("rebalances", 1, kind=kind)
            for topic in {topic for topic, _ in partitions}:
                for name in _LEDGER:  # from 0, or nobody would see the first ones as an increase
                    update.add(name, 0, topic=topic)
            if kind != "assigned":
                for topic, partition in partitions:
                    update.forget(topic, partition)
                    self._times.pop((topic, partition), None)
                    self._lasts.pop((topic, partition), None)
        if kind != "assigned" and self._state != "draining":  # at the end nothing goes on: it was held to the last
            self._goes_on(*_names(partitions))
        tell(Event.REBALANCED, kind=kind, partitions=_names(partitions))

    def commit_failed(self, reason: str) -> None:
        """Offsets did not reach Kafka; where the sink keeps them, only lag tools suffer."""
        self._metrics.count("commit_failures", 1)
        self._tell(Event.COMMIT_FAILED, reason)

    def trouble(self, reason: str) -> None:
        """Something that mends itself."""
        self._tell(Event.TROUBLE, reason)

    def operated(self, event: Event, **fields: object) -> None:
        """Somebody has asked for something; from any thread."""
        told = ", ".join(f"{name.replace('_', ' ')}: {_listed(value)}" for name, value in fields.items() if value)
        self._note(event, told)
        tell(event, **fields)

    def changed(self, setting: str, before: int, after: int, how: str) -> None:
        """A setting has another value from now on: by `set`, or by `reload`; from any thread."""
        self._metrics.count("config_changes", 1, outcome=how)
        self._note(Event.SETTING_CHANGED, f"{setting}: {before} -> {after}, by {how}")
        tell(Event.SETTING_CHANGED, setting=setting, before=before, after=after, by=how)

    def refused_file(self, reason: str) -> None:
        """The configuration was read again, and is wrong; from any thread."""
        hint = "Everything goes on with what was read before. Correct the file, and send SIGHUP again."
        self._metrics.count("config_changes", 1, outcome="refused")
        self._note(Event.RELOAD_REFUSED, reason, hint)
        tell(Event.RELOAD_REFUSED, reason=reason, hint=hint)

    def kafka_away(self, reason: str) -> None:
        """Kafka cannot be reached: there may be records that nobody reads."""
        with self._lock:
            before, self._away = self._away, reason
        self._wait_for("kafka", _CONNECTION)
        if not before:
            tell(Event.KAFKA_AWAY, reason=reason)
            self._note(Event.KAFKA_AWAY, reason)

    def kafka_back(self) -> None:
        """The end of `kafka_away`."""
        with self._lock:
            self._away = ""
        self._wait_for("kafka", "")
        tell(Event.KAFKA_BACK)

    def cut(self, seconds: float, batch: Batch | None = None) -> None:
        """A write, of a batch or else of something of our own, hung, and its connection was broken."""
        self._metrics.count("watchdog_kills", 1)
        reason = "no answer within sink.write_deadline_ms"
        tell(Event.CONNECTION_CUT, **_of(batch), reason=reason, seconds=round(seconds, 1))

    def draining(self) -> None:
        """The end has begun."""
        self._set_state("draining", "it is writing what was read, and will leave")
        self._manager.stopping(self._reason)
        tell(Event.DRAINING)

    def looked(
        self,
        assignment: Assignment,
        ends: Mapping[TopicPartition, int | None],
        written_to: Mapping[TopicPartition, int],
        paused: Mapping[TopicPartition, str],
        oldest: float | None,
        holds: str = "",
    ) -> None:
        """The state of things, about once a second."""
        phases, reasons = assignment.phases(), assignment.reasons()
        pending = bool(holds) and not self._metrics.value("breaker_open")
        lags = {
            key: max(0, end - written_to[key]) for key, end in ends.items() if end is not None and key in written_to
        }
        shown = {
            f"{topic}/{number}": {
                "phase": str(phase),
                "next_offset": written_to.get((topic, number)),
                "end": ends.get((topic, number)),
                "lag": lags.get((topic, number)),
                "paused": _paused(phase, paused.get((topic, number), "")),
                "reason": reasons.get((topic, number), ""),
                "last_batch": self._lasts.get((topic, number)),
            }
            for (topic, number), phase in sorted(assignment.phase_of().items())
        }
        handled = sum(self._metrics.total(f"records_{name}") for name in ("written", "filtered", "dead_lettered"))
        with self._lock:
            self._partitions = shown
            self._history.append({"at": round(time.time(), 3), "handled": int(handled), "lag": sum(lags.values())})
        with self._metrics.update() as update:
            update.set("partitions_assigned", sum(phases.values()))
            for reason in (BACKPRESSURE, TURN):
                update.set("partitions_paused", list(paused.values()).count(reason), reason=reason)
            update.set("partitions_paused", phases[Phase.HELD], reason="held")
            update.set("partitions_paused", phases[Phase.FENCED], reason="fenced")
            update.set("partitions_paused", phases[Phase.PAUSED], reason="operator")
            update.set("partitions_paused", phases[Phase.UNCLAIMED] + phases[Phase.CLAIMING], reason="unclaimed")
            update.set("hold", float(bool(holds) and not pending), reason="limits")
            update.set("hold", float(pending), reason="dead_letters_pending")
            update.set("oldest_unwritten_seconds", self._clock() - oldest if oldest is not None else 0.0)
            for key, lag in lags.items():
                seconds = _age(self._times[key]) if lag and key in self._times else 0.0
                update.set("consumer_lag", lag, topic=key[0], partition=str(key[1]))
                update.set("consumer_lag_seconds", seconds, topic=key[0], partition=str(key[1]))
        if pending:
            self._hold(_PENDING, holds, "Create the topic of dead letters, or let it be written.")
        else:
            self._goes_on(_PENDING)
        self._judge(phases, reasons, holds)
        self._observer.looked()

    def _judge(self, phases: Mapping[Phase, int], reasons: Mapping[TopicPartition, str], holds: str) -> None:
        if self._state in {"unavailable", "draining"}:
            return
        if holds:
            self._set_state("held", holds)
            return
        if reasons:
            (topic, partition), reason = min(reasons.items())
            self._set_state("held", f"{len(reasons)} partitions are held; {topic} {partition}: {reason}")
        elif phases[Phase.UNCLAIMED] or phases[Phase.CLAIMING]:
            self._set_state("claiming", "partitions are being claimed")
        elif phases[Phase.PAUSED] and phases[Phase.PAUSED] == sum(phases.values()):
            self._set_state("paused", "an operator paused every partition; microbatch resume CONFIG ends it")
        elif self._joined:
            paused = f"; an operator paused {phases[Phase.PAUSED]} partitions" if phases[Phase.PAUSED] else ""
            self._set_state("running", f"records are written as they come{paused}")

    def _hold(self, name: str, reason: str, hint: str) -> None:
        before, self._holding[name] = self._holding.get(name), reason
        if before != reason:
            self._observer.held(reason, hint)

    def _goes_on(self, *names: str) -> None:
        ended = [self._holding.pop(name) for name in names if name in self._holding]
        if ended and not self._holding:
            self._observer.resumed()

    def _answers(self) -> None:
        if self._state == "unavailable":
            self._set_state("running", "the sink answers again")

    def _set_state(self, state: str, reason: str) -> None:
        with self._lock:
            before, self._state, self._reason = self._state, state, reason
        if before != state or state == "starting":
            with self._metrics.update() as update:
                update.set("state", 0, state=before)
                update.set("state", 1, state=state)
        if before == "unavailable" != state:
            self._wait_for("database", "")
            self._wait_for("registry", "")
            self._wait_for("kafka", _CONNECTION if self._away else "")

    def _wait_for(self, service: str, code: str) -> None:
        """This service is waited for, and why; it answers: an empty `code`."""
        before, self._waited[service] = self._waited.get(service, ""), code
        if before == code:
            return
        with self._metrics.update() as update:
            if before:
                update.set("unavailable", 0, service=service, reason=before)
            if code:
                update.set("unavailable", 1, service=service, reason=code)

    def _note(self, event: Event, reason: str, hint: str = "") -> None:
        with self._lock:
            self._events.append({"at": round(time.time(), 3), "event": str(event), "reason": reason, "hint": hint})

    def _tell(self, event: Event, reason: str, **fields: object) -> None:
        """Log what may repeat, and note it once in a while."""
        if self._repeats.passes(event.key({"reason": reason, **fields})) is not None:
            self._note(event, reason)
        tell(event, reason=reason, **fields)


def _landed(update: Update, name: str, counts: Counter[str]) -> None:
    """These are no longer in flight, and counted under that name."""
    for topic, count in counts.items():
        update.count(name, count, topic=topic)
        update.add("records_in_flight", -count, topic=topic)


def _kind(letter: DeadLetter) -> tuple[str, str, str]:
    """Topic, stage and reason: what dead letters are counted by."""
    return letter.topic, letter.evidence.stage, letter.evidence.sqlstate or letter.evidence.error


def _paused(phase: Phase, reason: str) -> str:
    """Why a partition is not read; empty if it is. `reason`: if it flows."""
    if phase is Phase.FLOWING:
        return reason
    return {Phase.PAUSED: "operator", Phase.CLAIMING: str(Phase.UNCLAIMED)}.get(phase, str(phase))


def _listed(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _service(reason: str) -> str:
    """Which service a sentence about an outage is about, by how it begins."""
    return next((service for start, service in _SERVICES.items() if reason.startswith(start)), "database")


def _code(reason: str) -> str:
    """The SQLSTATE or SQLite's code that a sentence about an outage ends with."""
    found = _CODE.search(reason)
    return found[1] if found else _CONNECTION


def _age(timestamp: tuple[int, int]) -> float:
    kind, milliseconds = timestamp
    return max(0.0, time.time() - milliseconds / 1000) if kind else 0.0


def _names(partitions: Collection[TopicPartition]) -> list[str]:
    return [f"{topic}/{number}" for topic, number in sorted(partitions)]


def _of(batch: Batch | None) -> dict[str, Any]:
    """Which batch it is: its name, and the first and last offset of each partition."""
    if batch is None:
        return {}
    ends = batch.next_offsets
    offsets = {f"{topic}/{number}": [start, ends[topic, number] - 1] for (topic, number), start in batch.starts.items()}
    return {"batch": batch.name or None, "offsets": offsets}

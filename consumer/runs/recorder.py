"""Follows one run: adds up what the report says, and tells what happens."""

from __future__ import annotations

import datetime
import os
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from consumer import __version__
from consumer.config import Settings
from consumer.display import Show
from consumer.errors import TopicPartition
from consumer.events import Event, tell
from consumer.goal import Goal
from consumer.letter import DeadLetter
from consumer.metrics import Metrics
from consumer.runs.remedies import remedy
from consumer.runs.report import Category, Part, Report, Status
from consumer.telemetry import Observer
from consumer.writer import Written

_STEPS = 10
_KINDS = 50
_QUIET_SECONDS = 30.0
_NAMED = 10
_LEDGER = ("consumed", "written", "duplicate", "filtered", "dead_lettered", "released", "in_flight")
Kind = tuple[str, str, str | None, str | None, str | None]
_OTHER: Kind = ("other", "other kinds", None, None, None)


@dataclass(frozen=True, slots=True)
class Run:
    """What is known of a run when it begins; see Report."""

    id: str
    config: str
    group: str
    topics: tuple[str, ...]
    until: str | None
    started: str
    version: str = __version__
    host: str = ""
    pid: int = 0


def begin(settings: Settings, config: str, until: str | None) -> Run:
    """A run that begins now; ids are in the order in which runs began."""
    now = datetime.datetime.now(datetime.UTC)
    name = f"{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
    topics, group = tuple(settings.topics), str(settings.kafka["group.id"])
    return Run(name, config, group, topics, until, _text(now), host=socket.gethostname(), pid=os.getpid())


class Recorder(Observer):
    """`notify` gets events (see NotifySettings.events) with what they are about.

    Of dead letters at most 50 kinds are told apart. `clock` gives monotonic seconds.
    """

    def __init__(
        self,
        run: Run,
        metrics: Metrics,
        notify: Callable[[str, Mapping[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._run, self._metrics, self._notify, self._clock = run, metrics, notify, clock
        self._began = self._moved_at = clock()
        self._goal = Goal()
        self._show: Show | None = None
        self._step, self._done = 0, -1
        self._first: tuple[float, int] | None = None  # when it had begun to move, and how far it was then
        self._standing: dict[str, Any] | None = None
        self._holds = ""
        self._bytes = 0
        self._second, self._in_second, self._peak = 0, 0, 0
        self._kinds: Counter[Kind] = Counter()
        self._firsts: dict[Kind, str] = {}

    def aimed(self, goal: Goal, show: Show | None = None) -> None:
        """It is a job, and this is where it ends; `show` gets its progress, in offsets."""
        self._goal, self._show = goal, show
        self._standing = self._progress()
        done, total = goal.progress
        tell(Event.JOB_BEGINS, partitions=len(goal.targets), offsets=total)
        if self._show:
            self._show(done, total)

    def wrote(self, written: Written) -> None:
        """See Observer.wrote."""
        self._bytes += written.batch.size
        second, count = int(self._clock()), sum(written.records.values()) + len(written.letters)
        count += sum(written.filtered.values())
        self._in_second = count + (self._in_second if second == self._second else 0)
        self._second, self._peak = second, max(self._peak, self._in_second)
        if written.letters:
            self._count(written.letters)
        self._advance()

    def looked(self) -> None:
        """See Observer.looked."""
        self._advance()
        if self._goal.endless:
            return
        self._standing, now = self._progress(), self._clock()
        if now - self._moved_at >= _QUIET_SECONDS:
            self._moved_at = now
            left = {f"{topic}/{number}": self._way((topic, number)) for topic, number in self._goal.left[:_NAMED]}
            tell(Event.JOB_WAITS, reason=self._holds or "nothing was committed for 30 s", left=left)

    def held(self, reason: str, hint: str) -> None:
        """See Observer.held."""
        self._holds = reason
        self.event("held", reason=reason, hint=hint)

    def resumed(self) -> None:
        """See Observer.resumed."""
        self._holds = ""
        self.event("resumed")

    def job(self) -> dict[str, Any] | None:
        """See Observer.job: as of a second ago."""
        return self._standing

    def event(self, name: str, **about: Any) -> None:
        """Tell that this has happened, with how the run stands."""
        run = {key: value for key, value in asdict(self._run).items() if key not in ("version", "pid")}
        stands = {"at": _now(), "run": run, "records": self._records()}
        if not self._goal.endless:
            stands["progress"] = self._progress()
        self._notify(name, stands | about)

    def report(
        self,
        status: Status | None = None,
        reason: str = "",
        hint: str = "",
        *,
        checkpoints: Mapping[TopicPartition, int] | None = None,
    ) -> Report:
        """What it has done until now. `status` None: as it is judged when the loop has ended without an error."""
        seconds, records = self._clock() - self._began, self._records()
        handled = records["written"] + records["filtered"] + records["dead_lettered"]
        status, mean = status or self._judged(records), round(handled / seconds, 1) if seconds else 0.0
        return Report(
            **asdict(self._run),
            status=status,
            reason=reason or (self._holds if status is Status.HELD else ""),
            hint=hint,
            ended=None if status is Status.RUNNING else _now(),
            seconds=round(seconds, 3),
            records=records,
            rows={table: int(count) for (table,), count in self._metrics.by("rows_affected").items()},
            bytes=self._bytes,
            mean_rate=mean,
            peak_rate=max(float(self._peak), mean),  # what takes less than a second may be counted in two
            dead_letters=[self._category(kind, count) for kind, count in self._kinds.most_common()],
            pending=int(self._metrics.value("dead_letters_pending")),
            partitions=[self._part(key, checkpoints or {}) for key in sorted(self._goal.targets)],
        )

    def _judged(self, records: Mapping[str, int]) -> Status:
        if self._goal.complete:
            return Status.COMPLETED_WITH_DEAD_LETTERS if records["dead_lettered"] else Status.COMPLETED
        return Status.HELD if self._holds else Status.STOPPED

    def _records(self) -> dict[str, int]:
        return {name: int(self._metrics.total(f"records_{name}")) for name in _LEDGER}

    def _count(self, letters: Sequence[DeadLetter]) -> None:
        """By kind, with the place of the first."""
        firsts = {_kind(letter): letter for letter in reversed(letters)}
        for kind, count in Counter(map(_kind, letters)).items():
            first = firsts[kind]
            kind = kind if kind in self._kinds or len(self._kinds) < _KINDS else _OTHER
            self._kinds[kind] += count
            self._firsts.setdefault(kind, f"{first.topic}/{first.partition}/{first.offset}")

    def _category(self, kind: Kind, count: int) -> Category:
        stage, _, sqlstate, _, _ = kind
        return Category(count, *kind, first=self._firsts[kind], remedy=remedy(stage, sqlstate))

    def _part(self, key: TopicPartition, checkpoints: Mapping[TopicPartition, int]) -> Part:
        goal = self._goal
        return Part(*key, goal.starts.get(key), goal.targets[key], goal.positions.get(key), checkpoints.get(key))

    def _way(self, key: TopicPartition) -> str:
        return f"{self._goal.positions.get(key, 'not known')} of {self._goal.targets[key]}"

    def _advance(self) -> None:
        """Show how far the job is, and tell each tenth of the way but the last, which its end tells."""
        if self._goal.endless:
            return
        done, total = self._goal.progress
        if done != self._done:
            self._done, self._moved_at = done, self._clock()
            self._first = self._first or (self._moved_at, done) if done else None
        if self._show:
            self._show(done, total)
        step = done * _STEPS // total if total else 0
        if self._step < step < _STEPS:
            self._step = step
            if self._show is None:
                tell(Event.MILESTONE, **self._progress())
            self.event("milestone")

    def _progress(self) -> dict[str, int | float | None]:
        """In offsets; rate and seconds left by the average since it began to move, None before that is known."""
        done, total = self._goal.progress
        since, before = self._first or (self._clock(), done)
        seconds = self._clock() - since
        rate = round((done - before) / seconds, 1) if seconds else None
        return {
            "done": done,
            "total": total,
            "percent": done * 100 // total if total else 100,
            "per_second": rate,
            "eta_seconds": round((total - done) / rate, 1) if rate else None,
        }


def _kind(letter: DeadLetter) -> Kind:
    told = letter.evidence
    return told.stage, told.error, told.sqlstate, told.table, told.constraint


def _now() -> str:
    return _text(datetime.datetime.now(datetime.UTC))


def _text(moment: datetime.datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

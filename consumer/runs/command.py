"""The command `microbatch run`, put together: the daemon or a job, its history, notifications and report."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from consumer.cluster import KafkaCluster
from consumer.config import Settings
from consumer.display import Show, bar
from consumer.errors import ConfigError, FatalError, MicrobatchError, TopicPartition, UnavailableError
from consumer.events import Event, tell
from consumer.goal import Goal
from consumer.metrics import Metrics
from consumer.notify import open_notifier
from consumer.run import run_daemon
from consumer.runs.aim import aim, checkpoints
from consumer.runs.history import open_history
from consumer.runs.recorder import Recorder, begin
from consumer.runs.report import Report, Status, lines
from consumer.terminal import say

_UNNAMED = "an error ended it that is a defect of microbatch, or of your own code: see the end of the log"
_EVENTS = {Status.FAILED: "failed", Status.STOPPED: "stopped", Status.HELD: "stopped"}


@dataclass(frozen=True, slots=True)
class Job:
    """A run that ends by itself: at the ends that its partitions have at its start, or at `until` if that is before.

    `report`: the file that gets the report, as JSON.
    """

    until: datetime.datetime | None = None
    report: Path | None = None


def run(settings: Settings, config: Path, job: Job | None, reload: Callable[[], Settings]) -> Report:
    """Run the daemon, or the job, until it is told to stop, or done: that is what its report says.

    Raises ConfigError, FatalError, UnavailableError. Also then the history has it, who is to be notified knows of it,
    and a job's report is printed and written.
    """
    if job and job.report and not job.report.parent.is_dir():
        raise ConfigError("--report", str(job.report), "there is no such folder: create it")
    metrics, history = Metrics(str(settings.kafka["group.id"])), open_history(settings.runs)
    this = begin(settings, str(config), _until(job))
    notifier = open_notifier(settings, metrics, this.id)
    recorder = Recorder(this, metrics, notifier.tell)
    history.save(recorder.report(Status.RUNNING))
    recorder.event("started")
    outcome: tuple[Status | None, str, str] = (Status.FAILED, _UNNAMED, "")
    try:
        with _display(job) as show:
            aiming = _aiming(settings, job, recorder, show) if job else None
            run_daemon(settings, reload=reload, metrics=metrics, observer=recorder, aim=aiming)
        outcome = None, "", ""
    except MicrobatchError as error:
        outcome = Status.FAILED, str(error), getattr(error, "hint", "")
        raise
    finally:
        stored = _checkpoints(settings) if job and outcome[0] is None else {}
        report = recorder.report(*outcome, checkpoints=stored)
        history.save(report)
        told = {"status": report.status, "reason": report.reason, "hint": report.hint, "seconds": report.seconds}
        recorder.event(_EVENTS.get(report.status, "completed"), **told)
        if job:
            _publish(report, job)
        notifier.close()
    return report


def _until(job: Job | None) -> str | None:
    if job is None:
        return None
    return "end" if job.until is None else job.until.isoformat()


def _aiming(settings: Settings, job: Job, recorder: Recorder, show: Show | None) -> Callable[[KafkaCluster], Goal]:
    def aiming(cluster: KafkaCluster) -> Goal:
        goal = aim(settings, job.until, cluster)
        recorder.aimed(goal, show)
        return goal

    return aiming


@contextmanager
def _display(job: Job | None) -> Iterator[Show | None]:
    """A bar on a terminal; elsewhere the milestones in the log are enough."""
    console = Console(stderr=True)
    if job is None or not console.is_terminal:
        yield None
        return
    with bar(console, "offsets") as show:
        yield show


def _checkpoints(settings: Settings) -> dict[TopicPartition, int]:
    try:
        return checkpoints(settings)
    except (UnavailableError, FatalError) as error:
        tell(Event.CHECKPOINTS_UNKNOWN, reason=str(error))
        return {}


def _publish(report: Report, job: Job) -> None:
    """Print it, and write it where it is wanted. Raises FatalError where it cannot be."""
    say(lines(report))
    if job.report is None:
        return
    try:
        job.report.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    except OSError as error:
        hint = "The run is done as its printed report says; `microbatch runs show` prints it again."
        raise FatalError(f"--report {job.report}: cannot be written ({error.strerror})", hint) from None

"""What a run did, as JSON and as text. Never values of rows, never secrets."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a run stands, or ended."""

    RUNNING = "running"
    VANISHED = "vanished"  # it is gone, and could not say how it ended
    COMPLETED = "completed"
    COMPLETED_WITH_DEAD_LETTERS = "completed_with_dead_letters"
    STOPPED = "stopped"  # somebody told it to
    HELD = "held"  # the same, while something waited for an operator
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Category:
    """Dead letters that are alike: how many, where the first one is, and what to do about them."""

    count: int
    stage: str
    error: str
    sqlstate: str | None
    table: str | None
    constraint: str | None
    first: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Part:
    """One partition of a job, in next offsets; None: not known.

    It went from `start` to `target`, or as far as `reached`; `checkpoint` is what was stored when the job had ended.
    """

    topic: str
    partition: int
    start: int | None
    target: int
    reached: int | None
    checkpoint: int | None


@dataclass(frozen=True, slots=True)
class Report:
    """One run. Times are ISO 8601 in UTC, durations in seconds, `bytes` of values, rates in records a second.

    `until` is `end` or a time for a job, None for a daemon. `records` is the ledger: consumed = written + duplicate +
    filtered + dead_lettered + released + in_flight. `rows` by table. `pending`: dead letters that their topic lacks.
    """

    id: str
    status: Status
    reason: str
    hint: str
    config: str
    group: str
    topics: Sequence[str]
    until: str | None
    version: str
    host: str
    pid: int
    started: str
    ended: str | None
    seconds: float
    records: Mapping[str, int]
    rows: Mapping[str, int]
    bytes: int
    mean_rate: float
    peak_rate: float
    dead_letters: Sequence[Category]
    pending: int
    partitions: Sequence[Part]

    def as_json(self) -> dict[str, Any]:
        """As JSON can hold it; `of_json` reads it."""
        return asdict(self)

    def exit_code(self, *, strict: bool = False) -> int:
        """0 done, 1 not. `strict`: dead letters are a failure. A daemon that somebody stopped is done."""
        if self.until is None and self.status in (Status.STOPPED, Status.HELD):
            return 0
        done = (Status.COMPLETED,) if strict else (Status.COMPLETED, Status.COMPLETED_WITH_DEAD_LETTERS)
        return 0 if self.status in done else 1


def of_json(found: Mapping[str, Any]) -> Report:
    """The report that was written so. Raises KeyError, TypeError, ValueError for anything else."""
    values = {field.name: found[field.name] for field in fields(Report)}
    values["status"] = Status(values["status"])
    values["dead_letters"] = [Category(**one) for one in values["dead_letters"]]
    values["partitions"] = [Part(**one) for one in values["partitions"]]
    return Report(**values)


def lines(report: Report) -> Iterator[str]:
    """For people."""
    records = report.records
    yield f"{str(report.status).replace('_', ' ')}: {_outcome(report)}"
    if report.hint:
        yield f"hint        {report.hint}"
    ended = f" to {_clock(report.ended)}" if report.ended else ""
    yield f"run         {report.id}, {report.config}, group {report.group}, microbatch {report.version}"
    yield f"time        {_clock(report.started)}{ended}, {report.seconds:,.1f} s"
    yield "records     " + ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in records.items())
    if report.rows:
        yield "rows        " + ", ".join(f"{count:,} in {table}" for table, count in sorted(report.rows.items()))
    rates = f"{report.mean_rate:,.0f}/s on average, {report.peak_rate:,.0f}/s in the best second"
    yield f"throughput  {rates}; {report.bytes / 1e6:,.1f} MB of values"
    yield from _letters(report)
    for part in report.partitions:
        known = (_offset(part.start), _offset(part.target), _offset(part.reached), _offset(part.checkpoint))
        name = f"{part.topic}/{part.partition}"
        yield "partition   {}: from {} to {}, reached {}, stored {}".format(name, *known)


def _letters(report: Report) -> Iterator[str]:
    for kind in report.dead_letters:
        what = " ".join(filter(None, [kind.sqlstate or kind.error, kind.constraint or kind.table]))
        yield f"dead        {kind.count:,} {kind.stage}: {what} (first: {kind.first})"
        yield f"            {kind.remedy}"
    if report.dead_letters:
        yield f"            microbatch dlq list {shlex.quote(report.config)} shows them"
    if report.pending:
        yield f"pending     {report.pending:,} dead letters are in the table, and their topic lacks them"


def _outcome(report: Report) -> str:
    if report.reason:
        return report.reason
    done, letters = report.records.get("written", 0), report.records.get("dead_lettered", 0)
    told = f"{done:,} records written"
    return f"{told}, {letters:,} dead letters" if letters else told


def _offset(offset: int | None) -> str:
    return "unknown" if offset is None else f"{offset:,}"


def _clock(moment: str) -> str:
    return moment[:19].replace("T", " ") + "Z"

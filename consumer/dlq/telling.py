"""Dead letters in sentences, lines and JSON. Never key, value or headers, unless they are asked for."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from consumer.config import Settings
from consumer.decode.opening import open_decoder
from consumer.dlq.fix import opened
from consumer.dlq.replay import Reasons, Report, name_of
from consumer.errors import UnavailableError
from consumer.letter import DeadLetter
from consumer.sinks import Tally

_SHOWN = 2000  # bytes, of what cannot be decoded
_REASON = 100  # characters, in a line of many
_REASONS = 20
_STAGES = {"decode": "not decodable", "map": "not mappable"}
_REFUSALS = {
    "23502": "null in a column of",
    "23503": "foreign key",
    "23505": "unique constraint",
    "23514": "check constraint",
    "23P01": "exclusion constraint",
    "SQLITE_CONSTRAINT_CHECK": "check constraint",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "foreign key",
    "SQLITE_CONSTRAINT_NOTNULL": "null in a column of",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "primary key",
    "SQLITE_CONSTRAINT_UNIQUE": "unique constraint",
}


def summary(tallies: Sequence[Tally]) -> str:
    """How many there are, and of which kinds, in one sentence."""
    kinds: Counter[str] = Counter()
    for tally in tallies:
        kinds[_kind(tally)] += tally.count
    total = kinds.total()
    told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return f"{total:,} dead letter{'' if total == 1 else 's'}{': ' if told else ''}{told}"


def lines(letters: Sequence[DeadLetter]) -> list[str]:
    """A table for people."""
    rows = [["coordinates", "state", "stage", "error", "table", "first failed at", "tries", "reason"]]
    rows += [
        [
            name_of(letter.coordinates),
            letter.state,
            letter.evidence.stage,
            letter.evidence.sqlstate or letter.evidence.error,
            letter.evidence.table or "-",
            _time(letter.first_failed_at),
            str(letter.evidence.attempts),
            _cut(letter.evidence.reason, _REASON),
        ]
        for letter in letters
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def as_json(letter: DeadLetter) -> dict[str, Any]:
    """Where it comes from and why it is here."""
    kind, milliseconds = letter.timestamp
    return {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "state": letter.state,
        "evidence": asdict(letter.evidence),
        "timestamp_ms": milliseconds if kind else None,
        "first_failed_at": letter.first_failed_at.isoformat(),
        "replay_count": letter.replay_count,
        "key_bytes": None if letter.key is None else len(letter.key),
        "value_bytes": None if letter.value is None else len(letter.value),
        "headers": len(letter.headers or ()),
    }


def tally_as_json(tally: Tally) -> dict[str, Any]:
    """How many are of that kind."""
    return asdict(tally) | {"first": tally.first.isoformat(), "last": tally.last.isoformat()}


def shown(letter: DeadLetter, settings: Settings, *, value: bool) -> Iterator[str]:
    """All that is known of one; `value`: its key, value and headers as well."""
    told = as_json(letter)
    evidence: dict[str, Any] = told.pop("evidence")
    for name, found in (told | evidence).items():
        if found is not None:
            yield f"{name.replace('_', ' ')}: {found}"
    if not value:
        return
    yield "key: " + _opened(letter.key, settings.key_format, "key_format")
    yield "value: " + _opened(letter.value, settings.format, "format")
    for name, content in letter.headers or ():
        yield f"header {name}: " + ("null" if content is None else _escaped(content))


def reported(report: Report, *, dry_run: bool) -> Iterator[str]:
    """What a replay did, or would do."""
    yield f"{report.replayed:,} {'would be replayed' if dry_run else 'replayed'}"
    yield from reasons(report.failed, "would fail again" if dry_run else "failed again, and keep their place")
    yield from reasons(report.left, "left as they were")
    if report.absent:
        yield f"{report.absent:,} were not open (any longer) when their turn came"


def reasons(found: Reasons, what: str) -> Iterator[str]:
    """How many there are of `what`, and why; nothing if there are none."""
    if not found.counts:
        return
    yield f"{found.counts.total():,} {what}:"
    for reason, count in found.counts.most_common(_REASONS):
        yield f"  {count:,} {reason} (first: {found.first[reason]})"
    if len(found.counts) > _REASONS:
        yield f"  and {len(found.counts) - _REASONS:,} other reasons"


def _kind(tally: Tally) -> str:
    if tally.stage in _STAGES:
        return _STAGES[tally.stage]
    name = tally.constraint or (f"table {tally.table}" if tally.table else "")
    what = _REFUSALS.get(tally.sqlstate or "") if name else None
    return " ".join(filter(None, [what or tally.sqlstate or tally.error, name]))


def _opened(payload: bytes | None, format_: Any, where: str) -> str:
    """Decoded, as JSON; or its bytes, escaped: also while the registry of its schema is away."""
    try:
        found = opened(open_decoder(format_, where)({}), payload)
    except UnavailableError:
        found = payload
    if isinstance(found, bytes):
        return _escaped(found)
    try:
        return json.dumps(found, ensure_ascii=False, indent=2, default=str)
    except (TypeError, ValueError, RecursionError):
        return _escaped(payload or b"")


def _escaped(payload: bytes) -> str:
    """Bytes in print, at most 2,000 of them."""
    more = f" ... and {len(payload) - _SHOWN:,} bytes more" if len(payload) > _SHOWN else ""
    return f"{payload[:_SHOWN]!r}{more}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 3]}..."


def _time(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")

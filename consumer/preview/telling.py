"""A preview in lines and JSON; never a row's values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from consumer.letter import Evidence
from consumer.preview.trial import Preview, Rejection, TablePart, TopicPart

_SHOWN = 20
_STAGES = {
    "decode": "correct the producer, or `format` if no record of the topic can be decoded",
    "map": "correct sink.tables, or the transform",
    "write": "correct what writes such records, or the table; `sink.errors` can overrule what this error means",
}
_REFUSALS = {
    "23502": "give column {column} a source in `columns`, or a default, or let it be null",
    "23503": 'write the rows referred to first, or wait for them with sink.errors: {{"23503": retry}}',
    "23505": "use mode upsert, if a later record is to replace the row",
    "23514": "correct what writes such records, or the constraint {constraint}",
    "22": "widen column {column}, or convert the value in a transform",
}
_ALIKE = {
    "SQLITE_CONSTRAINT_NOTNULL": "23502",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "23503",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "23505",
    "SQLITE_CONSTRAINT_UNIQUE": "23505",
    "SQLITE_CONSTRAINT_CHECK": "23514",
}


def lines(found: Preview) -> Iterator[str]:
    """For people: what was read, what would become of it, why not of all, and how fast."""
    yield from found.remarks
    for topic in found.topics:
        yield from _topic(topic)
    for table in found.tables:
        yield from _table(table)
    if found.rejections:
        count = sum(one.count for one in found.rejections)
        yield f"{count:,} would be rejected, and become dead letters:"
        for one in found.rejections:
            yield from _rejection(one)
    if found.held:
        yield f"`run` would hold at once: {found.held}"
    if found.rate is not None:
        yield from _rate(found, found.rate)
    yield "nothing was kept: the transaction was rolled back"


def as_json(found: Preview) -> dict[str, Any]:
    """The same for programs."""
    told = asdict(found) | {"records": found.records, "records_per_second": found.rate}
    for one in told["rejections"]:
        evidence = one.pop("evidence")
        one |= {
            name: evidence[name] for name in ("stage", "error", "reason", "sqlstate", "table", "column", "constraint")
        }
    return told


def advice(evidence: Evidence) -> str:
    """What to do about such a record."""
    code = _ALIKE.get(evidence.sqlstate or "", evidence.sqlstate or "")
    text = _REFUSALS.get(code) or _REFUSALS.get(code[:2]) or _STAGES[evidence.stage]
    return text.format(column=evidence.column or "of that value", constraint=evidence.constraint or "of the table")


def _topic(part: TopicPart) -> Iterator[str]:
    if not part.records:
        yield f"{part.topic}: no records"
        return
    yield f"{part.topic}: {part.records:,} records, " + ", ".join(
        f"{part.topic}/{one.partition} offsets {one.first} to {one.last}" for one in part.offsets
    )
    counts = ["decoded", "mapped", "filtered", "written", "rejected"]
    yield "  " + ", ".join(f"{getattr(part, name):,} {name}" for name in counts)
    if part.repeated:
        yield f"  {part.repeated:,} the group has written before: their keys are there, which is no fault"
    if part.unmapped:
        yield f"  fields that no column takes: {_listed(part.unmapped)}"


def _table(part: TablePart) -> Iterator[str]:
    yield f"table {part.table}: {part.rows:,} rows, mode {part.mode}"
    if part.unfed:
        yield f"  columns that stay at their defaults, because no field feeds them: {_listed(part.unfed)}"


def _rejection(one: Rejection) -> Iterator[str]:
    told = one.evidence
    what = " ".join(filter(None, [told.stage, told.sqlstate or told.error]))
    yield f"  {one.count:,} {what} (first: {one.topic}/{one.partition}/{one.offset}): {told.reason}"
    yield f"    {advice(told)}"


def _rate(found: Preview, rate: float) -> Iterator[str]:
    mapping, writing = found.seconds["map"], found.seconds["write"]
    limit, share = max(("decoding and mapping", mapping), ("writing", writing), key=lambda stage: stage[1])
    yield (
        f"about {float(f'{rate:.2g}'):,.0f} records/s an instance, of which {limit} takes "
        f"{share / (mapping + writing):.0%}: decoded and mapped in {mapping:.3f} s, written in {writing:.3f} s, "
        "without COMMIT"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more

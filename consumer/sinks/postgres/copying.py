"""Rows into COPY, a few hundred at a time: while the server takes one lot in, the next is checked."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from consumer.errors import RejectedError
from consumer.sinks.conversion import checked
from consumer.sinks.postgres.binary import encoded
from consumer.sinks.postgres.plan import Plan
from consumer.sinks.postgres.script import Script
from consumer.table import Column, Kind, TableRows

_LOT = 500
_ENDED = "microbatch: ended early"
_NO_TEXT = re.compile("[\0\ud800-\udfff]").search
# What the driver's encoders raise for a value that they cannot encode. It is caught around them and nowhere else.
_UNENCODABLE = (OverflowError, UnicodeEncodeError, struct.error, TypeError, ValueError, RecursionError)


class EndedEarlyError(Exception):
    """Not all rows were sent, because the server said something, and it was no refusal: they must be written again."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows as `plan.copy` takes them in one piece, under these numbers; `data` None: they go one by one."""

    plan: Plan
    numbers: Sequence[int]
    data: memoryview | None

    def fits(self, plan: Plan, numbers: Sequence[int]) -> bool:
        """Whether it is what would be sent by this plan, under these numbers."""
        return self.plan is plan and (not plan.numbered or self.numbers == numbers)


def chosen(plan: Plan, rows: TableRows) -> Plan:
    """The plan that the rows are prepared for, of this one and its `each`."""
    prepared = rows.prepared.plan if isinstance(rows.prepared, Encoded) else None
    return prepared if prepared and prepared is plan.each else plan


def prepare(plan: Plan, rows: TableRows, numbers: Sequence[int]) -> None:
    """Encode the rows now, so that `copy` need not."""
    whole = rows.vectors and rows.deletes is None
    rows.prepared = Encoded(plan, numbers, encoded(plan, rows.vectors, numbers) if whole else None)


def copy(script: Script, plan: Plan, rows: TableRows, numbers: Sequence[int], *, listens: bool = False) -> None:
    """Give the rows to the COPY that is the script's next statement, under these numbers where they are numbered.

    `listens`: send no more of them once the server says something, which most often is that it refused one. Raises
    EndedEarlyError, RejectedError, FatalError, psycopg.Error.
    """
    script.next()
    if not (isinstance(rows.prepared, Encoded) and rows.prepared.fits(plan, numbers)):
        prepare(plan, rows, numbers)
    if rows.prepared.data is not None:
        script.put(rows.prepared.data)
        script.end()
    else:
        _send(script, plan, rows, numbers, listens)
    try:
        script.next()
    except psycopg.errors.QueryCanceled as error:
        if _ENDED in (error.diag.message_primary or ""):
            raise EndedEarlyError from None
        raise


def _send(script: Script, plan: Plan, rows: TableRows, numbers: Sequence[int], listens: bool) -> None:
    try:
        encoder, put = script.encoder(plan.wire), script.put
        encode = encoder.write_row  # not by psycopg.Copy, for which each row is a call more
        for start in range(0, len(rows.rows), _LOT):
            if listens and script.interrupted:
                script.abandon(_ENDED)
                return
            for row in _lot(plan, rows, start, numbers):
                if data := encode(row):
                    put(data)
        put(encoder.end())
        script.end()
    except _UNENCODABLE as error:
        refused = _reason(plan, rows, error)
        refused.table = plan.table
        raise refused from None


def unfit(plan: Plan, rows: TableRows) -> dict[int, RejectedError]:
    """The rows, by their place, that are refused before anything is sent. Raises FatalError."""
    found: dict[int, RejectedError] = {}
    every = range(len(rows.rows))
    kept: Sequence[int] = every
    if plan.deletes or rows.deletes:
        kept = [] if plan.deletes else [i for i in every if not (rows.deletes and rows.deletes[i])]
    for column, cells in zip(plan.columns, zip(*rows.rows, strict=True), strict=True):
        places = every if column.name in plan.needed else kept
        values = cells if places is every else [cells[place] for place in places]
        try:
            checked(column, values)
        except (RejectedError, *_UNENCODABLE):
            found = _each(column, places, values) | found
    for error in found.values():
        error.table = plan.table
    return found


def _each(column: Column, places: Sequence[int], values: Sequence[Any]) -> dict[int, RejectedError]:
    found: dict[int, RejectedError | None] = {}
    # Why text cannot be sent takes long to tell, and may be asked of all: those with NUL share it, and those without.
    shared: dict[bool, RejectedError | None] = {}
    for place, value in zip(places, values, strict=True):
        if column.kind is not Kind.TEXT or not isinstance(value, str):
            found[place] = _alone(column, value)
        elif _NO_TEXT(value):
            nul = "\0" in value
            if nul not in shared:
                shared[nul] = _alone(column, value)
            found[place] = shared[nul]
    return {place: error for place, error in found.items() if error}


def _alone(column: Column, value: Any) -> RejectedError | None:
    try:
        checked(column, [value])
    except RejectedError as error:
        return error
    except _UNENCODABLE as error:
        return _unencodable(error)
    return None


def _reason(plan: Plan, rows: TableRows, error: BaseException) -> RejectedError:
    """Which column it was, if it was text, which is not looked into on the way to the driver."""
    if not plan.deletes and rows.deletes is None:
        try:
            list(plan.shape.by_column(rows.rows))
        except RejectedError as found:
            return found
        except _UNENCODABLE:
            pass
    return _unencodable(error)


def _unencodable(error: BaseException) -> RejectedError:
    return RejectedError(f"the driver cannot encode a value ({type(error).__name__})")


def _lot(plan: Plan, rows: TableRows, start: int, all_numbers: Sequence[int]) -> Iterable[tuple[Any, ...]]:
    lot = rows.rows[start : start + _LOT]
    if not plan.numbered:
        return plan.shape.fit(lot)
    numbers = all_numbers[start : start + _LOT]
    deletes = [True] * len(lot) if plan.deletes else (rows.deletes or [])[start : start + _LOT]
    if True not in deletes:
        return ((number, False, *row) for number, row in zip(numbers, plan.shape.fit(lot), strict=True))
    columns = zip(plan.columns, zip(*lot, strict=True), strict=True)
    return zip(numbers, deletes, *(_kept(plan, column, cells, deletes) for column, cells in columns), strict=True)


def _kept(plan: Plan, column: Column, values: Sequence[Any], deletes: Sequence[bool]) -> Sequence[Any]:
    """A column of rows of which some delete their key: of those only key and version count."""
    if column.name in plan.needed:
        return checked(column, values)
    kept = iter(checked(column, [value for value, gone in zip(values, deletes, strict=True) if not gone]))
    return [None if gone else next(kept) for gone in deletes]

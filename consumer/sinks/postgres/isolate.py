"""Finds the records at fault among rows that were refused as a whole, and writes all others."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from consumer.errors import Failure, RejectedError
from consumer.sinks import Isolated
from consumer.table import TableRows

# The server's word of where it stopped is followed so often, if it got this share of all each time: for the sake of
# single records at fault. With more of them the block is quicker, and finds its own way.
_FAR = (0.02, 0.05)
_FEW = 4  # so many are as quick to try from here
Refusals = dict[int, RejectedError]


@dataclass(frozen=True, slots=True)
class Tries:
    """What the sink can do with rows, in its transaction.

    `attempt` writes all of it or nothing, and says why not; afterwards `suspect` is the ordinal that the refusal spoke
    of, if it did, which need not be at fault, and `convicted` the refusal, if that record is for certain. `undo` takes
    back what it wrote. `unfit` tells, by ordinal, what is refused before anything is sent. `search` writes all the
    records given (all ordinals of the rows) but those refused alone, and may give up after more than so many refusals
    in a row; None: it cannot, as where some are unfit, and nothing is written. `near`: the last try took so long that
    some round trips more do not matter.
    """

    attempt: Callable[[Sequence[TableRows]], RejectedError | None]
    unfit: Callable[[Sequence[TableRows]], Refusals]
    search: Callable[[Sequence[TableRows], Sequence[int], int | None], Refusals | None]
    suspect: Callable[[], int | None]
    convicted: Callable[[], RejectedError | None]
    undo: Callable[[], None]
    near: Callable[[], bool]


def isolate(tries: Tries, rows: Sequence[TableRows], patience: int | None) -> Isolated:
    """See Sink.isolate."""
    every, found = _records(rows), Refusals()
    rows, left = _follow(tries, rows, every, found)
    searched = _search(tries, rows, left, patience)
    if searched is None and (unfit := tries.unfit(_part(rows, left))):
        found |= unfit
        rows = [group.only({ordinal: ordinal for ordinal in left if ordinal not in unfit}) for group in rows]
        left = [] if _too_many(every, found, patience) or not tries.attempt(rows) else _records(rows)
        searched = _search(tries, rows, left, patience)
    found |= _halve(tries, rows, left, patience) if searched is None else searched
    failures = [Failure(ordinal, found[ordinal]) for ordinal in sorted(found)]
    return Isolated(failures, finished=not _too_many(every, found, patience))


def _follow(
    tries: Tries, rows: Sequence[TableRows], records: Sequence[int], found: Refusals
) -> tuple[Sequence[TableRows], Sequence[int]]:
    """Try the suspect: most often it is the only record at fault. Returns the rows and records that are left."""
    known = 0  # so many at the beginning are fine, but not written
    for hint, far in enumerate(_FAR):
        suspect = tries.suspect()
        place = len(records) if suspect is None else bisect_left(records, suspect)
        if not known + far * len(records) <= place < len(records) or (hint > 0 and not tries.near()):
            break
        convicted = tries.convicted()
        if hint == 0 and len(rows) == 1 and (error := convicted or _refused(tries, rows, records[place])):
            found[records[place]] = error
            rows = [_without(group, records[place]) for group in rows]
            records = [*records[:place], *records[place + 1 :]]
            known = place
        else:
            if tries.attempt(_part(rows, records[:place])):
                break
            if error := convicted or tries.attempt(_part(rows, records[place : place + 1])):
                found[records[place]] = error
            records, known = records[place + 1 :], 0
        if not tries.attempt(_part(rows, records)):
            return rows, []
    return rows, records


def _refused(tries: Tries, rows: Sequence[TableRows], record: int) -> RejectedError | None:
    """Why this one, which was refused in its place among all, is refused alone as well, and so is at fault.

    What is taken alone may be refused for one of those before it: it is not written yet.
    """
    error = tries.attempt(_part(rows, [record]))
    if not error:
        tries.undo()
    return error


def _search(tries: Tries, rows: Sequence[TableRows], records: Sequence[int], patience: int | None) -> Refusals | None:
    return None if len(records) <= _FEW else tries.search(_part(rows, records), records, patience)


def _halve(tries: Tries, rows: Sequence[TableRows], records: Sequence[int], patience: int | None) -> Refusals:
    """Search as the block does, with a round trip for each step."""
    found: Refusals = {}
    at, size, in_a_row = 0, max(1, len(records) // 2), 0
    while at < len(records) and (patience is None or in_a_row <= patience):
        lot = records[at : at + size]
        error = tries.attempt(_part(rows, lot))
        if error and len(lot) > 1:
            size = len(lot) // 2
            continue
        if error:
            found[lot[0]] = error
        in_a_row = in_a_row + 1 if error else 0
        size = 1 if error else size * 2
        at += len(lot)
    return found


def _too_many(every: Sequence[int], found: Collection[int], patience: int | None) -> bool:
    """Whether more than `patience` of these records in a row are found."""
    if patience is None or len(found) <= patience:
        return False
    in_a_row = 0
    for ordinal in every:
        in_a_row = in_a_row + 1 if ordinal in found else 0
        if in_a_row > patience:
            return True
    return False


def _records(rows: Sequence[TableRows]) -> Sequence[int]:
    if len(rows) == 1 and isinstance(rows[0].ordinals, range):
        return rows[0].ordinals
    return sorted(set[int]().union(*(group.ordinals for group in rows)))


def _part(rows: Sequence[TableRows], records: Sequence[int]) -> list[TableRows]:
    """The rows of these records, which follow one another."""
    if not records:
        return []
    return [_slice(group, records[0], records[-1] + 1) for group in rows]


def _slice(group: TableRows, low: int, high: int) -> TableRows:
    part = slice(bisect_left(group.ordinals, low), bisect_left(group.ordinals, high))
    return TableRows(
        group.table,
        group.columns,
        group.rows[part],
        group.ordinals[part],
        group.deletes and group.deletes[part],
        group.known,
    )


def _without(group: TableRows, ordinal: int) -> TableRows:
    low, high = bisect_left(group.ordinals, ordinal), bisect_left(group.ordinals, ordinal + 1)
    return TableRows(
        group.table,
        group.columns,
        [*group.rows[:low], *group.rows[high:]],
        [*group.ordinals[:low], *group.ordinals[high:]],
        group.deletes and [*group.deletes[:low], *group.deletes[high:]],
        group.known,
    )

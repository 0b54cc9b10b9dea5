"""Isolation from the client's side, for databases that have no language of their own to do it in."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence

from consumer.errors import Failure, RejectedError
from consumer.sinks import Isolated
from consumer.table import TableRows


def isolate(
    rows: Sequence[TableRows], apply: Callable[[Sequence[TableRows]], None], patience: int | None = None
) -> Isolated:
    """See Sink.isolate; `apply` is the sink's.

    Ranges of records in order: twice as many after one that got in, half as many after one that was refused, down to
    single records. What is left of a refused range is refused as well, so it is halved at once.
    """
    ordinals = sorted(set[int]().union(*(table.ordinals for table in rows)))
    failures: list[Failure] = []
    start, size, refused, in_a_row = 0, max(1, len(ordinals) // 2), len(ordinals), 0
    while start < len(ordinals):
        end = min(start + size, len(ordinals))
        try:
            apply(cut(rows, ordinals[start], ordinals[end - 1] + 1))
        except RejectedError as error:
            if end - start > 1:
                refused, size = end, (end - start) // 2
                continue
            error.__context__ = None  # like its traceback, it would keep alive what the try had in its hands
            failures.append(Failure(ordinals[start], error.with_traceback(None)))
            refused, in_a_row = end, in_a_row + 1
            if patience is not None and in_a_row > patience:
                return Isolated(failures, finished=False)
        else:
            size, in_a_row = size * 2, 0
        start = end
        if start < refused:
            size = max(1, (refused - start) // 2)
    return Isolated(failures)


def cut(rows: Sequence[TableRows], low: int, high: int) -> list[TableRows]:
    """The rows of the records low <= ordinal < high."""
    found = []
    for table in rows:
        first, last = bisect_left(table.ordinals, low), bisect_left(table.ordinals, high)
        if first < last:
            deletes = table.deletes and table.deletes[first:last]
            part, ordinals = table.rows[first:last], table.ordinals[first:last]
            found.append(TableRows(table.table, table.columns, part, ordinals, deletes, table.known))
    return found

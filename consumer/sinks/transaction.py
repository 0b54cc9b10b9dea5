"""A sink's transaction as the commands use it: rows at once, isolated where they are refused, kept or not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from consumer.errors import Failure, RejectedError
from consumer.sinks import Sink
from consumer.table import TableRows


@contextmanager
def transaction(sink: Sink, *, keep: bool = True) -> Iterator[None]:
    """A transaction of the sink that moves no offset; not `keep`: without a trace."""
    sink.begin({})
    try:
        yield
        if keep:
            sink.commit({})
    finally:
        sink.rollback()


def write(sink: Sink, rows: Sequence[TableRows]) -> list[Failure]:
    """Write all of `rows` but those of records that the sink refuses, which are returned; in the open transaction.

    Raises UnavailableError, FatalError: the transaction is over then.
    """
    if not rows:
        return []
    try:
        sink.apply(rows)
    except RejectedError:
        return sink.isolate(rows).failures
    return []

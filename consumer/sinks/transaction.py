"""A sink's transaction in other ways than the writer's: in steps, and as the commands use it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from consumer.errors import Failure, RejectedError, TopicPartition
from consumer.sinks import Fence, Sink
from consumer.table import TableRows


def in_steps(
    sink: Sink,
    fences: Mapping[TopicPartition, Fence],
    rows: Sequence[TableRows],
    next_offsets: Mapping[TopicPartition, int],
    sent: Callable[[], None],
) -> float:
    """What Sink.transact promises, by a call for each step."""
    sent()
    sink.begin(fences)
    sink.apply(rows)
    began = time.perf_counter()
    sink.commit(next_offsets)
    return time.perf_counter() - began


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

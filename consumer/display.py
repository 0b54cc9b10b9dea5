"""How far something is: a bar on a terminal, a line every tenth of the way elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

_LINES = 10


class _Rate(ProgressColumn):
    """How many per second, lately."""

    def render(self, task: Task) -> Text:
        """See ProgressColumn."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


Show = Callable[[int, int], None]


@contextmanager
def progress(console: Console, what: str) -> Iterator[Show]:
    """What is to be called with how many of `what` are done so far, and how many there are; from any thread."""
    if not console.is_terminal:
        yield _Lines(console, what).update
        return
    with bar(console, what) as show:
        yield show


@contextmanager
def bar(console: Console, what: str) -> Iterator[Show]:
    """As `progress`, on a terminal."""
    numbers = TaskProgressColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn()
    with Progress(TextColumn(what), BarColumn(), *numbers, console=console) as shown, _logs_above_it():
        task = shown.add_task(what, total=None)
        yield lambda done, total: shown.update(task, completed=done, total=total)


@contextmanager
def _logs_above_it() -> Iterator[None]:
    """Log lines go to what Rich has made of standard error: it moves the bar out of their way."""
    handlers = [found for found in logging.getLogger().handlers if isinstance(found, logging.StreamHandler)]
    before = [(handler, handler.stream) for handler in handlers if handler.stream.isatty()]
    for handler, _ in before:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler, stream in before:
            handler.setStream(stream)


class _Lines:
    def __init__(self, console: Console, what: str) -> None:
        self._console, self._what, self._next = console, what, 1
        self._first: tuple[float, int] | None = None

    def update(self, done: int, total: int) -> None:
        now = time.monotonic()
        start, before = self._first = self._first or (now, done)
        if (part := done * _LINES // total) < self._next:
            return
        self._next = part + 1
        text = f"{self._what}: {done:,} of {total:,} ({done * 100 // total} %)"
        if now > start:
            rate = (done - before) / (now - start)
            text += f", {rate:,.0f}/s, {(total - done) / rate:.0f} s left"
        self._console.print(text)

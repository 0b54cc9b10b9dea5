"""How far the demo is: a bar on a terminal, a line every tenth of the way elsewhere."""

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
    """Orders per second, lately."""

    def render(self, task: Task) -> Text:
        """See ProgressColumn."""
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


@contextmanager
def progress(console: Console, total: int) -> Iterator[Callable[[int], None]]:
    """What is to be called with the number of orders written so far, from any thread."""
    if not console.is_terminal:
        yield _Lines(console, total).update
        return
    numbers = TaskProgressColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn()
    with Progress(TextColumn("orders"), BarColumn(), *numbers, console=console) as bar, _logs_above_it():
        task = bar.add_task("orders", total=total)
        yield lambda done: bar.update(task, completed=done)


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
    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total, self._next = console, total, 1
        self._first: tuple[float, int] | None = None

    def update(self, done: int) -> None:
        now = time.monotonic()
        start, before = self._first = self._first or (now, done)
        if (part := done * _LINES // self._total) < self._next:
            return
        self._next = part + 1
        text = f"orders: {done:,} of {self._total:,} ({done * 100 // self._total} %)"
        if now > start:
            rate = (done - before) / (now - start)
            text += f", {rate:,.0f}/s, {(self._total - done) / rate:.0f} s left"
        self._console.print(text)

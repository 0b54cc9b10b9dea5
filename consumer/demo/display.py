"""How far the demo is: a bar on a terminal, a line every tenth of the way elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskProgressColumn, TextColumn
from rich.progress import TimeRemainingColumn as Remaining
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
    columns = TextColumn("orders"), BarColumn(), TaskProgressColumn(), MofNCompleteColumn(), _Rate(), Remaining()
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("orders", total=total)
        yield lambda done: bar.update(task, completed=done)


class _Lines:
    def __init__(self, console: Console, total: int) -> None:
        self._console, self._total = console, total
        self._start, self._next = time.monotonic(), 1

    def update(self, done: int) -> None:
        part = done * _LINES // self._total
        if part < self._next:
            return
        self._next = part + 1
        rate = done / (time.monotonic() - self._start)
        left = f"{rate:,.0f}/s, {(self._total - done) / rate:.0f} s left"
        self._console.print(f"orders: {done:,} of {self._total:,} ({done * 100 // self._total} %), {left}")

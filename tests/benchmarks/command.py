"""What the commands of all benches have in common: their options, and a lab that says that it is coming."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import MappingProxyType

from rich.console import Console

from tests.benchmarks.lab import BATCH, DURABLE, Lab, laboratory


def parser(module: str, text: str | None, *, records: int | None = 1_000_000) -> argparse.ArgumentParser:
    """With --rounds, and with --records and this default unless that is None."""
    made = argparse.ArgumentParser(prog=f"python -m {module}", description=text)
    if records:
        made.add_argument("--records", type=_batches, default=records, help="in each topic; default %(default)s")
    made.add_argument("--rounds", type=_positive, default=5, help="default %(default)s")
    return made


def wide() -> Console:
    """A console in which the tables have room, also where it is no terminal."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


@contextmanager
def starting(
    console: Console,
    records: int = 0,
    topics: Iterable[str] = (),
    settings: Mapping[str, str] = MappingProxyType(DURABLE),
) -> Iterator[Lab]:
    """See `laboratory`."""
    with ExitStack() as stack:
        with console.status("starting Kafka and PostgreSQL, producing records"):
            lab = stack.enter_context(laboratory(records, topics, settings))
        yield lab


def _batches(text: str) -> int:
    count = int(text)
    if count % BATCH or count < 2 * BATCH:
        raise argparse.ArgumentTypeError(f"must be a multiple of {BATCH}, and at least {2 * BATCH}")
    return count


def _positive(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return count

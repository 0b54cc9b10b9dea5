"""What commands share in talking to people."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from consumer.errors import ConfigError

Config = Annotated[Path, typer.Argument(help="the YAML file")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]


def say(lines: Iterable[str]) -> None:
    """Print these; what a terminal would obey instead of showing it is spelt out, line breaks excepted."""
    for line in lines:
        typer.echo("\n".join("".join(map(_printable, part)) for part in line.split("\n")))


def confirm(question: str, *, yes: bool) -> None:
    """Go on only if somebody agrees. Raises ConfigError where nobody can be asked."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise ConfigError("--yes", None, "is required where nobody can be asked; nothing was changed")
    typer.confirm(question, abort=True)


def moment(option: str, text: str) -> datetime.datetime:
    """The time that was typed; it is aware. Raises ConfigError, naming the option."""
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(option, text, "must be a time: 2026-01-31T08:00:00Z") from None
    if found.tzinfo is None:
        raise ConfigError(option, text, "a time needs a zone: put Z (for UTC) or +02:00 behind it")
    return found


def mark(*, ok: bool) -> str:
    """What a line of findings begins with."""
    return typer.style("ok  ", fg="green") if ok else typer.style("FAIL", fg="red", bold=True)


def _printable(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]

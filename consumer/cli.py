"""The command line: builds the parts and hands plain values down."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from consumer import __version__
from consumer.errors import ConfigError, FatalError, UnavailableError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Config = Annotated[Path, typer.Argument(help="the YAML file")]


@app.callback()
def microbatch() -> None:
    """Moves records from Kafka into a database in micro-batches, exactly once."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def run(config: Config, verbose: Annotated[bool, typer.Option(help="log every batch")] = False) -> None:
    """Move records until told to stop (SIGTERM writes what was read; a second one leaves at once)."""
    from consumer import logs
    from consumer.config import load
    from consumer.run import run_daemon

    settings = load(config)
    logs.configure(verbose=verbose)
    run_daemon(settings)


def main() -> None:
    """The command `microbatch`: exit 0 done, 1 failed, 2 usage or configuration."""
    try:
        app()
    except ConfigError as error:
        sys.exit(_report(f"error: {error}", 2))
    except FatalError as error:
        sys.exit(_report(f"error: {error}\nhint: {error.hint}", 1))
    except UnavailableError as error:
        sys.exit(_report(f"error: {error}", 1))


def _report(text: str, code: int) -> int:
    typer.echo(text, err=True)
    return code

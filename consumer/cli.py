"""The command line: builds the parts and hands plain values down."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from consumer import __version__
from consumer.dlq import command as dlq
from consumer.errors import ConfigError, FatalError, MicrobatchError, UnavailableError
from consumer.preview import Begin
from consumer.terminal import AsJson, Config, Yes, confirm, mark, moment, say

if TYPE_CHECKING:
    from consumer.runs.history import History

Targets = Annotated[
    list[str] | None,
    typer.Argument(metavar="[TARGET]...", help="topics (orders) or partitions (orders/3); default: everything"),
]

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
offsets = typer.Typer(no_args_is_help=True, help="Where the group stands, and setting it by hand.")
app.add_typer(offsets, name="offsets")
app.add_typer(dlq.app, name="dlq")
runs = typer.Typer(help="What ran on this machine, and how it ended.")
app.add_typer(runs, name="runs")
RunsOf = Annotated[
    Path | None, typer.Option("--config", help="take runs.directory from this YAML file; default: its default")
]


@app.callback()
def microbatch() -> None:
    """Moves records from Kafka into a database in micro-batches, exactly once."""


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def run(
    config: Config,
    verbose: Annotated[bool, typer.Option(help="log every batch")] = False,
    until_end: Annotated[
        bool, typer.Option("--until-end", help="end when everything that is there now is written, with a report")
    ] = False,
    until: Annotated[
        str | None, typer.Option(metavar="TIME", help="the same with what is older than this: 2026-01-31T08:00:00Z")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="write the report of such a job, as JSON")] = None,
    fail_on_dead_letters: Annotated[
        bool, typer.Option("--fail-on-dead-letters", help="exit 1 if such a job made dead letters")
    ] = False,
) -> None:
    """Move records until told to stop (SIGTERM writes what was read; a second one leaves at once), or to an end."""
    from consumer import logs
    from consumer.config import load
    from consumer.events import Event, tell
    from consumer.runs import command

    ends = until_end or until is not None
    if until_end and until is not None:
        raise ConfigError("--until", until, "excludes --until-end: leave one out")
    if (report or fail_on_dead_letters) and not ends:
        option = "--report" if report else "--fail-on-dead-letters"
        raise ConfigError(option, None, "belongs to a job: add --until-end or --until")
    settings = load(config)
    job = command.Job(None if until is None else moment("--until", until), report) if ends else None
    logs.configure(verbose=verbose)
    try:
        done = command.run(settings, config, job, lambda: load(config))
    except MicrobatchError as error:
        tell(Event.FAILED, reason=str(error), hint=getattr(error, "hint", None))
        raise
    raise typer.Exit(done.exit_code(strict=fail_on_dead_letters))


@runs.callback(invoke_without_command=True)
def runs_list(context: typer.Context, config: RunsOf = None, as_json: AsJson = False) -> None:
    """List the runs of this machine, the newest first."""
    if context.invoked_subcommand is not None:
        return
    from consumer.runs.history import listed

    found = _history(config).runs()
    if as_json:
        typer.echo(json.dumps([one.as_json() for one in found], indent=2))
    else:
        say(listed(found))


@runs.command("show")
def runs_show(
    name: Annotated[str, typer.Argument(metavar="ID", help="as `microbatch runs` lists it")],
    config: RunsOf = None,
    as_json: AsJson = False,
) -> None:
    """Print the report of a run again."""
    from consumer.runs.report import lines

    found = _history(config).run(name)
    if as_json:
        typer.echo(json.dumps(found.as_json(), indent=2))
    else:
        say(lines(found))


@app.command()
def check(
    config: Config,
    explain: Annotated[
        bool, typer.Option(help="print the file with every default, secrets masked; check no more")
    ] = False,
) -> None:
    """Look at everything that could keep `run` from working: one line each, with what to do."""
    from consumer.check import findings
    from consumer.config import load
    from consumer.config.showing import explain as explained

    settings = load(config)
    if explain:
        typer.echo(explained(settings), nl=False)
        return
    code = 0
    for finding in findings(settings):
        typer.echo(f"{mark(ok=finding.ok)}  {finding.subject}: {finding.message}")
        code = max(code, 0 if finding.ok else 2 if finding.configuration else 1)
    raise typer.Exit(code)


@app.command()
def plan(
    config: Config,
    records: Annotated[
        int, typer.Option(min=1, max=100_000, help="how many records of all partitions together")
    ] = 1000,
    begin: Annotated[
        Begin, typer.Option("--from", help="begin there; `stored`: where `run` would, or earliest or latest")
    ] = Begin.STORED,
    as_json: AsJson = False,
) -> None:
    """Try a sample of the live topics, and roll it back: what would be written, what rejected and why, how fast.

    Joins no group, claims and commits nothing. Exit 1 if a record would be rejected.
    """
    from consumer.config import load
    from consumer.preview import telling
    from consumer.preview.trial import preview

    found = preview(load(config), begin, records)
    if as_json:
        typer.echo(json.dumps(telling.as_json(found), indent=2))
    else:
        say(telling.lines(found))
    raise typer.Exit(1 if found.rejections else 0)


@app.command()
def verify(config: Config, as_json: AsJson = False) -> None:
    """Hold Kafka's offsets, the offset table and the dead letters against each other. Exit 1 if something is wrong."""
    import datetime
    from dataclasses import asdict

    from consumer.config import load
    from consumer.verify import lines
    from consumer.verify import verify as verified

    accounts = verified(load(config), datetime.datetime.now(datetime.UTC))
    if as_json:
        typer.echo(json.dumps([asdict(account) for account in accounts], indent=2))
    else:
        for account in accounts:
            for line in lines(account):
                typer.echo(mark(ok=not account.faults), nl=False)
                say([f"  {line}"])
    raise typer.Exit(1 if any(account.faults for account in accounts) else 0)


@app.command()
def status(config: Config, as_json: AsJson = False) -> None:
    """Ask the running daemon how it stands."""
    from consumer import control
    from consumer.config import load

    found = control.status(load(config))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        say(control.lines(found))


@app.command()
def pause(config: Config, targets: Targets = None) -> None:
    """Have the running daemon leave topics or partitions alone, or everything; until `resume`, or until it ends."""
    from consumer import control
    from consumer.config import load

    say([control.pause(load(config), targets or [])])


@app.command()
def resume(
    config: Config,
    targets: Targets = None,
    accept: Annotated[
        bool, typer.Option("--accept", help="keep the dead letters of the next batch, whatever the limits say")
    ] = False,
) -> None:
    """Have the running daemon take up again what was paused; without targets, also try again now what it holds."""
    from consumer import control
    from consumer.config import load

    say([control.resume(load(config), targets or [], accept=accept)])


@app.command("set")
def change(
    config: Config,
    settings: Annotated[list[str], typer.Argument(help="such as batch.max_records=1000", metavar="SETTING=VALUE...")],
) -> None:
    """Change bounds of batches of the running daemon: whichever settings of `batch`."""
    from consumer import control
    from consumer.config import load

    wanted: dict[str, str] = {}
    for one in settings:
        name, equals, value = one.partition("=")
        if not equals or name in wanted:
            raise ConfigError("set", one[:100], "must be `setting=value`, and each setting once")
        wanted[name] = value
    say([control.change(load(config), wanted)])


@app.command()
def demo(
    records: Annotated[int, typer.Option(min=1, help="how many orders")] = 200_000,
    postgres: Annotated[bool, typer.Option("--postgres", help="into an embedded PostgreSQL")] = False,
    database: Annotated[Path | None, typer.Option(help="the SQLite file to make; default: a temporary one")] = None,
) -> None:
    """Watch orders flow into a database, and be proved complete: no Kafka and no database needed."""
    import logging

    from consumer import logs
    from consumer.demo.command import run_demo

    logs.configure()
    logging.getLogger().setLevel(logging.WARNING)
    raise typer.Exit(run_demo(records, postgres=postgres, database=database))


@app.command()
def schema() -> None:
    """Print the JSON Schema of the configuration, for editors."""
    from consumer.config.showing import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


@offsets.command("show")
def offsets_show(config: Config, as_json: AsJson = False) -> None:
    """Show every partition: the database's next offset, Kafka's, the lag, the owner."""
    from dataclasses import asdict

    from consumer.config import load
    from consumer.offsets import lines, standings

    found = standings(load(config))
    typer.echo(json.dumps([asdict(one) for one in found], indent=2) if as_json else "\n".join(lines(found)))


@offsets.command("reset")
def offsets_reset(
    config: Config,
    topic: Annotated[str, typer.Option(help="the topic")],
    to: Annotated[str, typer.Option(help="earliest, latest, an offset, or a time with zone")],
    partition: Annotated[list[int] | None, typer.Option(help="only this one; may be repeated")] = None,
    yes: Yes = False,
) -> None:
    """Set the next offset. A running daemon goes on from there; records before it are skipped, after it repeated."""
    from consumer.config import load
    from consumer.offsets import planned, reset

    settings = load(config)
    changes = planned(settings, topic, partition or [], to)
    for change in changes:
        before = "none" if change.before is None else change.before
        typer.echo(f"{change.topic} partition {change.partition}: {before} -> {change.after.next_offset}")
    confirm("Set these offsets?", yes=yes)
    reset(settings, changes)
    typer.echo("done")


def _history(config: Path | None) -> History:
    from consumer.config import RunsSettings, load
    from consumer.runs.history import open_history

    return open_history(load(config).runs if config else RunsSettings())


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

"""`microbatch dlq`: dead letters on the command line."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer

from consumer.letter import State
from consumer.sinks import Selection
from consumer.terminal import AsJson, Config, Yes, confirm, say

app = typer.Typer(no_args_is_help=True, help="Records that could not be written: look at them, write them after all.")
_Text = str | None
FromTopic = Annotated[bool, typer.Option("--from-topic", help="read the dead-letter topics instead of the table")]


def _chosen(
    coordinates: Annotated[list[str] | None, typer.Argument(help="these: topic/partition/offset")] = None,
    topic: Annotated[_Text, typer.Option(help="those of this topic")] = None,
    partition: Annotated[int | None, typer.Option(help="those of this partition")] = None,
    stage: Annotated[_Text, typer.Option(help="those that failed there: decode, map or write")] = None,
    reason: Annotated[_Text, typer.Option(help="those whose reason holds this text")] = None,
    sqlstate: Annotated[_Text, typer.Option(help="those refused with this SQLSTATE: 23514")] = None,
    table: Annotated[_Text, typer.Option(help="those refused by this table")] = None,
    constraint: Annotated[_Text, typer.Option(help="those refused by this constraint")] = None,
    since: Annotated[_Text, typer.Option(help="those that failed first at this time, or later")] = None,
    until: Annotated[_Text, typer.Option(help="those that failed first before this time")] = None,
) -> Selection:
    from consumer.dlq.choosing import selection

    return selection(
        coordinates=coordinates or [],
        topic=topic,
        partition=partition,
        stage=stage,
        reason=reason,
        sqlstate=sqlstate,
        table=table,
        constraint=constraint,
        since=since,
        until=until,
    )


def _choosing(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `_chosen`; it is given the Selection that they mean, as `which`."""
    options = inspect.signature(_chosen, eval_str=True).parameters
    own = inspect.signature(command, eval_str=True).parameters
    taken = [own["config"], *options.values()]
    taken += [parameter for name, parameter in own.items() if name not in ("config", "which")]

    @functools.wraps(command)
    def call(**given: Any) -> None:
        which = _chosen(**{name: given.pop(name) for name in options})
        command(which=which, **given)

    call.__signature__ = inspect.Signature(taken)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in taken}
    return call


@app.command("list")
@_choosing
def list_(
    config: Config,
    which: Selection,
    state: Annotated[list[State] | None, typer.Option(help="those in this state; default: all that are open")] = None,
    limit: Annotated[int, typer.Option(min=0, help="how many are listed")] = 20,
    from_topic: FromTopic = False,
    as_json: AsJson = False,
) -> None:
    """How many there are of which kind, then the first of them."""
    from consumer.config import load
    from consumer.dlq import telling
    from consumer.dlq.commands import listing

    which = replace(which, states=tuple(state)) if state else which
    found = listing(load(config), which, limit, from_topic=from_topic)
    if as_json:
        tallies, letters = map(telling.tally_as_json, found.tallies), map(telling.as_json, found.letters)
        told = {"tallies": list(tallies), "dead_letters": list(letters), "strays": found.strays.counts}
        typer.echo(json.dumps(told, indent=2))
        return
    say([telling.summary(found.tallies)])
    say(telling.lines(found.letters) if found.letters else [])
    say(telling.reasons(found.strays, "records there are no dead letters"))


@app.command()
def show(
    config: Config,
    coordinates: Annotated[str, typer.Argument(help="topic/partition/offset")],
    value: Annotated[bool, typer.Option("--value", help="print key, value and headers, too")] = False,
    from_topic: FromTopic = False,
) -> None:
    """All that is known of one."""
    from consumer.config import load
    from consumer.dlq import telling
    from consumer.dlq.choosing import coordinates_of
    from consumer.dlq.commands import find

    settings = load(config)
    letter = find(settings, coordinates_of(coordinates), from_topic=from_topic)
    say(telling.shown(letter, settings, value=value))


@app.command("replay")
@_choosing
def replay_(
    config: Config,
    which: Selection,
    fix: Annotated[_Text, typer.Option(help="module:function, which mends the value of each record")] = None,
    to_topic: Annotated[bool, typer.Option("--to-topic", help="put the records back into their topics")] = False,
    from_topic: FromTopic = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="try it, and take it back")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="even where newer rows may be overwritten")] = False,
    yes: Yes = False,
) -> None:
    """Write them after all; those that fail again keep their place. Exit 1 if there are any."""
    from consumer.config import load
    from consumer.dlq import telling
    from consumer.dlq.commands import Way, forgets, listing, run_replay
    from consumer.dlq.replay import Report

    settings, report = load(config), Report()
    if not dry_run and not yes:
        say([telling.summary(listing(settings, which, 0, from_topic=from_topic).tallies)])
        if forgets(settings, which):
            say(["With a filter the topic keeps no note of them: another replay writes them once more."])
        confirm("Replay them?", yes=yes)
    try:
        run_replay(settings, which, Way(fix, to_topic, from_topic, dry_run, overwrite), report)
    finally:
        say(telling.reported(report, dry_run=dry_run))
    raise typer.Exit(1 if report.failed.counts or report.left.counts else 0)


@app.command("discard")
@_choosing
def discard_(config: Config, which: Selection, yes: Yes = False) -> None:
    """Give them up: they are kept, and no longer open."""
    from consumer.config import load
    from consumer.dlq import telling
    from consumer.dlq.commands import discard, listing

    settings = load(config)
    if not yes:
        say([telling.summary(listing(settings, which, 0, from_topic=False).tallies)])
    confirm("Discard them?", yes=yes)
    say([f"{discard(settings, which):,} discarded"])

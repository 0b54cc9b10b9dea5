"""Candidates in turn, and what came out: the ratios within each round, for people and as a file."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tests.benchmarks.measuring import Measured
from tests.benchmarks.results import ROOT, save, spread

_PARTS = {"stages": "", "threads": "CPU ", "cpu": "CPU "}  # of what is measured, and how their figures are headed
Result = float | Measured
Round = dict[str, Result]
NOTES = (
    "Every figure is the median of all rounds (smallest .. largest); ratios are made within a round. Rates are by the"
    " server's clock from the first commit to the last, so without start and joining the group. Rates of other runs"
    " cannot be compared.",
    "CPU: `first` is the client's first thread (the daemon's loop, which polls), `librdkafka` that library's threads,"
    " `others` the rest (the daemon's writer); `client` is all of it. isolate and commit are parts of write.",
    "Goals are what was set out to be reached; nothing here passes or fails.",
)


class RefusedError(Exception):
    """A candidate's run that gives no figure; the text says why, in a line."""


@dataclass(frozen=True)
class Ratio:
    """One candidate's figure over another's, within each round. `goal`: what it is meant to reach, nothing more.

    `figure`: the rate, or the client's records for each second of processor time.
    """

    text: str
    over: str
    under: str
    goal: float | None = None
    figure: Literal["rate", "efficiency"] = "rate"

    def of(self, found: Mapping[str, Result]) -> float | None:
        """What it is in a round; None where that lacks something."""
        over, under = (_figure(found.get(name), self.figure) for name in (self.over, self.under))
        return over / under if over and under else None


def in_turn(rounds: int, candidates: Mapping[str, Callable[[], Result]], console: Console) -> list[Round]:
    """Every candidate in every round. The order turns round each time: so none always follows the same other.

    A candidate that is refused once has no figure in any round.
    """
    found: list[Round] = []
    left = dict(candidates)
    with Progress(console=console) as progress:
        task = progress.add_task("", total=rounds * len(candidates))
        for number in range(rounds):
            made: Round = {}
            for name in list(left if number % 2 == 0 else reversed(left)):
                progress.update(task, description=f"round {number + 1} of {rounds}: {name}")
                try:
                    made[name] = left[name]()
                except RefusedError as error:
                    del left[name]
                    console.print(f"Refused, {name}: {error}", highlight=False, markup=False)
                progress.advance(task)
            found.append(made)
    return [{name: made[name] for name in left} for made in found]


def results(rounds: Sequence[Round], ratios: Sequence[Ratio]) -> dict[str, Any]:
    """All of it as plain values. `measured`: what more is known of those that ran as programs of their own."""
    values = {ratio: [value for found in rounds if (value := ratio.of(found)) is not None] for ratio in ratios}
    rates = [{name: _figure(result, "rate") for name, result in found.items()} for found in rounds]
    return {
        "rounds": rates,
        "rates": {name: asdict(spread([found[name] for found in rates])) for name in rates[0]},
        "ratios": {ratio.text: asdict(spread(known)) for ratio, known in values.items() if known},
        "goals": {ratio.text: ratio.goal for ratio in ratios if ratio.goal and values[ratio]},
        "measured": {
            name: [asdict(found[name]) for found in rounds]
            for name, result in rounds[0].items()
            if isinstance(result, Measured)
        },
    }


def figures(rounds: Sequence[Mapping[str, float]], goals: Mapping[str, float]) -> dict[str, Any]:
    """Figures that are no rates of candidates, of each round, as plain values."""
    names = {name: asdict(spread([found[name] for found in rounds])) for name in rounds[0]}
    return {"rounds": list(rounds), "figures": names, "goals": dict(goals)}


def present_figures(console: Console, name: str, title: str, found: dict[str, Any]) -> None:
    """Show and save what `figures` made, with `circumstances` and whatever else is known of the run."""
    table = Table("figure", "median", "smallest .. largest", "goal, at most", title=title)
    for text, value in found["figures"].items():
        goal = f"{found['goals'][text]:g}" if text in found["goals"] else ""
        table.add_row(text, f"{value['median']:,.2f}", f"{value['low']:,.2f} .. {value['high']:,.2f}", goal)
    console.print(table)
    _keep(console, name, found)


def present(console: Console, name: str, found: dict[str, Any], notes: Sequence[str] = ()) -> None:
    """Show and save what `results` made, with `circumstances` and whatever else is known of the run."""
    show(console, found, notes)
    _keep(console, name, found)


def show(console: Console, found: dict[str, Any], notes: Sequence[str] = ()) -> None:
    """As tables, with what there is to know about them."""
    console.print(_rates(found["rates"]))
    if found["ratios"]:
        console.print(_ratios(found["ratios"], found["goals"]))
    if found["measured"]:
        console.print(_costs(found))
    for note in (*NOTES, *notes):
        console.print(f"- {note}", highlight=False, markup=False)


def _keep(console: Console, name: str, found: dict[str, Any]) -> None:
    machine, load = found["machine"], os.getloadavg()[0]
    console.print(
        f"{found['date']}, commit {found['commit']}, on {machine['cores']} cores of {machine['processor']} with"
        f" {machine['memory_gb']} GB; load {machine['load_1_minute_before']:.1f} before, {load:.1f} after;",
        ", ".join(f"{name} {version}" for name, version in found["versions"].items()),
        highlight=False,
        markup=False,
    )
    path = save(name, found | {"load_1_minute_after": load})
    console.print(f"Full results: {path.relative_to(ROOT)}")


def _figure(result: Result | None, figure: str) -> float:
    if not isinstance(result, Measured):
        return result or 0.0
    if figure == "efficiency":
        return 1e6 / cpu if (cpu := result.cpu.get("client")) else 0.0
    return result.rate


def _rates(rates: dict[str, dict[str, float]]) -> Table:
    table = Table("candidate", "records/s", "smallest .. largest", title="Rates")
    for name, found in rates.items():
        table.add_row(name, f"{found['median']:,.0f}", f"{found['low']:,.0f} .. {found['high']:,.0f}")
    return table


def _ratios(ratios: dict[str, dict[str, float]], goals: dict[str, float]) -> Table:
    table = Table("ratio", "median", "smallest .. largest", "goal", title="Ratios within a round")
    for text, found in ratios.items():
        goal = f"{goals[text]:g}" if text in goals else ""
        table.add_row(text, f"{found['median']:.2f}", f"{found['low']:.2f} .. {found['high']:.2f}", goal)
    return table


def _costs(found: dict[str, Any]) -> Table:
    """A column for whatever any of the clients has."""
    table = Table(
        "client, us a record", title="What a record costs: on the clock (and by stage), and of processor time"
    )
    runs = found["measured"]
    columns = {
        (part, name): f"{text}{name}"
        for part, text in _PARTS.items()
        for name in dict.fromkeys(name for known in runs.values() for name in _medians(known, part))
    }
    for text in ("clock", *columns.values(), "peak MB"):
        table.add_column(text, justify="right")
    for client, known in runs.items():
        medians = {(part, name): f"{value:.2f}" for part in _PARTS for name, value in _medians(known, part).items()}
        clock = statistics.median(1e6 / run["rate"] for run in known)
        memory = max(run["memory"] for run in known)
        table.add_row(client, f"{clock:.2f}", *(medians.get(key, "") for key in columns), f"{memory:.0f}")
    return table


def _medians(runs: Sequence[dict[str, Any]], name: str) -> dict[str, float]:
    """Of what all runs know."""
    common = [key for key in runs[0][name] if all(key in run[name] for run in runs)]
    return {key: statistics.median(run[name][key] for run in runs) for key in common}

"""`python -m tests.benchmarks.peers`: the daemon and its peers, each in every round, in turn."""

from __future__ import annotations

from dataclasses import replace

from rich.console import Console

from tests.benchmarks import report
from tests.benchmarks.candidates import Candidate, bound, derived
from tests.benchmarks.command import parser, starting, wide
from tests.benchmarks.peers.candidates import NOTES, OURS, PEERS, RATIOS, TOPICS
from tests.benchmarks.peers.environments import MissingPeerError
from tests.benchmarks.results import circumstances

_WARM_UP = 0.5


def had(console: Console, names: list[str]) -> tuple[dict[str, Candidate], dict[str, str]]:
    """Those that can be had, and why the others cannot."""
    found, missing = {}, {}
    for name in names:
        try:
            with console.status(f"fetching {name}"):
                found[name] = PEERS[name]()
        except MissingPeerError as error:
            missing[name] = str(error)
            console.print(f"Without {name}: {error}", highlight=False, markup=False)
    return found, missing


def main() -> None:
    """Measure, show, save."""
    options = parser("tests.benchmarks.peers", __doc__)
    options.add_argument("--only", nargs="+", choices=PEERS, default=list(PEERS), help="these peers")
    arguments, console = options.parse_args(), wide()
    peers, missing = had(console, arguments.only)
    with starting(console, arguments.records, TOPICS) as lab:
        before = circumstances(lab.dsn)
        candidates = bound(replace(lab, warm_up=_WARM_UP), OURS | peers)
        rounds = report.in_turn(arguments.rounds, candidates, console)
    found = before | report.results([derived(found) for found in rounds], RATIOS)
    report.present(console, "peers", found | {"records": arguments.records, "missing": missing}, NOTES)


if __name__ == "__main__":
    main()

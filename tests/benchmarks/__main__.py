"""`python -m tests.benchmarks`: the daemon, the limits and loops written by hand, each in every round, in turn."""

from __future__ import annotations

from tests.benchmarks import report
from tests.benchmarks.candidates import CANDIDATES, NOTES, RATIOS, TOPICS, bound, derived
from tests.benchmarks.command import parser, starting, wide
from tests.benchmarks.results import circumstances


def main() -> None:
    """Measure, show, save."""
    options = parser("tests.benchmarks", __doc__)
    options.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), help="these candidates")
    arguments, console = options.parse_args(), wide()
    chosen = {name: run for name, run in CANDIDATES.items() if name in arguments.only}
    with starting(console, arguments.records, TOPICS) as lab:
        before = circumstances(lab.dsn)
        rounds = report.in_turn(arguments.rounds, bound(lab, chosen), console)
    found = before | report.results([derived(found) for found in rounds], RATIOS) | {"records": arguments.records}
    report.present(console, "bench", found, NOTES)


if __name__ == "__main__":
    main()

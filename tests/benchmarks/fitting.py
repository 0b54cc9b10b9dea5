"""`python -m tests.benchmarks.fitting`: whether batches fit themselves to the database, against fixed sizes.

The database is as it is, or takes 50 ms longer for each batch, or up to 100 ms longer by chance. Goal: at least 0.95 of
the best fixed size on each, without knowing which it is.
"""

from __future__ import annotations

from functools import partial

from tests.benchmarks import daemon, orders, report
from tests.benchmarks.command import parser, starting, wide
from tests.benchmarks.lab import Lab
from tests.benchmarks.measuring import Measured
from tests.benchmarks.report import Ratio
from tests.benchmarks.results import circumstances

GOAL = 0.95
DATABASES = {"fast": "0", "slow": "0.05", "jittery": "random() * 0.1"}
SIZES: dict[str, dict[str, int]] = {
    f"{size:,}": {"max_records": size, "ready_records": size} for size in (500, 2000, 5000, 20_000)
}
RATIOS = tuple(
    Ratio(f"{kind}: as it fits / {size}", f"{kind}, as it fits", f"{kind}, {size}", GOAL)
    for kind in DATABASES
    for size in SIZES
)


def slowed(lab: Lab, kind: str, batch: dict[str, int]) -> Measured:
    """Into a database of this kind, in such batches."""
    return daemon.into_postgres(lab, "avro", batch=batch, more=orders.DELAYED.format(seconds=DATABASES[kind]))


def main() -> None:
    """Measure, show, save."""
    arguments, console = parser("tests.benchmarks.fitting", __doc__, records=400_000).parse_args(), wide()
    with starting(console, arguments.records, ["avro"]) as lab:
        before = circumstances(lab.dsn)
        candidates = {
            f"{kind}, {size}": partial(slowed, lab, kind, batch)
            for kind in DATABASES
            for size, batch in {"as it fits": {}, **SIZES}.items()
        }
        rounds = report.in_turn(arguments.rounds, candidates, console)
    found = before | report.results(rounds, RATIOS) | {"records": arguments.records}
    report.present(console, "fitting", found)


if __name__ == "__main__":
    main()

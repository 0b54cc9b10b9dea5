"""`python -m tests.benchmarks.fitting`: whether batches fit themselves to the database, against fixed sizes.

The database is as it is, or takes 50 ms longer for each batch, or up to 100 ms longer by chance. Goal: at least 0.95 of
the best fixed size on each, without knowing which it is.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import psycopg
from rich.console import Console
from rich.table import Table

from tests.benchmarks import daemon, report
from tests.benchmarks.__main__ import laboratory
from tests.benchmarks.lab import Lab

GOAL = 0.95
DATABASES = {"fast": "0", "slow": "0.05", "jittery": "random() * 0.1"}
SIZES: dict[str, dict[str, int]] = {
    "as it fits": {},
    **{f"{size:,}": {"max_records": size, "ready_records": size} for size in (500, 2000, 5000, 20_000)},
}
_DELAY = """
create or replace function delay() returns trigger language plpgsql as $$
begin perform pg_sleep({seconds}); return null; end $$;
create or replace trigger delayed after insert on orders for each statement execute function delay()
"""


def slow_down(lab: Lab, seconds: str) -> None:
    """Each batch takes so much longer."""
    with psycopg.connect(lab.dsn, autocommit=True) as connection:
        connection.execute(_DELAY.format(seconds=seconds))  # type: ignore[call-overload]


def measured(lab: Lab, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Records a second, by database and size of batches."""
    found: dict[str, dict[str, list[float]]] = {kind: {size: [] for size in SIZES} for kind in DATABASES}
    for number in range(rounds):
        for kind, seconds in DATABASES.items():
            slow_down(lab, seconds)
            for size in list(SIZES) if number % 2 == 0 else list(reversed(SIZES)):
                found[kind][size].append(daemon.into_postgres(lab, "avro", batch=SIZES[size]).rate)
    return found


def shown(found: dict[str, dict[str, list[float]]]) -> Table:
    """Medians, and the ratio to the best of the fixed sizes."""
    table = Table("database", *SIZES, "as it fits / best", title="Records a second by size of batches")
    for kind, rates in found.items():
        middle = {size: statistics.median(each) for size, each in rates.items()}
        best = max(rate for size, rate in middle.items() if SIZES[size])
        table.add_row(kind, *(f"{rate:,.0f}" for rate in middle.values()), f"{middle['as it fits'] / best:.2f}")
    return table


def main() -> None:
    """Measure, show, save."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fitting", description=__doc__)
    parser.add_argument("--records", type=int, default=400_000, help="default %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    arguments, console = parser.parse_args(), Console()
    with laboratory(arguments.records) as lab:
        found: dict[str, Any] = measured(lab, arguments.rounds)
    console.print(shown(found))
    console.print(f"Full results: {report.save('fitting', found).relative_to(report.ROOT)}")


if __name__ == "__main__":
    main()

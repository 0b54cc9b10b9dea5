"""`python -m tests.benchmarks`: every candidate in every round, in turn; see `--help`."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from tests.benchmarks import report
from tests.benchmarks.candidates import CANDIDATES, rates
from tests.benchmarks.daemon import Measured
from tests.benchmarks.lab import BATCH, DURABLE, Lab
from tests.services.kafka import Kafka
from tests.services.postgres import Postgres


@contextmanager
def laboratory(records: int, *names: str) -> Iterator[Lab]:
    """Kafka and PostgreSQL with everything in place, or with records of these kinds alone; gone afterwards."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="microbatch-bench-")))
        broker, server = Kafka(folder), Postgres(DURABLE)
        for service in (broker, server):
            service.start()
            stack.callback(service.stop)
        lab = Lab(broker.bootstrap, server.dsn, folder, records)
        lab.prepare(*[names] * bool(names))
        yield lab


def run(
    lab: Lab, rounds: int, names: Sequence[str], progress: Progress
) -> tuple[list[dict[str, float]], list[dict[str, Measured]]]:
    """Rates and daemons of each round. The order turns round each time, so that no candidate always follows another."""
    found: list[dict[str, float]] = []
    daemons: list[dict[str, Measured]] = []
    task = progress.add_task("", total=rounds * len(names))
    for number in range(rounds):
        results: dict[str, float | Measured] = {}
        for name in names if number % 2 == 0 else reversed(names):
            progress.update(task, description=f"round {number + 1} of {rounds}: {name}")
            results[name] = CANDIDATES[name](lab)
            progress.advance(task)
        results = {name: results[name] for name in names}
        found.append(rates(lab, results))
        daemons.append({name: result for name, result in results.items() if isinstance(result, Measured)})
    return found, daemons


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="in each topic; default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), help="these candidates")
    arguments = parser.parse_args()
    if arguments.records % BATCH or arguments.records < 2 * BATCH or arguments.rounds < 1:
        parser.error(f"--records must be a multiple of {BATCH} and at least {2 * BATCH}, --rounds at least 1")
    return arguments


def main() -> None:
    """Measure, show, save."""
    arguments, console = _arguments(), Console()
    names = [name for name in CANDIDATES if name in arguments.only]
    before = report.machine()
    with console.status("starting Kafka and PostgreSQL, producing records"), ExitStack() as stack:
        lab = stack.enter_context(laboratory(arguments.records))
        stack = stack.pop_all()
    with stack:
        with Progress(console=console) as progress:
            rounds, daemons = run(lab, arguments.rounds, names, progress)
        found = report.results(rounds, daemons, arguments.records)
        found |= {"machine": before, "load_1_minute_after": report.machine()["load_1_minute"]}
        found |= {"versions": report.versions(lab.dsn)}
    report.show(console, found)
    console.print(f"Full results: {report.save('bench', found).relative_to(report.ROOT)}")


if __name__ == "__main__":
    main()

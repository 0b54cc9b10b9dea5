"""The long run: `make fuzz`. On its own PostgreSQL, or on that of DATABASE_URL."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from rich.progress import Progress

from tests.fuzz import campaign
from tests.fuzz.lives import CASES
from tests.services.postgres import Postgres

_TOGETHER = 2
_SEEDS = 10**9  # the seeds of two cases never meet


def main() -> int:
    """Exit code 1 where something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=3_000_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="default: another one each time")
    options = parser.parse_args()
    server = None
    if not (dsn := os.environ.get("DATABASE_URL", "")):
        server = Postgres()
        server.start()
        dsn = server.dsn
    try:
        return _fuzz(dsn, options.inputs, options.seed)
    finally:
        if server is not None:
            server.stop()


def _fuzz(dsn: str, inputs: int, seed: int) -> int:
    ways = list(itertools.product(CASES, ["sqlite", dsn]))
    share, began, failed = inputs // len(ways), time.monotonic(), 0
    with Progress() as progress, ThreadPoolExecutor(_TOGETHER) as pool:

        def one(number: int, case: str, where: str) -> int:
            name = f"{case}, {'SQLite' if where == 'sqlite' else 'PostgreSQL'}"
            task = progress.add_task(name, total=share)
            first = (seed + number) * _SEEDS
            return campaign.run(case, where, first, share, lambda done: progress.update(task, completed=done))

        running = [pool.submit(one, number, *way) for number, way in enumerate(ways)]
        done = 0
        for future in running:
            try:
                done += future.result()
            except AssertionError as error:
                failed += 1
                progress.console.print(str(error), markup=False)
    seconds = time.monotonic() - began
    print(f"seed {seed}: {done} inputs in {seconds:.0f} s, {done / seconds:.0f} a second; {failed} cases failed")  # noqa: T201
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

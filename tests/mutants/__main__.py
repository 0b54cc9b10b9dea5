"""Every defect, one after the other: `make mutants`."""

from __future__ import annotations

import queue
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import psycopg
from psycopg.conninfo import make_conninfo

from tests.mutants.defects import DEFECTS, Defect
from tests.mutants.running import caught, sound
from tests.services.postgres import Postgres

_TOGETHER = 2


def main(names: list[str]) -> int:
    """Exit code 1 where a defect is not caught, or a test fails without any. `names`: only these defects; 2 if there is
    none of a name."""
    if unknown := set(names) - {defect.name for defect in DEFECTS}:
        print(f"no such defect: {', '.join(sorted(unknown))}")  # noqa: T201
        return 2
    chosen = [defect for defect in DEFECTS if not names or defect.name in names]
    server = Postgres()
    server.start()
    try:
        return _run(chosen, server.dsn)
    finally:
        server.stop()


def _run(defects: list[Defect], dsn: str) -> int:
    began = time.monotonic()
    databases = _databases(dsn)
    if failed := sound([defect.test for defect in defects], dsn):
        print(f"without any defect:\n{failed}")  # noqa: T201
        return 1

    def one(defect: Defect) -> str:
        database = databases.get()
        try:
            return caught(defect, database)
        finally:
            databases.put(database)

    missed = 0
    with ThreadPoolExecutor(_TOGETHER) as pool:
        running = {pool.submit(one, defect): defect for defect in defects}
        for future in as_completed(running):
            problem = future.result()
            missed += bool(problem)
            print(problem or f"caught: {running[future].name}", flush=True)  # noqa: T201
    seconds = time.monotonic() - began
    print(f"{len(defects) - missed} of {len(defects)} defects caught in {seconds:.0f} s")  # noqa: T201
    return 1 if missed else 0


def _databases(dsn: str) -> queue.SimpleQueue[str]:
    """One for each that runs: a claim ends the sessions of its owner's namesakes in the same database."""
    found: queue.SimpleQueue[str] = queue.SimpleQueue()
    with psycopg.connect(dsn, autocommit=True) as connection:
        for number in range(_TOGETHER):
            connection.execute(f"create database mutants_{number}".encode())
            found.put(make_conninfo(dsn, dbname=f"mutants_{number}"))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

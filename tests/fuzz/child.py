"""The process that fuzzed records are handled in: told by its arguments, it says which seed it is at.

    python -m tests.fuzz.child CASE DSN FIRST_SEED INPUTS    lives of one seed after the other, as many as make INPUTS
    python -m tests.fuzz.child CASE DSN SEED - 0 5 17        of the life of one seed these inputs, by their place

DSN `sqlite` is a file of its own.
"""

from __future__ import annotations

import faulthandler
import resource
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from tests.fuzz.inputs import life
from tests.fuzz.lives import CASES, live, write_schemas
from tests.fuzz.stores import PostgresStore, SqliteStore

MEMORY = 2 << 30
SECONDS = 60  # for one life; far more than any takes


def main(name: str, dsn: str, seed: int, inputs: int, places: Collection[int] | None) -> None:
    """Raises what a life raises."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    case = CASES[name]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_schemas(folder)
        store = SqliteStore(folder) if dsn == "sqlite" else PostgresStore(dsn)
        done = 0
        while done < inputs:
            print(seed, done, flush=True)  # noqa: T201 - what the parent reads
            faulthandler.dump_traceback_later(SECONDS, exit=True)
            batches = life(case.payload, seed)
            if places is not None:
                numbers = iter(range(10**9))
                batches = [[message for message in batch if next(numbers) in places] for batch in batches]
            live(case, store, folder, batches)
            done += max(1, sum(map(len, batches)))
            seed += 1
        store.close()
        print(seed, done, flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    case, dsn, seed, inputs, *places = sys.argv[1:]
    if inputs == "-":
        main(case, dsn, int(seed), 1, set(map(int, places)))
    else:
        main(case, dsn, int(seed), int(inputs), None)

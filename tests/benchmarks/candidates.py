"""What runs in each round, and which ratios are made of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from tests.benchmarks import daemon, limits, loops
from tests.benchmarks.daemon import Measured
from tests.benchmarks.lab import BATCH, Lab

# The slow ones are given fewer records, so that a round takes a minute and not ten.
_NAIVE, _SINGLE, _TUPLES = 20, 250, 10
FORMATS = ("json", "avro")


def _part(lab: Lab, share: int) -> int:
    """A part of the records, in whole batches; at least two, for a rate is from the first to the last."""
    return max(2, lab.records // share // BATCH) * BATCH


def _sqlite_daemon(lab: Lab) -> Measured:
    return daemon.into_sqlite(lab, "json", lab.folder / "daemon.db")


def _sqlite_bare(lab: Lab) -> float:
    """Of the very tuples that the daemon stored: it ran before."""
    with closing(sqlite3.connect(lab.folder / "daemon.db")) as connection:
        rows = connection.execute("select * from orders limit ?", [_part(lab, _TUPLES)]).fetchall()
    return loops.sqlite_executemany(rows, lab.records, lab.folder / "bare.db")


CANDIDATES: dict[str, Callable[[Lab], float | Measured]] = {
    "L1 json": lambda lab: limits.consume(lab, "bench-json"),
    "L1 avro": lambda lab: limits.consume(lab, "bench-avro"),
    "L2": limits.copy,
    "daemon json": lambda lab: daemon.into_postgres(lab, "json"),
    "daemon json, 0.01 % bad": lambda lab: daemon.into_postgres(lab, "json-0.01%"),
    "daemon json, 1 % bad": lambda lab: daemon.into_postgres(lab, "json-1%"),
    "daemon json, 10 % bad": lambda lab: daemon.into_postgres(lab, "json-10%"),
    "loop json": loops.json_copy,
    "daemon avro": lambda lab: daemon.into_postgres(lab, "avro"),
    "loop avro": loops.avro_copy,
    "naive": lambda lab: loops.naive(lab, _part(lab, _NAIVE)),
    "single": lambda lab: loops.row_by_row(lab, max(2, lab.records // _SINGLE), commit_offsets=False),
    "single, offsets too": lambda lab: loops.row_by_row(lab, max(2, lab.records // _SINGLE), commit_offsets=True),
    "sqlite daemon": _sqlite_daemon,
    "sqlite bare": _sqlite_bare,
}


@dataclass(frozen=True)
class Ratio:
    """One candidate's rate over another's, within each round. `goal`: what it is meant to reach, nothing more."""

    text: str
    over: str
    under: str
    goal: float | None = None


RATIOS = (
    Ratio("JSON, daemon / Lc", "daemon json", "Lc json", 0.6),
    Ratio("JSON, hand-written loop / Lc", "loop json", "Lc json"),
    Ratio("JSON, daemon / hand-written loop", "daemon json", "loop json"),
    Ratio("JSON with 0.01 % bad records, daemon / clean", "daemon json, 0.01 % bad", "daemon json", 0.75),
    Ratio("JSON with 1 % bad records, daemon / clean", "daemon json, 1 % bad", "daemon json", 0.25),
    Ratio("JSON with 10 % bad records, daemon / clean", "daemon json, 10 % bad", "daemon json", 0.2),
    Ratio("Avro, daemon / Lc", "daemon avro", "Lc avro", 0.38),
    Ratio("Avro, hand-written loop / Lc", "loop avro", "Lc avro"),
    Ratio("Avro, daemon / hand-written loop", "daemon avro", "loop avro"),
    Ratio("Avro, daemon / naive loop", "daemon avro", "naive", 5),
    Ratio("JSON, daemon / a commit for each row", "daemon json", "single", 50),
    Ratio("Avro, daemon / a commit for each row", "daemon avro", "single", 50),
    Ratio("Avro, daemon / a commit for each row and offset", "daemon avro", "single, offsets too"),
    Ratio("SQLite, daemon / bare executemany", "sqlite daemon", "sqlite bare", 0.6),
    Ratio("SQLite, daemon's write stage / bare executemany", "sqlite write", "sqlite bare"),
)


def rates(lab: Lab, results: dict[str, float | Measured]) -> dict[str, float]:
    """The rates of one round, with those that follow from others."""
    found = {name: result.rate if isinstance(result, Measured) else result for name, result in results.items()}
    for form in FORMATS:
        if {f"L1 {form}", "L2"} <= found.keys():
            found[f"Lc {form}"] = limits.serial(found[f"L1 {form}"], found["L2"])
    if isinstance(sqlite := results.get("sqlite daemon"), Measured):
        found["sqlite write"] = lab.records / sqlite.stages["write"]
    return found

"""What `make bench` runs in each round, and which ratios are made of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing

from tests.benchmarks import daemon, limits, loops
from tests.benchmarks.lab import BATCH, Lab
from tests.benchmarks.measuring import Measured
from tests.benchmarks.report import Ratio, Result, Round

# The slow ones are given fewer records, so that a round takes a minute and not ten.
_NAIVE, _SINGLE, _TUPLES = 20, 250, 10
Candidate = Callable[[Lab], Result]


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


LIMITS: dict[str, Candidate] = {
    "L1 json": lambda lab: limits.consume(lab, "json"),
    "L1 avro": lambda lab: limits.consume(lab, "avro"),
    "L2": limits.copy,
}
CANDIDATES: dict[str, Candidate] = LIMITS | {
    "daemon json": lambda lab: daemon.into_postgres(lab, "json"),
    "daemon json, 0.01 % bad": lambda lab: daemon.into_postgres(lab, "json-0.01%"),
    "daemon json, 1 % bad": lambda lab: daemon.into_postgres(lab, "json-1%"),
    "daemon json, 10 % bad": lambda lab: daemon.into_postgres(lab, "json-10%"),
    "loop json": loops.json_copy,
    "daemon json, upsert": lambda lab: daemon.upsert_postgres(lab, "json-part"),
    "loop json, upsert": loops.json_upsert,
    "loop json, upsert by unnest": loops.json_unnest,
    "daemon avro": lambda lab: daemon.into_postgres(lab, "avro"),
    "daemon avro, transform": lambda lab: daemon.into_postgres(lab, "avro", transform=daemon.TRANSFORM),
    "loop avro": loops.avro_copy,
    "naive": lambda lab: loops.naive(lab, _part(lab, _NAIVE)),
    "single": lambda lab: loops.row_by_row(lab, max(2, lab.records // _SINGLE), commit_offsets=False),
    "single, offsets too": lambda lab: loops.row_by_row(lab, max(2, lab.records // _SINGLE), commit_offsets=True),
    "sqlite daemon": _sqlite_daemon,
    "sqlite bare": _sqlite_bare,
}
TOPICS = ("json", "avro", "json-0.01%", "json-1%", "json-10%", "json-part")
NOTES = (
    "L1: consume(5000) and commit of the same topic; L2: binary COPY of a ready buffer, 5,000 rows a transaction;"
    " Lc = 1 / (1/L1 + 1/L2), what a serial chain could reach at most. All clients fetch with the daemon's"
    " fetch.queue.backoff.ms, without which L1 is far lower.",
    "The naive loop decodes each record by fastavro alone: it is quicker than confluent's AvroDeserializer, which"
    " `make bench-peers` takes, and the ratio to it the smaller.",
)
RATIOS = (
    Ratio("JSON, daemon / Lc", "daemon json", "Lc json", 0.8),
    Ratio("JSON, hand-written loop / Lc", "loop json", "Lc json"),
    Ratio("JSON, daemon / hand-written loop", "daemon json", "loop json", 0.9),
    Ratio("JSON with 0.01 % bad records, daemon / clean", "daemon json, 0.01 % bad", "daemon json", 0.75),
    Ratio("JSON with 1 % bad records, daemon / clean", "daemon json, 1 % bad", "daemon json", 0.25),
    Ratio("JSON with 10 % bad records, daemon / clean", "daemon json, 10 % bad", "daemon json", 0.2),
    Ratio("JSON, daemon's upsert / executemany ON CONFLICT", "daemon json, upsert", "loop json, upsert", 2),
    Ratio("JSON, daemon's upsert / unnest ON CONFLICT", "daemon json, upsert", "loop json, upsert by unnest"),
    Ratio("Avro, daemon / Lc", "daemon avro", "Lc avro", 0.9),
    Ratio("Avro with a Python transform, daemon / Lc", "daemon avro, transform", "Lc avro", 0.35),
    Ratio("Avro, hand-written loop / Lc", "loop avro", "Lc avro"),
    Ratio("Avro, daemon / hand-written loop", "daemon avro", "loop avro", 0.9),
    Ratio("Avro, daemon / naive loop", "daemon avro", "naive", 5),
    Ratio("JSON, daemon / a commit for each row", "daemon json", "single", 50),
    Ratio("Avro, daemon / a commit for each row", "daemon avro", "single", 50),
    Ratio("Avro, daemon / a commit for each row and offset", "daemon avro", "single, offsets too"),
    Ratio("SQLite, daemon / bare executemany", "sqlite daemon", "sqlite bare", 0.6),
    Ratio("SQLite, daemon's write stage / bare executemany", "sqlite write", "sqlite bare"),
)


def bound(lab: Lab, candidates: Mapping[str, Candidate]) -> dict[str, Callable[[], Result]]:
    """The same, run in this lab."""
    return {name: lambda run=run: run(lab) for name, run in candidates.items()}


def derived(found: Round) -> Round:
    """A round with what follows from its figures: the limits of serial chains, and SQLite's write stage alone."""
    more: Round = {}
    for form in ("json", "avro"):
        if {f"L1 {form}", "L2"} <= found.keys():
            more[f"Lc {form}"] = limits.serial(found[f"L1 {form}"], found["L2"])
    if isinstance(sqlite := found.get("sqlite daemon"), Measured):
        more["sqlite write"] = 1e6 / sqlite.stages["write"]
    return found | more

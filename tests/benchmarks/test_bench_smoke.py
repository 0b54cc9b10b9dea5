"""That the benchmark still works: few records, nothing timed."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from rich.console import Console
from rich.progress import Progress

from tests.benchmarks import isolation, operating, report
from tests.benchmarks.__main__ import run
from tests.benchmarks.candidates import CANDIDATES, RATIOS
from tests.benchmarks.lab import BATCH, DURABLE, Lab
from tests.services.postgres import Postgres


@pytest.fixture
def lab(kafka: str, tmp_path: Path) -> Iterator[Lab]:
    server = Postgres(DURABLE)
    server.start()
    lab = Lab(kafka, server.dsn, tmp_path, 2 * BATCH)
    lab.prepare()
    yield lab
    server.stop()


def test_every_candidate_moves_all_records_and_every_ratio_is_reported(lab: Lab) -> None:
    """A round gives each ratio once, and each daemon's stages; candidates themselves check that all rows came."""
    with Progress(disable=True) as progress:
        rounds, daemons = run(lab, 1, list(CANDIDATES), progress)
    found = report.results(rounds, daemons, lab.records)
    assert set(found["ratios"]) == {ratio.text for ratio in RATIOS}
    assert all(0 < ratio["median"] < math.inf for ratio in found["ratios"].values())
    assert all(
        run["stages"].keys() - {"isolate"} == {"map", "write"} for runs in found["daemons"].values() for run in runs
    )
    console = Console(record=True, width=200)
    report.show(console, found)
    shown = console.export_text()
    assert all(ratio.text in shown for ratio in RATIOS)


def test_the_bench_of_operating_works(lab: Lab) -> None:
    """Watched, attacked or left alone, all records come; and each reaction is seen."""
    rounds = operating.throughput(lab, 1)
    reactions = operating.pauses(lab, 1) | operating.outages(lab, 1, [0.1])
    console = Console(record=True, width=200)
    found = operating.show(console, rounds, reactions)
    assert all(0 < ratio["median"] < math.inf for ratio in found["ratios"].values())
    shown = console.export_text()
    assert all(text in shown for text in (*operating.RATIOS, *operating.CANDIDATES, *reactions))


def test_the_bench_of_isolation_works_for_each_kind_of_error(dsn: str) -> None:
    """Each finds the bad records of its kind; the bench itself checks how many rows there are then."""
    schema = f"bench_{uuid.uuid4().hex}"
    own = make_conninfo(dsn, options=f"-csearch_path={schema}")
    with psycopg.connect(own, autocommit=True) as admin:
        admin.execute(f"create schema {schema}")
        for kind in isolation.KINDS.values():
            bench = isolation.Bench(admin, own, kind)
            assert bench.time(isolation.isolating, bench.rows([7, 8, 4000]), BATCH - 3) > 0
            bench.close()
        admin.execute(f"drop schema {schema} cascade")

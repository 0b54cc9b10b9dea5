"""That the benchmark still works: few records, nothing timed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from tests.benchmarks import report
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
    assert all(run["stages"].keys() == {"map", "write"} for runs in found["daemons"].values() for run in runs)
    console = Console(record=True, width=200)
    report.show(console, found)
    shown = console.export_text()
    assert all(ratio.text in shown for ratio in RATIOS)

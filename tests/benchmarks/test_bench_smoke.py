"""That the benchmark still works: few records, nothing timed."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from rich.console import Console

from tests.benchmarks import daemon, isolation, latency, operating, orders, report, scale, start
from tests.benchmarks.candidates import CANDIDATES, RATIOS, TOPICS, bound, derived
from tests.benchmarks.compare import checked_out
from tests.benchmarks.lab import BATCH, DURABLE, Lab
from tests.services.postgres import Postgres


@pytest.fixture(scope="module")
def lab(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    server = Postgres(DURABLE)
    server.start()
    lab = Lab(kafka, server.dsn, tmp_path_factory.mktemp("bench"), 2 * BATCH)
    try:
        lab.prepare(TOPICS)
        yield lab
    finally:
        server.stop()


def test_every_candidate_moves_all_records_and_every_ratio_is_reported(lab: Lab) -> None:
    """A round gives each ratio once, and each daemon's stages; candidates themselves check that all rows came."""
    console = Console(record=True, width=200)
    rounds = report.in_turn(1, bound(lab, CANDIDATES), console)
    found = report.results([derived(found) for found in rounds], RATIOS)
    assert set(found["ratios"]) == {ratio.text for ratio in RATIOS}
    assert all(0 < ratio["median"] < math.inf for ratio in found["ratios"].values())
    assert all(
        run["stages"].keys() - {"isolate"} == {"map", "write", "commit"}
        for runs in found["measured"].values()
        for run in runs
    )
    report.show(console, found)
    shown = console.export_text()
    assert all(ratio.text in shown for ratio in RATIOS)


def test_the_bench_of_operating_works(lab: Lab) -> None:
    """Watched, attacked or left alone, all records come; and each reaction is seen."""
    console = Console(record=True, width=200)
    rounds = report.in_turn(1, operating.candidates(lab), console)
    reactions = operating.pauses(lab, 1) | operating.outages(lab, 1, [0.1])
    ratios = report.results(rounds, operating.RATIOS)["ratios"]
    assert {ratio.text for ratio in operating.RATIOS if ratio.figure == "rate"} <= ratios.keys()
    console.print(operating.reacted(reactions))
    shown = console.export_text()
    assert all(text in shown for text in reactions)


def test_another_commit_is_run_from_its_own_files(lab: Lab) -> None:
    """A mark that the other tree's package leaves is there after a comparison with HEAD's."""
    with checked_out("HEAD") as source:
        mark = lab.folder / "ran"
        module = source / "consumer" / "__main__.py"
        module.write_text(f"open({str(mark)!r}, 'w').close()\n{module.read_text()}")
        daemon.into_postgres(replace(lab, source=source), "json")
    assert mark.exists()
    assert not source.exists()


def test_members_share_what_is_shown_when_each_has_its_partitions(lab: Lab) -> None:
    """Two members write all of it; the bench itself checks every value."""
    assert scale.drained(lab, scale.Point(2 * BATCH, members=2, partitions=2)).rate > 0


def test_records_of_a_certain_size_are_of_that_size(lab: Lab) -> None:
    """To the byte, and the daemon writes them."""
    assert {len(value) for value in orders.as_notes(range(98, 102), 1001)} == {1001}
    assert {len(value) for value in orders.as_padded_json(range(98, 102), 1001)} == {1001}
    assert scale.drained(lab, scale.Point(2 * BATCH, size=100)).rate > 0


def test_ages_at_commit_are_those_of_all_records(lab: Lab) -> None:
    """None is negative, and the larger the share, the older; the bench itself waits until all are written."""
    found = latency.ages(lab, rate=2000, seconds=1)
    assert 0 < found["half of all, ms"] <= found[latency.P99] <= found["the oldest, ms"]


def test_the_first_commit_is_timed(lab: Lab) -> None:
    """From before the daemon was started."""
    assert start.first_commit(lab) > 0
    assert start.first_record(lab) > 0


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

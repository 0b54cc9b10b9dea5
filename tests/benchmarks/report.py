"""What was measured, for people and as a file."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import confluent_kafka
import msgspec
import psycopg
from rich.console import Console
from rich.table import Table

from tests.benchmarks.candidates import RATIOS
from tests.benchmarks.daemon import Measured

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".cache" / "bench"
NOTES = (
    "Every figure is the median of all rounds (smallest .. largest); ratios are made within a round. Rates are from the"
    " first commit to the last, so without start and joining the group. Rates of other runs cannot be compared.",
    "L1: consume(5000) and commit of the same topic; L2: binary COPY of a ready buffer, 5,000 rows a transaction;"
    " Lc = 1 / (1/L1 + 1/L2), what a serial chain could reach at most. All clients fetch with the daemon's"
    " fetch.queue.backoff.ms, without which L1 is far lower.",
    "The naive loop decodes each record by fastavro alone, because the schema registry's client is not installed: it is"
    " quicker than confluent's AvroDeserializer, and the ratio to it the smaller.",
    "Goals are what was set out to be reached; nothing here passes or fails.",
)


@dataclass(frozen=True)
class Spread:
    """A median, and how far the rounds lie apart."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def machine() -> dict[str, Any]:
    """What it ran on, and how busy that was."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 2**30),
        "kernel": platform.release(),
        "load_1_minute": os.getloadavg()[0],
    }


def versions(dsn: str) -> dict[str, str]:
    """Of everything that matters to the figures."""
    with psycopg.connect(dsn) as connection:
        (server,) = connection.execute("show server_version").fetchone()
    pom = (ROOT / "tests" / "services" / "pom.xml").read_text()
    broker = re.search(r"<artifactId>kafka_2.13</artifactId>\s*<version>(.+)</version>", pom)
    packages = ("microbatch", "confluent-kafka", "fastavro", "msgspec", "psycopg")
    return {
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "sqlite": sqlite3.sqlite_version,
        "postgresql": server,
        "kafka": broker[1] if broker else "unknown",
    } | {name: version(name) for name in packages}


def save(name: str, found: dict[str, Any]) -> Path:
    """Write the file `name` with the time, and once more as the latest."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode()
    (FOLDER / f"{name}-latest.json").write_text(text)
    path = FOLDER / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(text)
    return path


def ratios(rounds: Sequence[dict[str, float]]) -> dict[str, Spread]:
    """Those for which everything was run."""
    known = set(rounds[0])
    return {
        ratio.text: spread([found[ratio.over] / found[ratio.under] for found in rounds])
        for ratio in RATIOS
        if {ratio.over, ratio.under} <= known
    }


def results(rounds: Sequence[dict[str, float]], daemons: Sequence[dict[str, Measured]], records: int) -> dict[str, Any]:
    """All of it as plain values."""
    names = list(daemons[0])
    return {
        "records": records,
        "rounds": list(rounds),
        "rates": {name: asdict(spread([found[name] for found in rounds])) for name in rounds[0]},
        "ratios": {text: asdict(found) for text, found in ratios(rounds).items()},
        "goals": {ratio.text: ratio.goal for ratio in RATIOS if ratio.goal},
        "daemons": {name: [asdict(found[name]) for found in daemons] for name in names},
    }


def show(console: Console, found: dict[str, Any]) -> None:
    """What `results` holds, as tables."""
    console.print(_rates(found["rates"]), _ratios(found["ratios"], found["goals"]), _stages(found))
    for note in NOTES:
        console.print(f"- {note}", highlight=False, markup=False)


def _rates(rates: dict[str, dict[str, float]]) -> Table:
    table = Table("candidate", "records/s", "smallest .. largest", title="Rates")
    for name, found in rates.items():
        table.add_row(name, f"{found['median']:,.0f}", f"{found['low']:,.0f} .. {found['high']:,.0f}")
    return table


def _ratios(ratios: dict[str, dict[str, float]], goals: dict[str, float]) -> Table:
    table = Table("ratio", "median", "smallest .. largest", "goal", title="Ratios within a round")
    for text, found in ratios.items():
        goal = f"{goals[text]:g}" if text in goals else ""
        table.add_row(text, f"{found['median']:.2f}", f"{found['low']:.2f} .. {found['high']:.2f}", goal)
    return table


def _stages(found: dict[str, Any]) -> Table:
    table = Table("daemon", "us a record", "by stage", "CPU s / M records", "peak RSS MB", title="Where the time goes")
    for name, runs in found["daemons"].items():
        stages = {
            stage: statistics.median(run["stages"][stage] for run in runs) / found["records"] * 1e6
            for stage in runs[0]["stages"]
        }
        wall = statistics.median(1e6 / run["rate"] for run in runs)
        cpu = statistics.median(run["cpu"] for run in runs)
        memory = max(run["memory"] for run in runs)
        parts = ", ".join(f"{stage} {micros:.2f}" for stage, micros in stages.items())
        table.add_row(name, f"{wall:.2f}", parts, f"{cpu:.1f}", f"{memory:.0f}")
    return table

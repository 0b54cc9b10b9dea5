"""What a run leaves behind: a file of every figure, with the commit, the time, the machine and the versions."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import confluent_kafka
import msgspec
import psycopg

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "bench"
_PACKAGES = ("microbatch", "confluent-kafka", "fastavro", "msgspec", "numpy", "psycopg")


@dataclass(frozen=True)
class Spread:
    """A median, and how far the rounds lie apart."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    """Of at least one value."""
    return Spread(statistics.median(values), min(values), max(values))


def commit_of(ref: str) -> str:
    """Its short hash. Raises subprocess.CalledProcessError when there is no such commit."""
    return _git("rev-parse", "--short", "--verify", f"{ref}^{{commit}}")


def circumstances(dsn: str) -> dict[str, Any]:
    """What the figures depend on, as it is now: taken before a run, it tells how busy the machine was already."""
    return {
        "commit": _here(),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": _machine(),
        "versions": _versions(dsn),
    }


def save(name: str, found: dict[str, Any]) -> Path:
    """Write what was found, `circumstances` among it, with the time and the commit in the file's name."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}-{found['commit']}.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=2))
    return path


def _here() -> str:
    """The commit of this tree, `-dirty` behind it where files differ from it; `unknown` outside of a clone."""
    try:
        return commit_of("HEAD") + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, cwd=ROOT, capture_output=True, text=True).stdout.strip()


def _machine() -> dict[str, Any]:
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 2**30),
        "kernel": platform.release(),
        "load_1_minute_before": os.getloadavg()[0],
    }


def _versions(dsn: str) -> dict[str, str]:
    with psycopg.connect(dsn) as connection:
        (server,) = connection.execute("show server_version").fetchone()
    pom = (ROOT / "tests" / "services" / "pom.xml").read_text()
    broker = re.search(r"<artifactId>kafka_2.13</artifactId>\s*<version>(.+)</version>", pom)
    return {
        "python": platform.python_version(),
        "librdkafka": confluent_kafka.libversion()[0],
        "sqlite": sqlite3.sqlite_version,
        "postgresql": server,
        "kafka": broker[1] if broker else "unknown",
    } | {name: version(name) for name in _PACKAGES}

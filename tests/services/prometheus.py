"""Prometheus from Debian's package, unpacked and not installed, on loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tests.faults.waiting import until
from tests.services.kafka import free_ports

CACHE = Path(__file__).parents[2] / ".cache" / "prometheus"
PACKAGE = "prometheus"  # with promtool
_CONFIG = """
global: {{scrape_interval: {interval}, scrape_timeout: {interval}, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: microbatch
    static_configs: [{{targets: {targets}}}]
"""


def program(name: str) -> str:
    """The path of `prometheus` or `promtool`: installed, or fetched once.

    Raises RuntimeError where neither can be had.
    """
    if found := shutil.which(name):
        return found
    folder = CACHE / "package"
    if not folder.exists():
        part = CACHE / f"package.part-{os.getpid()}"
        part.mkdir(parents=True)
        try:
            _download(part)
            (package,) = part.glob("*.deb")
            subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=part, check=True)
            package.unlink()
            part.rename(folder)
        except (OSError, subprocess.CalledProcessError) as error:
            if not folder.exists():  # else another run has fetched it meanwhile
                raise RuntimeError(
                    f"install Prometheus and promtool: Debian's package cannot be had ({error})"
                ) from None
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return str(folder / "usr" / "bin" / name)


def _download(folder: Path) -> None:
    """By what apt knows; where it knows nothing yet, by lists of our own, for which nobody need be root."""
    if _apt(folder, "download", PACKAGE).returncode:
        lists, cache = folder / "lists", folder / "cache"
        for each in (lists / "partial", cache / "archives" / "partial"):
            each.mkdir(parents=True)
        own = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={cache}", "-o", "APT::Sandbox::User="]
        _apt(folder, *own, "update").check_returncode()
        _apt(folder, *own, "download", PACKAGE).check_returncode()
        for each in (lists, cache):
            shutil.rmtree(each)


def _apt(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["apt-get", "-q", *arguments], cwd=folder, capture_output=True)


class Prometheus:
    """One server with its data in `folder`. It scrapes `targets` (host:port) each `interval`, as the job `microbatch`,
    and evaluates the file `rules` each second."""

    def __init__(self, folder: Path, targets: Collection[str], rules: Path, interval: str = "1s") -> None:
        self._program, self._folder = program("prometheus"), folder
        self._config = folder / "prometheus.yml"
        self._config.write_text(_CONFIG.format(interval=interval, rules=rules, targets=json.dumps(list(targets))))
        (self._port,) = free_ports(1)

    def start(self) -> None:
        """Return when it answers; its first samples come up to five seconds later."""
        options = {
            "config.file": self._config,
            "storage.tsdb.path": self._folder / "data",
            "web.listen-address": f"127.0.0.1:{self._port}",
            "log.level": "warn",
        }
        with (self._folder / "prometheus.log").open("ab") as log:
            command = [self._program, *(f"--{name}={value}" for name, value in options.items())]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self._ready, f"Prometheus is ready; its log is in {self._folder}", 30)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(30)

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series that the expression gives now."""
        result = self._get("query", query=expression)["result"]
        return [(found["metric"], float(found["value"][1])) for found in result]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[float]:
        """All values that the expression had between two Unix times, of all its series."""
        result = self._get("query_range", query=expression, start=start, end=end, step=step)["result"]
        return [float(value) for found in result for _, value in found["values"]]

    def label_values(self, label: str, selector: str) -> list[str]:
        """Which values a label has in these series."""
        found: list[str] = self._get(f"label/{label}/values", **{"match[]": selector})
        return found

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            if self.process.poll() is not None:
                raise RuntimeError((self._folder / "prometheus.log").read_text()) from None
            return False

    def _get(self, path: str, **parameters: object) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise ValueError(f"{json.load(error)['error']}: {parameters}") from None

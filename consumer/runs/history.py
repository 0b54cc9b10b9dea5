"""The history of runs: a file for each in one folder, the oldest removed. It never fails a run."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from consumer.config import RunsSettings
from consumer.errors import ConfigError, FatalError
from consumer.events import Event, tell
from consumer.runs.report import Report, Status, of_json

_NAME = re.compile(r"\d{8}T\d{6}-[0-9a-f]{6}")
_HINT = "Let runs.directory be a folder that this user may write, or set runs.keep to 0."


class History:
    """The files of `folder`, at most `keep`."""

    def __init__(self, folder: Path | None, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def save(self, report: Report) -> None:
        """Keep this, in place of what was kept of the same run; what goes wrong is logged."""
        if not self._keep:
            return
        if self._folder is None:
            tell(Event.HISTORY_NOT_WRITTEN, reason="there is no home folder to keep it in", hint=_HINT)
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(self._folder / f"{report.id}.json", json.dumps(report.as_json(), indent=1))
            for name in self._names()[self._keep :]:
                (self._folder / f"{name}.json").unlink(missing_ok=True)
        except OSError as error:
            tell(Event.HISTORY_NOT_WRITTEN, reason=f"{self._folder}: {error.strerror}", hint=_HINT)

    def runs(self) -> list[Report]:
        """Those that are kept, the newest first; what cannot be read is left out. Raises FatalError."""
        return [report for name in self._names() if (report := self._read(name)) is not None]

    def run(self, name: str) -> Report:
        """The one of this id. Raises ConfigError when there is none."""
        report = self._read(name) if _NAME.fullmatch(name) else None
        if report is None:
            raise ConfigError("ID", name[:100], "is not in the history; `microbatch runs` lists what is")
        return report

    def _write(self, file: Path, text: str) -> None:
        part = file.with_suffix(f".{os.getpid()}")
        part.write_text(text)
        part.replace(file)

    def _names(self) -> list[str]:
        try:
            found = [] if self._folder is None else [file.stem for file in self._folder.glob("*.json")]
        except OSError as error:
            raise FatalError(f"{self._folder}: {error.strerror}", _HINT) from None
        return sorted(filter(_NAME.fullmatch, found), reverse=True)

    def _read(self, name: str) -> Report | None:
        if self._folder is None:
            return None
        try:
            report = of_json(json.loads((self._folder / f"{name}.json").read_text()))
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return _judged(report)


def open_history(settings: RunsSettings, environment: Mapping[str, str] = os.environ) -> History:
    """Where the settings say; by default where programs keep state (https://specifications.freedesktop.org/basedir)."""
    return History(settings.directory or _default(environment), settings.keep)


def listed(reports: list[Report]) -> list[str]:
    """A table for people."""
    rows = [["id", "started", "seconds", "status", "records", "dead letters", "config"]]
    rows += [
        [
            one.id,
            one.started[:19].replace("T", " ") + "Z",
            f"{one.seconds:,.1f}",
            one.status,
            f"{one.records.get('written', 0):,}",
            f"{one.records.get('dead_lettered', 0):,}",
            one.config,
        ]
        for one in reports
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _default(environment: Mapping[str, str]) -> Path | None:
    state = environment.get("XDG_STATE_HOME", "")
    if state.startswith("/"):
        return Path(state, "microbatch", "runs")
    try:
        return Path.home() / ".local" / "state" / "microbatch" / "runs"
    except RuntimeError:
        return None


def _judged(report: Report, alive: Callable[[int, int], Any] = os.kill) -> Report:
    """A run of this machine that says it runs, and has no process any more, was ended from outside."""
    if report.status is not Status.RUNNING or report.host != socket.gethostname():
        return report
    try:
        with contextlib.suppress(PermissionError):
            alive(report.pid, 0)
    except ProcessLookupError:
        return replace(report, status=Status.VANISHED, reason="its process ended without a word: killed, most likely")
    return report

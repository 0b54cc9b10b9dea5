"""The history of runs, on files."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import structlog

from consumer.config import RunsSettings
from consumer.errors import ConfigError
from consumer.runs.history import History, open_history
from consumer.runs.report import Status
from tests.command import microbatch
from tests.unit.runs.test_report import REPORT

NAMES = [f"20261127T0815{number:02d}-0a1b2c" for number in range(5)]


def test_the_newest_are_kept(tmp_path: Path) -> None:
    """As many as are wanted, newest first; files of others are left alone."""
    history = History(tmp_path / "a" / "b", 3)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "notes.json").write_text("mine")
    for name in NAMES:
        history.save(replace(REPORT, id=name))
    assert [one.id for one in history.runs()] == NAMES[:1:-1]
    assert (tmp_path / "a" / "b" / "notes.json").read_text() == "mine"
    assert len(list((tmp_path / "a" / "b").iterdir())) == 4


def test_a_run_is_kept_once(tmp_path: Path) -> None:
    """Its end takes the place of its beginning."""
    history = History(tmp_path, 10)
    history.save(replace(REPORT, status=Status.RUNNING, pid=os.getpid()))
    history.save(REPORT)
    assert [one.status for one in history.runs()] == [REPORT.status]
    assert history.run(REPORT.id).as_json() == REPORT.as_json() | {"topics": ["orders"]}


def test_none_is_kept_where_none_is_wanted(tmp_path: Path) -> None:
    """Not even a folder."""
    history = History(tmp_path / "a", 0)
    history.save(REPORT)
    assert history.runs() == []
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["20261127T081500-ffffff", "../../etc/passwd", "", "x" * 1000])
def test_what_is_not_there_is_said(tmp_path: Path, name: str) -> None:
    """And no other file is read."""
    with pytest.raises(ConfigError, match="ID: is not in the history"):
        History(tmp_path, 10).run(name)


def test_a_broken_file_breaks_nothing(tmp_path: Path) -> None:
    """It is left out."""
    history = History(tmp_path, 10)
    history.save(REPORT)
    for name, text in zip(NAMES, ["", "[]", "{}", '{"status": "odd"}', "\x00"], strict=True):
        (tmp_path / f"{name}.json").write_text(text if name != REPORT.id else "")
    history.save(REPORT)
    assert [one.id for one in history.runs()] == [REPORT.id]


def test_a_run_that_was_killed_has_vanished(tmp_path: Path) -> None:
    """It says that it runs, and its process is gone; one of another machine cannot be known."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    history = History(tmp_path, 10)
    host = os.uname().nodename
    for name, pid, where in zip(NAMES, (ended.pid, os.getpid(), ended.pid), (host, host, "elsewhere"), strict=False):
        history.save(replace(REPORT, id=name, status=Status.RUNNING, pid=pid, host=where))
    assert [one.status for one in history.runs()] == [Status.RUNNING, Status.RUNNING, Status.VANISHED]


def test_what_cannot_be_written_is_logged_and_no_more(tmp_path: Path) -> None:
    """Read-only file systems of containers, no home: with what to set."""
    (tmp_path / "file").write_text("")
    for history in (History(tmp_path / "file", 10), History(None, 10)):
        with structlog.testing.capture_logs() as lines:
            history.save(REPORT)
        assert [(line["event"], line["log_level"]) for line in lines] == [("history_not_written", "warning")]
        assert "runs.directory" in lines[0]["hint"]
        assert history.runs() == []


def test_it_is_where_programs_keep_state(tmp_path: Path) -> None:
    """Unless the settings say otherwise."""
    open_history(RunsSettings(), {"XDG_STATE_HOME": str(tmp_path)}).save(REPORT)
    assert (tmp_path / "microbatch" / "runs" / f"{REPORT.id}.json").is_file()
    open_history(RunsSettings(directory=tmp_path / "mine"), {"XDG_STATE_HOME": "/nowhere"}).save(REPORT)
    assert (tmp_path / "mine" / f"{REPORT.id}.json").is_file()


def test_the_commands_need_no_configuration(tmp_path: Path) -> None:
    """They look into the default folder; an id that is not there is a usage error."""
    open_history(RunsSettings(), {"XDG_STATE_HOME": str(tmp_path)}).save(REPORT)
    listed = microbatch("runs", XDG_STATE_HOME=str(tmp_path))
    assert listed.stdout.splitlines()[1].startswith(REPORT.id)
    shown = microbatch("runs", "show", REPORT.id, XDG_STATE_HOME=str(tmp_path))
    assert shown.stdout.startswith("completed with dead letters: 99,993 records written")
    assert microbatch("runs", "show", NAMES[1], XDG_STATE_HOME=str(tmp_path)).returncode == 2

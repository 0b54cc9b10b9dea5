"""A defect is put into a copy of the package, and its test run on that."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mutants.defects import Defect

ROOT = Path(__file__).parents[2]
_PARTS = ("consumer", "deploy", "tests", "schemas", "pyproject.toml")
_SECONDS = 300
_FAILED = 1  # pytest's exit code when tests ran and some failed


def applied(defect: Defect, root: Path = ROOT) -> str:
    """The file's text with the defect in it. Raises AssertionError where the text that it changes is not there once."""
    text = (root / defect.file).read_text()
    assert text.count(defect.old) == 1, f"{defect.name}: its text is {text.count(defect.old)} times in {defect.file}"
    return text.replace(defect.old, defect.new)


def caught(defect: Defect, dsn: str = "") -> str:
    """Run the defect's test with the defect in place. Returns '' if it fails as it must, else what happened."""
    with _copy() as folder:
        (folder / defect.file).write_text(applied(defect, folder))
        done = _pytest(folder, [defect.test], dsn)
    if done.returncode == _FAILED and "\nFAILED " in done.stdout:
        return ""
    return f"{defect.name}: {defect.test} did not fail (exit code {done.returncode})\n{done.stdout[-1000:]}"


def sound(tests: Collection[str], dsn: str) -> str:
    """Run tests without any defect. Returns '' if all pass, else what happened."""
    with _copy() as folder:
        done = _pytest(folder, sorted(set(tests)), dsn)
    return "" if done.returncode == 0 else done.stdout[-3000:]


@contextmanager
def _copy() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="microbatch-mutant-") as text:
        folder = Path(text)
        for part in _PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / part, folder / part)
        yield folder


def _pytest(folder: Path, tests: list[str], dsn: str) -> subprocess.CompletedProcess[str]:
    flags = ["-x", "-q", "--tb=short", "-rf", "-p", "no:cacheprovider", f"--rootdir={folder}"]
    environment = os.environ | {
        "PYTHONPATH": str(folder),
        "PYTHONDONTWRITEBYTECODE": "1",
        "DATABASE_URL": dsn,
    }  # empty: the tests start their own
    command = [sys.executable, "-m", "pytest", *flags, *tests]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )

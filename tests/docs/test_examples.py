"""What the pages show can be copied: configurations, commands, names of tests."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from consumer.cli import app
from consumer.config import Settings, parse
from tests.docs import ROOT, Block, blocks, pages

_SMALLEST = """
kafka: {bootstrap.servers: localhost:9092, group.id: orders}
topics: [orders]
format: json
sink: {dsn: "${DATABASE_URL}"}
"""
_ENVIRONMENT = {
    "DATABASE_URL": "postgresql://localhost/shop",
    "KAFKA_BOOTSTRAP_SERVERS": "k:9092",
    "ADMIN_TOKEN": "t" * 16,
}
_TEST = re.compile(r"\[`?(test_\w+)`?\]\(([^)]+\.py)\)")
_TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)


def shown() -> list[Block]:
    return [block for page in pages() for block in blocks(page)]


def configurations() -> Iterator[Any]:
    """The blocks of YAML that hold settings of microbatch, and not of Kubernetes, say."""
    for block in shown():
        written = YAML(typ="safe", pure=True).load(block.text) if block.language == "yaml" else {}
        if written.keys() & Settings.model_fields.keys():
            yield pytest.param(written, id=f"{block.page}: {block.text.splitlines()[0]}")


def lines(program: str) -> Iterator[Any]:
    """Every line of a shell that calls this program, without the words before it and the comment behind it."""
    for block in shown():
        for line in block.text.replace("\\\n", " ").splitlines() if block.language in ("", "sh", "console") else ():
            if match := re.search(rf"(?:^|\$ |-- |; |exec \w+ )({program} (?:(?! 2?>)[^|>&;])+)", line):
                yield pytest.param(shlex.split(match[1], comments=True)[1:], id=f"{block.page}: {match[1]}")


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    deeper = {name for name in below.keys() & above.keys() if isinstance(below[name], dict) and above[name]}
    return below | above | {name: merged(below[name], above[name]) for name in deeper if isinstance(above[name], dict)}


@pytest.mark.parametrize("written", list(configurations()))
def test_configurations_are_valid(written: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole file as it is; a part of one with the smallest file below it."""
    for name, value in _ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    whole = written if "kafka" in written else merged(YAML(typ="safe", pure=True).load(_SMALLEST), written)
    assert isinstance(parse(whole, ROOT), Settings)


@pytest.mark.parametrize("words", list(lines("microbatch")))
def test_commands_exist_with_their_options(words: list[str]) -> None:
    """Each takes the arguments and options that are shown."""
    command: Any = typer.main.get_command(app)
    if words[-1:] == ["--help"]:
        words = words[:-1]
    while hasattr(command, "commands") and words:
        command, words = command.commands[words[0]], words[1:]
    command.make_context("microbatch", [word for word in words if word != "..."])


@pytest.mark.parametrize("words", list(lines("make")))
def test_targets_of_make_exist(words: list[str]) -> None:
    """`make` knows each that is shown."""
    known = set(_TARGET.findall((ROOT / "Makefile").read_text()))
    assert {word for word in words if "=" not in word} <= known


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_tests_that_are_named_exist(page: Path) -> None:
    """A link to a test leads to the file that has it."""
    for name, file in _TEST.findall(page.read_text()):
        assert f"def {name}(" in (page.parent / file).read_text(), f"{name} is not in {file}"


def test_the_guarantees_name_the_tests_that_show_them() -> None:
    """Each of the README's promises has its section, and no section is without a test."""
    promised = re.findall(r"^- \*\*(.+?)\.?\*\*", (ROOT / "README.md").read_text().split("\n## ")[0], re.MULTILINE)
    sections = (ROOT / "docs/explanation/guarantees.md").read_text().split("\n## ")[1:]
    assert [section.splitlines()[0] for section in sections] == promised
    assert all(_TEST.search(section) for section in sections)

"""What the pages show can be copied: configurations, commands, names of tests."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from ruamel.yaml import YAML

from consumer.cli import app
from consumer.config import Settings, parse
from consumer.config.showing import settings_table
from tests.docs import ROOT, Block, blocks, pages
from tests.docs.tables import metrics_table

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
    "HOOK_SECRET": "s" * 16,
}
_TEST = re.compile(r"\[`?(test_\w+)`?\]\(([^)]+\.py)\)")
_SETTING = re.compile(r"(?:format|batch|sink|dead_letter|retry|admin|runs)\.\w+(?::.*)?")
_METRIC = re.compile(r"microbatch_\w+(?:\{.*\})?")
_TABLES = {"microbatch_offsets", "microbatch_dead_letters"}
_TARGET = re.compile(r"^([a-z-]+):", re.MULTILINE)


def shown() -> list[Block]:
    """All that is code, of all pages."""
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
    """The settings of both, those of `above` where both have some."""
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
    while words and words[0] in getattr(command, "commands", ()):
        command, words = command.commands[words[0]], words[1:]
    command.make_context("microbatch", [word for word in words if word != "..."])


@pytest.mark.parametrize("words", list(lines("make")))
def test_targets_of_make_exist(words: list[str]) -> None:
    """`make` knows each that is shown."""
    known = set(_TARGET.findall((ROOT / "Makefile").read_text()))
    assert {word for word in words if "=" not in word} <= known


def test_the_transform_makes_what_is_shown(tmp_path: Path) -> None:
    """The module of the page on transforms, called as the page calls it."""
    module, call, output = [block for block in blocks(ROOT / "docs/how-to/transform.md") if block.language != "yaml"][
        :3
    ]
    file = tmp_path / module.text.split()[1]
    file.parent.mkdir()
    file.write_text(module.text)
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    said = subprocess.run(
        [sys.executable, "-c", call.text], env=environment, check=True, capture_output=True, text=True
    )
    assert said.stdout == output.text


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_settings_and_metrics_that_are_named_exist(page: Path) -> None:
    """What stands in code as the name of a setting or of a metric is one."""
    code = set(re.findall(r"`([^`\n]+)`", page.read_text()))
    settings = {name.replace("<name>.", "") for name in re.findall(r"^\| `([^`]+)`", settings_table(), re.MULTILINE)}
    metrics = set(re.findall(r"`(\w+)`", metrics_table()))
    named = {name.partition(":")[0] for name in code if re.fullmatch(_SETTING, name)}
    counted = {name.partition("{")[0] for name in code if re.fullmatch(_METRIC, name)}
    assert (named - settings, counted - metrics - _TABLES) == (set(), set())


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

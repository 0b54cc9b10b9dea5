"""The boards of deploy/grafana: made by the code, fit for the catalogue of metrics, and explained."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from consumer.metrics import CATALOGUE, PREFIX
from tests.command import ROOT

DEPLOY = Path(ROOT) / "deploy"
FILES = sorted((DEPLOY / "grafana").glob("*.json"))
FOREIGN = {"up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}
_SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
_WORDS = {"by", "or", "and", "unless", "on", "offset", "without"}
LABELS = {
    PREFIX + spec.name + suffix: {*spec.labels, "instance", "job", "le"}
    for spec in CATALOGUE
    for suffix in _SUFFIXES[spec.kind]
} | {name: {"instance", "job"} for name in FOREIGN}

every_board = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def panels(path: Path) -> list[dict[str, Any]]:
    """Without the headings."""
    return [panel for panel in json.loads(path.read_text())["panels"] if panel["type"] != "row"]


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """Each series that an expression reads, and the labels that it asks for."""
    found = re.findall(r"(\w+)\{(.*?)\}", expression)
    return [(name, set(re.findall(r"(\w+)=", labels))) for name, labels in found]


def grouped(expression: str) -> set[str]:
    """The labels that it aggregates by."""
    return {label for labels in re.findall(r"\bby \((.*?)\)", expression) for label in labels.split(", ")}


def test_the_files_are_those_that_the_code_makes(tmp_path: Path) -> None:
    """`python -m tests.boards` writes them; nobody edits them by hand."""
    subprocess.run([sys.executable, "-m", "tests.boards", tmp_path], cwd=ROOT, check=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        path.name: path.read_text() for path in FILES
    }


@every_board
def test_a_board_asks_for_metrics_and_labels_that_there_are(path: Path) -> None:
    """Of the catalogue, of the process, or of Prometheus; and only for the instances chosen."""
    for panel in panels(path):
        for target in panel["targets"]:
            found = selectors(target["expr"])
            assert found, panel["title"]
            for name, labels in found:
                assert labels <= LABELS[name], (panel["title"], name)
                assert "instance" in labels, (panel["title"], name)
            assert grouped(target["expr"]) <= set[str]().union(*(LABELS[name] for name, _ in found))


@every_board
def test_every_panel_is_explained_and_has_a_unit(path: Path) -> None:
    """A title, a sentence, a unit where there are numbers, and the data source that is chosen above."""
    titles = [panel["title"] for panel in panels(path)]
    assert len(set(titles)) == len(titles)
    for panel in panels(path):
        assert panel["description"].endswith("."), panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults.get("unit") or defaults.get("mappings"), panel["title"]


@every_board
def test_a_board_leads_to_the_others_and_to_the_runbook(path: Path) -> None:
    """And can be narrowed down to a group and an instance."""
    board = json.loads(path.read_text())
    boards, runbook = board["links"]
    assert (boards["type"], boards["tags"]) == ("dashboards", board["tags"])
    assert runbook["url"].endswith("/deploy/runbook.md")
    assert {"datasource", "group", "instance"} <= {variable["name"] for variable in board["templating"]["list"]}
    assert board["uid"].startswith("microbatch-")


def test_every_metric_is_shown_somewhere() -> None:
    """What nobody looks at need not be counted."""
    text = "".join(path.read_text() for path in FILES)
    assert [
        spec.name for spec in CATALOGUE if not re.search(rf"{PREFIX}{spec.name}(_total|_bucket|_sum)?\b", text)
    ] == []


def test_grafana_of_compose_is_given_the_boards_and_the_source_that_they_ask_for() -> None:
    """All of the folder, read-only."""
    (provider,) = YAML(typ="safe", pure=True).load((DEPLOY / "compose" / "grafana" / "boards.yaml").read_text())[
        "providers"
    ]
    compose = YAML(typ="safe", pure=True).load((Path(ROOT) / "docker-compose.yml").read_text())
    mounts = dict(volume.split(":")[:2] for volume in compose["services"]["grafana"]["volumes"])
    assert mounts["./deploy/grafana"] == provider["options"]["path"]

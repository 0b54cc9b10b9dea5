"""The alerts of deploy/prometheus, as promtool judges them, and their runbook."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from consumer.metrics import CATALOGUE, PREFIX
from tests.command import ROOT
from tests.services.prometheus import program

DEPLOY = Path(ROOT) / "deploy"
RULES = DEPLOY / "prometheus"
RUNBOOK = (DEPLOY / "runbook.md").read_text()
GROUPS = YAML(typ="safe", pure=True).load((RULES / "alerts.yml").read_text())["groups"]
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule for group in GROUPS for rule in group["rules"] if "alert" in rule
}
RECORDED = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}
FAILURES = 12

every_alert = pytest.mark.parametrize("name", ALERTS)


def promtool(*arguments: str | Path) -> None:
    """Run it where the rules are. Skips where it cannot be had, but not in CI."""
    try:
        tool = program("promtool")
    except RuntimeError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    result = subprocess.run([tool, *arguments], cwd=RULES, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_promtool_takes_the_rules() -> None:
    """No syntax error, no duplicates."""
    promtool("check", "rules", "alerts.yml")


def test_alerts_fire_when_they_must_and_not_before() -> None:
    """By the durations of production."""
    promtool("test", "rules", "alerts_test.yml")


def test_promtool_takes_the_configuration_of_compose(tmp_path: Path) -> None:
    """With the rules beside it, where Compose mounts them."""
    compose = YAML(typ="safe", pure=True).load((Path(ROOT) / "docker-compose.yml").read_text())
    mounts = [volume.split(":") for volume in compose["services"]["prometheus"]["volumes"] if volume.startswith("./")]
    folder = Path("/etc/prometheus")
    for source, target, _ in mounts:
        shutil.copy(Path(ROOT) / source, tmp_path / Path(target).relative_to(folder))
    promtool("check", "config", tmp_path / "prometheus.yml")


@every_alert
def test_an_alert_says_what_is_wrong_and_where_to_read_on(name: str) -> None:
    """A severity, two sentences, and an entry of the runbook that exists."""
    alert = ALERTS[name]
    assert name.startswith("Microbatch")
    assert alert["labels"]["severity"] in {"page", "ticket"}
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"].endswith(f"/deploy/runbook.md#{name.lower()}")
    entry = re.search(rf"^### {name}\n\n\*(Page|Ticket)\.\*", RUNBOOK, re.MULTILINE)
    assert entry
    assert entry[1].lower() == alert["labels"]["severity"]


@every_alert
def test_an_alert_is_tested_by_real_durations(name: str) -> None:
    """In alerts_test.yml."""
    assert f'alertname="{name}"' in (RULES / "alerts_test.yml").read_text()


def test_rules_ask_for_metrics_that_there_are() -> None:
    """Of the catalogue, or recorded by a rule."""
    ends = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
    there = {PREFIX + spec.name + end for spec in CATALOGUE for end in ends[spec.kind]}
    for group in GROUPS:
        for rule in group["rules"]:
            expression = rule["expr"]
            for recorded in RECORDED:
                expression = expression.replace(recorded, "")
            assert set(re.findall(rf"\b{PREFIX}\w+", expression)) <= there, rule


def test_the_runbook_has_no_entry_too_many_and_every_link_leads_somewhere() -> None:
    """Twelve failures, an entry for each alert, and anchors that exist."""
    headings = re.findall(r"^#+ (.*)$", RUNBOOK, re.MULTILINE)
    assert {heading for heading in headings if heading.startswith("Microbatch")} == ALERTS.keys()
    anchors = {heading.lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= anchors
    assert len(re.findall(r"^\| [\w ]+ \|.*\[Microbatch", RUNBOOK, re.MULTILINE)) == FAILURES

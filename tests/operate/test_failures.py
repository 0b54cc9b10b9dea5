"""Each failure is told by its alert, by no other page, and by the boards: a real Prometheus has scraped all of them."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.faults.group import Services
from tests.faults.waiting import OverdueError, until
from tests.operate.failures import Failure, Lab, Patient, failures, lasting_ports, well
from tests.services.kafka import Kafka
from tests.services.postgres import Postgres, SmallDiskPostgres
from tests.services.prometheus import Prometheus, program
from tests.services.registry import FakeRegistry

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
BOARDS = {path.stem: json.loads(path.read_text()) for path in (DEPLOY / "grafana").glob("*.json")}
TOLD_SECONDS = 30  # of evaluation
OVERDUE_SECONDS = 90  # on the clock, however busy the machine is
SILENT = {"MicrobatchDown", "MicrobatchCrashLoop"}
SCALE = 20  # all durations of the rules are so many times as short here
EVER = 'max by (alertname, instance) (max_over_time(ALERTS{alertstate="firing", severity="page"}[10m]))'
pytestmark = pytest.mark.timeout(180)


def scaled(rules: str) -> str:
    """The rules with durations a 20th as long; thresholds are as they are."""
    return re.sub(
        r"(?<=\[)\d+m(?=\])|(?<=for: )\d+m|(?<=offset )\d+m",
        lambda found: f"{int(found[0][:-1]) * 60 // SCALE}s",
        rules,
    )


def panels(board: dict[str, Any]) -> dict[str, list[str]]:
    """The expressions of each, by titles."""
    found = [panel for panel in board["panels"] if panel["type"] != "row"]
    return {panel["title"]: [target["expr"] for target in panel["targets"]] for panel in found}


def alerting() -> dict[str, str]:
    """The severity of each alert."""
    groups = YAML(typ="safe", pure=True).load(ALERTS.read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    return {rule["alert"]: rule["labels"]["severity"] for rule in rules}


@dataclass
class World:
    """All the daemons, each with its failure, and Prometheus."""

    prometheus: Prometheus
    broker: Kafka
    lab: Lab
    patients: dict[str, Patient]
    failures: dict[str, Failure]
    began: float

    def fired(self) -> dict[str, set[str]]:
        """Which pages there have been at any time, for whom."""
        return {name: self.pages(patient) for name, patient in self.patients.items()}

    def firing(self, alert: str, patient: Patient) -> bool:
        """Whether it does for this daemon, or for its topic."""
        found = self.prometheus.query(f'ALERTS{{alertstate="firing", alertname="{alert}"}}')
        return any(
            labels.get("instance") == patient.instance or labels.get("topic") == patient.topic for labels, _ in found
        )

    def seconds(self, name: str) -> float:
        """How long Prometheus has known what it judges: how often this daemon has answered its scrape of each second.

        One that is down does so by its silence.
        """
        counted = "count" if self.failures[name].alert in SILENT else "sum"
        found = self.prometheus.query(f'{counted}_over_time(up{{instance="{self.patients[name].instance}"}}[10m])')
        return found[0][1] if found else 0

    def pages(self, patient: Patient) -> set[str]:
        """The alerts that have paged for this daemon at any time."""
        found = self.prometheus.query(EVER)
        return {labels["alertname"] for labels, _ in found if labels["instance"] == patient.instance}

    def asked(self, expression: str, patient: Patient | None = None) -> str:
        """As Grafana asks for this daemon, or for all of them."""
        instances = "|".join(each.instance for each in ([patient] if patient else self.patients.values()))
        values = {"$__rate_interval": "10s", "$instance": instances, "$topic": ".*", "$group": ".*"}
        for variable, value in values.items():
            expression = expression.replace(variable, value)
        return expression


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Everything has been provoked, and is known to Prometheus."""
    try:
        program("prometheus")
    except RuntimeError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("operate")
    registry = FakeRegistry()
    registry.start()
    with ExitStack() as ends:
        broker, server = _services(folder, ends)
        ends.callback(registry.stop)
        known = failures(registry)
        if not isinstance(server, SmallDiskPostgres):
            del known["database full"]  # this machine lets us have no disk to fill
        every = {"well": Failure(well, "MicrobatchDeadLetters", 2)} | known
        lab = Lab(Services(broker.bootstrap, server.dsn, folder, ends), server, ends)
        ports = lasting_ports(len(every))
        rules = folder / "alerts.yml"
        rules.write_text(scaled(ALERTS.read_text()))
        prometheus = Prometheus(folder, [f"127.0.0.1:{port}" for port in ports], rules)
        patients = {
            name: Patient(lab, name, port, failure.settings, failure.delay)
            for (name, failure), port in zip(every.items(), ports, strict=True)
        }
        ends.callback(lab.rest)  # before the daemons end: nobody starts one again
        with ThreadPoolExecutor(len(every)) as pool:
            for done in [pool.submit(failure.strike, patients[name]) for name, failure in every.items()]:
                done.result()
        began = time.time()
        prometheus.start()
        ends.callback(prometheus.stop)
        yield World(prometheus, broker, lab, patients, every, began)


def _services(folder: Path, ends: ExitStack) -> tuple[Kafka, Postgres]:
    broker = Kafka(folder)
    with (folder / "server.properties").open("a") as settings:
        settings.write("broker.session.timeout.ms=30000\n")  # the machine is busy; the last one counts
    server = SmallDiskPostgres(16 << 20) if SmallDiskPostgres.possible() else Postgres()
    with ThreadPoolExecutor() as pool:
        for started in [pool.submit(broker.start), pool.submit(server.start)]:
            started.result()
    ends.callback(server.stop)
    ends.callback(broker.process.wait)
    ends.callback(broker.process.kill)
    return broker, server


def wanted(world: World) -> dict[str, set[str]]:
    """Which pages there must have been, for whom."""
    severity = alerting()
    return {name: {f.alert} if severity[f.alert] == "page" else set() for name, f in world.failures.items()}


def test_each_failure_is_told_by_its_alert_and_by_no_other_page(world: World) -> None:
    """Within 30 s of evaluation; what is but a ticket pages nobody."""
    told: dict[str, float] = {}

    def all_told() -> bool:
        for name in world.failures.keys() - told:
            if world.firing(world.failures[name].alert, world.patients[name]):
                told[name] = world.seconds(name)
        return told.keys() == world.failures.keys()

    try:
        until(all_told, "every alert fires", OVERDUE_SECONDS)
    except OverdueError as error:
        raise AssertionError(f"{error}; not {world.failures.keys() - told}") from None
    assert {name: seconds for name, seconds in told.items() if seconds > TOLD_SECONDS} == {}
    assert world.fired() == wanted(world)


@pytest.mark.parametrize("name", BOARDS)
def test_every_panel_has_data(world: World, name: str) -> None:
    """Each of its expressions gives at least one number in the time that was scraped."""
    empty = []
    for title, found in panels(BOARDS[name]).items():
        for expression in found:
            values = world.prometheus.query_range(world.asked(expression), world.began, time.time(), 2)
            if not any(map(math.isfinite, values)):
                empty.append((title, expression))
    assert empty == []


@pytest.mark.parametrize("name", BOARDS)
def test_every_variable_has_values(world: World, name: str) -> None:
    """Group, instance and topic are found as labels."""
    variables = [found for found in BOARDS[name]["templating"]["list"] if found["type"] == "query"]
    for variable in variables:
        query = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert query
        assert world.prometheus.label_values(query[2], world.asked(query[1])), variable["name"]


def test_the_overview_says_in_one_sentence_what_is_wrong(world: World) -> None:
    """For each failure its own; and while it is late also what the limit is."""
    sentences = panels(BOARDS["overview"])

    def said(title: str, name: str) -> set[float]:
        found = world.prometheus.query(world.asked(sentences[title][0], world.patients[name]))
        return {value for _, value in found}

    found = {name: said("State", name) for name in world.failures}
    assert found == {name: {failure.says} for name, failure in world.failures.items()}
    limits = {name: said("What is the limit?", name) for name in ("database slow", "lag growing")}
    assert limits == {"database slow": {1}, "lag growing": {2}}


def test_a_broker_that_is_down_is_told_by_its_alert_and_by_no_other_page(world: World) -> None:
    """The last of all, for it strikes everybody; and until then nobody has been paged for anything else."""
    assert world.fired() == wanted(world)
    world.lab.rest()
    world.broker.process.kill()
    until(lambda: world.firing("MicrobatchKafkaUnavailable", world.patients["well"]), "it fires", 30)
    assert world.pages(world.patients["well"]) == {"MicrobatchKafkaUnavailable"}
    (sentence,) = panels(BOARDS["overview"])["State"]
    assert world.prometheus.query(world.asked(sentence, world.patients["well"]))[0][1] == 8
    ever = world.prometheus.query('max by (alertname) (max_over_time(ALERTS{alertstate="firing"}[10m]))')
    wanted_ = alerting().keys() - ({"MicrobatchDatabaseFull"} - {f.alert for f in world.failures.values()})
    assert {labels["alertname"] for labels, _ in ever} == wanted_

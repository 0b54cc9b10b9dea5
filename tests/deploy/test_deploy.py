"""deploy/ and docker-compose.yml, as far as can be told without Docker, a cluster and systemd as process 1."""

from __future__ import annotations

import functools
import json
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from consumer import __version__
from consumer.config import Settings, load
from consumer.telemetry import ALIVE_SECONDS
from tests.command import ROOT
from tests.rules import RESOURCE, resource

TOP = Path(ROOT)
DEPLOY = TOP / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
UNIT = DEPLOY / "systemd" / "microbatch@.service"
SECRET = "postgresql://u:secret@db/orders"
NAME = {"app.kubernetes.io/name": "microbatch"}
DRAIN_MARGIN = 10  # seconds that stopping may take beyond shutdown_grace_ms
IMAGE = re.compile(r"(?P<name>[a-z./-]+):(?P<tag>v?\d+\.\d+(\.\d+)?)")


def yaml(path: Path) -> Any:
    """The one document of a file."""
    return YAML(typ="safe", pure=True).load(path.read_text())


def settings_of(path: Path, monkeypatch: pytest.MonkeyPatch, **environment: str) -> Settings:
    """As the daemon reads them, with these variables of the environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return load(path)


def seconds(text: str) -> int:
    """Of a duration as Compose has them."""
    match = re.fullmatch(r"(\d+)s", text)
    assert match, text
    return int(match[1])


def assert_waits_for_the_drain(waits: int, settings: Settings) -> None:
    assert waits > settings.shutdown_grace_ms / 1000 + DRAIN_MARGIN


# The packages


def pins(path: Path) -> dict[str, tuple[str, list[str]]]:
    """Name -> version and hashes."""
    found: dict[str, tuple[str, list[str]]] = {}
    for block in re.split(r"\n(?=\S)", path.read_text()):
        name, _, version = block.split()[0].partition("==")
        found[name] = (version, re.findall(r"sha256:[0-9a-f]{64}", block))
    return found


def names(requirements: list[str]) -> set[str]:
    """The packages, spelt as pins spell them."""
    return {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", one)[0]).lower() for one in requirements}


def test_an_image_gets_the_packages_that_the_tests_ran_with_and_no_tool() -> None:
    """The image's pins are those of the lock, all that the daemon needs among them, and nothing of `dev`."""
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    lock, runs, builds = (
        pins(path)
        for path in (TOP / "requirements.txt", DEPLOY / "requirements.txt", DEPLOY / "requirements-build.txt")
    )
    assert names(project["dependencies"]) <= runs.keys()
    assert not names(project["optional-dependencies"]["dev"]) & runs.keys()
    assert builds.keys() == {"setuptools"}
    for name, pin in (runs | builds).items():
        assert pin == lock.get(name), (
            f"{name}: `make lock` pinned it anew, so pin deploy/requirements*.txt anew as well"
        )
        assert pin[1]


# The image


@functools.cache
def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile: instruction and the rest, with lines joined that belong together."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def last(instruction: str) -> str:
    """What the final image has of it."""
    return [rest for word, rest in instructions() if word == instruction][-1]


def health_check() -> list[str]:
    """The command that the health check runs."""
    command: list[str] = json.loads(last("HEALTHCHECK").partition("CMD")[2])
    return command


def test_the_image_is_pinned_unprivileged_and_has_no_shell_before_the_daemon() -> None:
    """Base by patch release, packages by hash, nothing from a URL, a user that is not root, SIGTERM to the daemon."""
    (base,) = [rest for word, rest in instructions() if word == "ARG"]
    assert re.fullmatch(r"PYTHON=3\.\d+\.\d+-slim-[a-z]+", base)
    stages = [rest.split()[0] for word, rest in instructions() if word == "FROM"]
    assert stages == ["python:${PYTHON}"] * 2
    assert "ADD" not in dict(instructions())
    for _, run in instructions():
        assert not re.search(r"pip install .*-r|curl|wget", run) or "--require-hashes" in run
    user, group = last("USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert json.loads(last("ENTRYPOINT")) == ["microbatch"]
    assert json.loads(last("CMD"))[0] == "run"
    assert last("STOPSIGNAL") == "SIGTERM"


def test_what_is_copied_into_the_image_is_there_and_let_through() -> None:
    """The builder is sent what COPY names, and nothing of a work tree besides."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    copied = [source for word, rest in instructions() if word == "COPY" for source in rest.split()[:-1]]
    sources = [source for source in copied if not source.startswith(("--from", "/opt"))]
    assert sorted(f"!{source}" for source in sources) == sorted(line for line in ignored if line.startswith("!"))
    assert all((TOP / source).exists() for source in sources)


@pytest.fixture
def answering() -> Iterator[tuple[HTTPServer, dict[str, int]]]:
    """A server and what it answers by path; all else is not found."""
    answers: dict[str, int] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.get(self.path, 404))
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not to the terminal."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server, answers
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False)])
def test_the_health_check_tells_whether_the_daemon_lives(
    answering: tuple[HTTPServer, dict[str, int]], status: int, healthy: bool
) -> None:
    """It asks /livez, on the port that admin has by default."""
    server, answers = answering
    answers["/livez"] = status
    python, *rest = health_check()
    default = str(Settings.model_fields["admin"].default.port)
    assert last("EXPOSE") == default
    assert default in rest[-1]
    command = [part.replace(default, str(server.server_port)) for part in rest]
    assert python == "python"
    assert (subprocess.run([sys.executable, *command], capture_output=True).returncode == 0) is healthy


# Compose

COMPOSE = yaml(TOP / "docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def mounts(service: dict[str, Any]) -> list[list[str]]:
    """Source, target and options of each."""
    return [volume.split(":") for volume in service.get("volumes", [])]


def daemon_settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the container `microbatch` is configured with."""
    daemon = SERVICES["microbatch"]
    ((source, target, _),) = mounts(daemon)
    assert target == json.loads(last("CMD"))[1]
    return settings_of(TOP / source, monkeypatch, **daemon["environment"])


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_pinned_private_and_whole(name: str) -> None:
    """Images by version, ports on loopback only, no secrets, and everything that it names is there."""
    service = SERVICES[name]
    image = IMAGE.fullmatch(service["image"])
    assert image, service["image"]
    if "build" in service:
        assert image["tag"] == __version__
        assert (TOP / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    for variable, value in service.get("environment", {}).items():
        assert isinstance(value, str), f"{variable}: quote it"
        assert not re.search(r"PASSWORD|SECRET|TOKEN|CREDENTIAL", variable)
        assert not re.search(r"://[^/]*:[^/]*@", value)
    for source, _, *options in mounts(service):
        if source.startswith("./"):
            assert (TOP / source).exists()
            assert options == ["ro"]
        else:
            assert source in COMPOSE["volumes"]
    waits_for = service.get("depends_on", {})
    assert set(waits_for) <= set(SERVICES)
    for other in waits_for if isinstance(waits_for, dict) else ():
        if waits_for[other]["condition"] == "service_healthy":
            assert "test" in SERVICES[other]["healthcheck"]


def test_the_composed_daemon_is_reached_confined_and_given_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens where it is published, writes nowhere, has no privilege, and may finish its drain."""
    daemon = SERVICES["microbatch"]
    settings = daemon_settings(monkeypatch)
    assert settings.admin.host == "0.0.0.0"
    (port,) = daemon["ports"]
    assert port.endswith(f":{settings.admin.port}")
    assert daemon["read_only"]
    assert daemon["cap_drop"] == ["ALL"]
    assert daemon["security_opt"] == ["no-new-privileges:true"]
    assert_waits_for_the_drain(seconds(daemon["stop_grace_period"]), settings)


def test_prometheus_scrapes_the_daemon_and_grafana_reads_prometheus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The names and ports by which the services find each other are right."""
    (job,) = yaml(DEPLOY / "compose" / "prometheus.yml")["scrape_configs"]
    (found,) = job["dns_sd_configs"]
    assert set(found["names"]) <= set(SERVICES)
    assert found["port"] == daemon_settings(monkeypatch).admin.port
    (source,) = yaml(DEPLOY / "compose" / "grafana" / "datasources.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in SERVICES


# Kubernetes

KUSTOMIZATION = yaml(KUBERNETES / "kustomization.yaml")
RESOURCES: dict[str, Any] = {
    found["kind"]: found for found in (yaml(KUBERNETES / name) for name in KUSTOMIZATION["resources"])
}
DEPLOYMENT = RESOURCES["Deployment"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.fixture
def pod_settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What the pods are configured with."""
    return settings_of(KUBERNETES / "orders.yaml", monkeypatch, DATABASE_URL=SECRET)


def test_pods_are_configured_by_a_file_and_get_secrets_from_the_environment() -> None:
    """The ConfigMap is mounted where the command looks, the Secret gives the variables, the image is this version."""
    (made,) = KUSTOMIZATION["configMapGenerator"]
    (file,) = made["files"]
    (mount,) = CONTAINER["volumeMounts"]
    (volume,) = POD["volumes"]
    assert CONTAINER["args"] == ["run", f"{mount['mountPath']}/{file.partition('=')[0]}"]
    assert mount["readOnly"]
    assert (volume["name"], volume["configMap"]["name"]) == (mount["name"], made["name"])
    assert CONTAINER["envFrom"] == [{"secretRef": {"name": "microbatch"}}]
    (image,) = KUSTOMIZATION["images"]
    assert (image["name"], image["newTag"]) == (CONTAINER["image"], __version__)
    files = {path.name for path in KUBERNETES.iterdir() if path.is_file()}
    assert files == {"kustomization.yaml", file.partition("=")[2], *KUSTOMIZATION["resources"]}


def test_pods_have_no_privilege() -> None:
    """They satisfy the `restricted` Pod Security Standard, and more: no token, and a file system to read only."""
    whole, own = POD["securityContext"], CONTAINER["securityContext"]
    assert whole["runAsNonRoot"]
    assert f"{whole['runAsUser']}:{whole['runAsGroup']}" == last("USER")
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & POD.keys()
    assert CONTAINER["resources"]["limits"]["memory"]
    assert CONTAINER["resources"]["requests"].keys() == {"cpu", "memory"}


def test_pods_are_probed_where_they_listen_and_may_finish_their_drain(pod_settings: Settings) -> None:
    """Alive decides on restarts, ready on nothing but readiness; the grace period is longer than the drain."""
    (port,) = CONTAINER["ports"]
    assert pod_settings.admin.host == "0.0.0.0"
    assert port["containerPort"] == pod_settings.admin.port
    paths = {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    for probe, path in paths.items():
        assert CONTAINER[probe]["httpGet"] == {"path": path, "port": port["name"]}
    assert_waits_for_the_drain(POD["terminationGracePeriodSeconds"], pod_settings)


def test_every_selector_finds_the_pods(pod_settings: Settings) -> None:
    """Deployment, Service, budget and monitor mean the same pods, and never all pods of the namespace."""
    assert DEPLOYMENT["template"]["metadata"]["labels"] == NAME
    assert RESOURCES["Service"]["spec"]["selector"] == NAME
    for kind in ("Deployment", "PodDisruptionBudget", "ServiceMonitor"):
        assert RESOURCES[kind]["spec"]["selector"] == {"matchLabels": NAME}
    (labels,) = KUSTOMIZATION["labels"]
    assert labels["pairs"] == NAME  # which the Service gets, for the monitor to find it
    (served,) = RESOURCES["Service"]["spec"]["ports"]
    (scraped,) = RESOURCES["ServiceMonitor"]["spec"]["endpoints"]
    assert (served["name"], served["port"]) == (scraped["port"], pod_settings.admin.port)
    assert served["targetPort"] == CONTAINER["ports"][0]["name"]


def test_keda_scales_by_the_lag_of_the_configured_group(pod_settings: Settings) -> None:
    """The trigger names the daemon's own brokers, group and topic, and nothing else sets the replicas."""
    scaled = RESOURCES["ScaledObject"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == RESOURCES["Deployment"]["metadata"]["name"]
    assert "replicas" not in DEPLOYMENT
    assert 1 <= scaled["minReplicaCount"] <= scaled["maxReplicaCount"]
    (trigger,) = scaled["triggers"]
    told = trigger["metadata"]
    assert told["bootstrapServers"] == pod_settings.kafka["bootstrap.servers"]
    assert told["consumerGroup"] == pod_settings.kafka["group.id"]
    assert [told["topic"]] == pod_settings.topics
    assert told["offsetResetPolicy"] == pod_settings.start
    assert int(told["lagThreshold"]) > pod_settings.batch.max_records
    assert all(isinstance(value, str) for value in told.values())


def test_a_disruption_takes_one_pod_at_a_time_and_an_outage_blocks_no_drain() -> None:
    """Nodes can be drained with a single replica, and while no pod is ready."""
    budget = RESOURCES["PodDisruptionBudget"]["spec"]
    assert (budget["maxUnavailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert DEPLOYMENT["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_the_alerts_of_a_cluster_are_those_of_prometheus() -> None:
    """Made of that file, rule by rule; the Service gives scrapes the name of the job that they ask for."""
    assert RESOURCE.read_text() == resource(), "alerts.yml has changed: `make docs` makes the PrometheusRule of it"
    rule, kustomization = yaml(RESOURCE), yaml(RESOURCE.parent / "kustomization.yaml")
    assert (rule["kind"], rule["spec"]) == ("PrometheusRule", yaml(DEPLOY / "prometheus" / "alerts.yml"))
    assert kustomization["resources"] == [RESOURCE.name]
    assert "microbatch" in RESOURCES["Service"]["metadata"]["name"]


def built(folder: Path) -> dict[str, Any]:
    """What kustomize makes of a folder, by kind."""
    command = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
    made = subprocess.run([*command, folder], check=True, capture_output=True, text=True).stdout
    return {found["kind"]: found for found in YAML(typ="safe", pure=True).load_all(made)}


needs_kustomize = pytest.mark.skipif(
    not (shutil.which("kustomize") or shutil.which("kubectl")), reason="neither kustomize nor kubectl is installed"
)


@needs_kustomize
def test_kustomize_builds_what_is_here() -> None:
    """Every resource comes out, and the pods mount the ConfigMap by the name that its content gave it."""
    made = built(KUBERNETES)
    assert made.keys() == {*RESOURCES, "ConfigMap"}
    (volume,) = made["Deployment"]["spec"]["template"]["spec"]["volumes"]
    assert volume["configMap"]["name"] == made["ConfigMap"]["metadata"]["name"] != "microbatch-config"
    assert made["ConfigMap"]["data"] == {"config.yaml": (KUBERNETES / "orders.yaml").read_text()}
    assert built(KUBERNETES / "alerts").keys() == {"PrometheusRule"}


@needs_kustomize
def test_another_pipeline_is_the_overlay_of_the_readme(tmp_path: Path) -> None:
    """Its namespace, configuration, group and topic replace the sample's, and nothing of the sample is left."""
    shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    overlay = tmp_path / "payments"
    overlay.mkdir()
    shown = re.search(r"<!-- overlay -->\n```yaml\n(.*?)```", (DEPLOY / "README.md").read_text(), re.DOTALL)
    assert shown
    (overlay / "kustomization.yaml").write_text(shown[1])
    (overlay / "config.yaml").write_text("topics: [payments]\n")
    made = built(overlay)
    assert {found["metadata"]["namespace"] for found in made.values()} == {"payments"}
    assert made["ConfigMap"]["data"] == {"config.yaml": "topics: [payments]\n"}
    told = made["ScaledObject"]["spec"]["triggers"][0]["metadata"]
    assert (told["topic"], told["consumerGroup"]) == ("payments", "payments")


# systemd


def directives() -> dict[str, str]:
    """Of the unit; of those that are there several times the last."""
    pairs = (line.split("=", 1) for line in UNIT.read_text().splitlines() if re.match(r"[A-Z]\w*=", line))
    return {name: value for name, value in pairs}


def test_the_unit_starts_again_what_may_mend_and_gives_the_drain_its_time() -> None:
    """Exit 2 (configuration) stays down; stopping waits longer than the drain's default."""
    unit = directives()
    assert (unit["Restart"], unit["RestartPreventExitStatus"], unit["StartLimitIntervalSec"]) == (
        "on-failure",
        "2",
        "0",
    )
    grace = Settings.model_fields["shutdown_grace_ms"].default / 1000
    assert int(unit["TimeoutStopSec"]) > grace + DRAIN_MARGIN
    assert unit["ExecStart"].split()[1:] == ["run", "/etc/microbatch/%i.yaml"]
    assert unit["EnvironmentFile"] == "-/etc/microbatch/%i.env"
    assert (unit["Type"], int(unit["WatchdogSec"]) > ALIVE_SECONDS) == ("notify", True)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
@pytest.mark.parametrize("judgement", [["verify"], ["security", "--offline=yes", "--threshold=20"]])
def test_systemd_takes_the_unit_and_finds_it_confined(tmp_path: Path, judgement: list[str]) -> None:
    """No unknown directive, and an exposure of at most 2.0 of 10; nothing is said of a unit that is well."""
    instance = tmp_path / "microbatch@orders.service"
    program = directives()["ExecStart"].split()[0]
    instance.write_text(UNIT.read_text().replace(program, shutil.which("true") or "/bin/true"))
    result = subprocess.run(["systemd-analyze", *judgement, instance], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")

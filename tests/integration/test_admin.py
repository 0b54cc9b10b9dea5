"""HTTP for probes and Prometheus."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from consumer.admin import CONTROL_HEADER, AdminServer
from consumer.errors import ConfigError
from consumer.health import Health
from consumer.metrics import Metrics

STATES = {"health": Health(True, True, "records are written as they come")}
RESUMED: list[bool] = []
CONTROL = {CONTROL_HEADER: "1"}


def listening(host: str, port: int = 0) -> AdminServer:
    metrics = Metrics()
    metrics.count("records_consumed", 5, topic="t")
    return AdminServer(
        host, port, metrics.registry, lambda: STATES["health"], lambda: {"state": "running"}, RESUMED.append
    )


@pytest.fixture
def server() -> Iterator[AdminServer]:
    RESUMED.clear()
    made = listening("127.0.0.1")
    made.start()
    yield made
    made.stop()


def ask(server: AdminServer, path: str, method: str = "GET", headers: dict[str, str] | None = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path, headers=headers or {})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found


def test_metrics_are_what_prometheus_reads(server: AdminServer) -> None:
    """In its text format."""
    status, body = ask(server, "/metrics")
    families = {family.name: family for family in text_string_to_metric_families(body)}
    assert status == 200
    assert families["microbatch_records_consumed"].samples[0].value == 5


@pytest.mark.parametrize(
    ("health", "live", "ready"),
    [
        (Health(True, True, "well"), 200, 200),
        (Health(True, False, "the database is away"), 200, 503),
        (Health(False, False, "stuck"), 503, 503),
    ],
)
def test_probes_answer_by_state_with_the_reason(server: AdminServer, health: Health, live: int, ready: int) -> None:
    """So that an orchestrator restarts only what a restart cures."""
    STATES["health"] = health
    assert ask(server, "/livez") == (live, f"{health.reason}\n")
    assert ask(server, "/readyz") == (ready, f"{health.reason}\n")


def test_the_status_is_json(server: AdminServer) -> None:
    """For people and programs."""
    assert json.loads(ask(server, "/status")[1]) == {"state": "running"}


def test_resume_tells_the_daemon(server: AdminServer) -> None:
    """Once for each request; `accept` only where it is said."""
    assert ask(server, "/resume", "POST", CONTROL)[0] == 202
    assert ask(server, "/resume?accept", "POST", CONTROL)[0] == 202
    assert ask(server, "/resume?all", "POST", CONTROL)[0] == 400
    assert RESUMED == [False, True]


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {}),
        ("GET", CONTROL),
        ("OPTIONS", CONTROL | {"Origin": "https://evil.example"}),
        ("POST", CONTROL | {"Host": "evil.example"}),
        ("POST", CONTROL | {"Host": "127.0.0.1.evil.example:9464"}),
    ],
    ids=["no header", "by GET", "preflight", "another name", "a name like ours"],
)
def test_no_request_of_another_site_gets_through(server: AdminServer, method: str, headers: dict[str, str]) -> None:
    """What a browser can be made to send is not enough."""
    assert ask(server, "/resume", method, headers)[0] in (403, 404, 405)
    assert RESUMED == []


def test_beyond_loopback_nothing_can_be_changed() -> None:
    """Whoever can reach the port could."""
    server = listening("0.0.0.0")
    server.start()
    try:
        assert ask(server, "/resume", "POST", CONTROL)[0] == 403
    finally:
        server.stop()
    assert RESUMED == []


def test_nothing_else_is_there_and_nothing_else_can_be_changed(server: AdminServer) -> None:
    """Unknown paths are 404, other methods 405."""
    assert ask(server, "/")[0] == 404
    assert ask(server, "/metrics", "POST")[0] == 405
    assert ask(server, "/metrics", "DELETE")[0] == 405


def test_idle_connections_do_not_keep_others_out(server: AdminServer) -> None:
    """A hundred sockets that say nothing cost the answer nothing."""
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    try:
        assert ask(server, "/metrics")[0] == 200
    finally:
        for connection in idle:
            connection.close()


def test_a_port_in_use_is_said(server: AdminServer) -> None:
    """With the setting, the port and what to do."""
    with pytest.raises(ConfigError, match=rf"admin\.port: .*{server.port}.*choose another"):
        listening("127.0.0.1", server.port)

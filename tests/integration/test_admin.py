"""HTTP for probes and Prometheus."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator

import pytest
from prometheus_client.parser import text_string_to_metric_families

from consumer.admin import AdminServer
from consumer.errors import ConfigError
from consumer.health import Health
from consumer.metrics import Metrics

STATES = {"health": Health(True, True, "records are written as they come")}


@pytest.fixture
def server() -> Iterator[AdminServer]:
    metrics = Metrics()
    metrics.count("records_consumed", 5, topic="t")
    made = AdminServer("127.0.0.1", 0, metrics.registry, lambda: STATES["health"])
    made.start()
    yield made
    made.stop()


def ask(server: AdminServer, path: str, method: str = "GET") -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, path)
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


def test_nothing_else_is_there_and_nothing_can_be_changed(server: AdminServer) -> None:
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
        AdminServer("127.0.0.1", server.port, Metrics().registry, lambda: STATES["health"])

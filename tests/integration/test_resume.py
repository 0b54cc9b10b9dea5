"""`resume` and `status`: commands that ask the running daemon."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from consumer import control
from consumer.admin import AdminServer
from consumer.config import load
from consumer.errors import ConfigError, FatalError, UnavailableError
from consumer.health import Health
from consumer.metrics import Metrics
from tests.command import microbatch
from tests.services.kafka import free_ports

STATUS: dict[str, Any] = {
    "state": "held",
    "reason": "more than 500 records in a row are at fault",
    "records": {"consumed": 1200, "dead_lettered": 3, "in_flight": 697},
    "dead_letters_pending": 3,
    "partitions": {
        "orders/0": {"phase": "owned", "next_offset": 500, "end": 1200, "paused": True, "reason": ""},
        "orders/1": {"phase": "held", "next_offset": None, "end": None, "paused": True, "reason": "a gap"},
    },
    "dead_letters": {
        "orders, write, 23514": {
            "count": 3,
            "reason": "Check violation",
            "last": {"topic": "orders", "partition": 0, "offset": 17},
        }
    },
    "events": [],
}


@pytest.fixture
def resumed() -> list[bool]:
    """What the daemon was told."""
    return []


@pytest.fixture
def daemon(resumed: list[bool]) -> Iterator[AdminServer]:
    """The part of one that answers."""
    health = Health(True, False, "held")
    server = AdminServer("127.0.0.1", 0, Metrics().registry, lambda: health, lambda: STATUS, resumed.append)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Path]:
    """Makes a file with these settings of `admin`."""

    def write(**admin: Any) -> Path:
        file = tmp_path / "config.yaml"
        file.write_text(
            "kafka: {bootstrap.servers: 'none:1', group.id: g}\ntopics: [orders]\nformat: json\n"
            f"sink: {{dsn: 'sqlite:///none.db'}}\nadmin: {json.dumps(admin)}\n"
        )
        return file

    return write


@pytest.mark.parametrize("accept", [False, True])
def test_resume_reaches_the_daemon(
    daemon: AdminServer, resumed: list[bool], config: Callable[..., Path], accept: bool
) -> None:
    """Exit 0, its answer is printed, and it was told once."""
    done = microbatch("resume", config(port=daemon.port), *(["--accept"] if accept else []))
    assert (done.returncode, done.stdout, done.stderr) == (0, "what is held is tried again now\n", "")
    assert resumed == [accept]


def test_status_is_printed(daemon: AdminServer, config: Callable[..., Path]) -> None:
    """For people, and as the daemon gave it."""
    done = microbatch("status", config(port=daemon.port))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "held: more than 500 records in a row are at fault",
        "records: 1,200 consumed, 3 dead lettered, 697 in flight",
        "dead letters pending: 3",
        "orders/0: owned, next 500, end 1200",
        "orders/1: held, next not known, end not known (a gap)",
        "3 dead letters orders, write, 23514: Check violation (last: orders/0/17)",
    ]
    assert json.loads(microbatch("status", config(port=daemon.port), "--json").stdout) == STATUS


def test_an_address_for_all_is_asked_on_loopback(daemon: AdminServer, config: Callable[..., Path]) -> None:
    """`0.0.0.0` is where to listen, not where to ask."""
    assert control.status(load(config(host="0.0.0.0", port=daemon.port))) == STATUS


def test_nobody_there_is_said(config: Callable[..., Path]) -> None:
    """Exit 1, with the address and what to look at."""
    (port,) = free_ports(1)
    done = microbatch("resume", config(port=port))
    assert done.returncode == 1
    assert f"no daemon answers at 127.0.0.1 port {port} (Connection refused): is it running" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("admin", "field"), [({"enabled": False}, r"admin\.enabled"), ({"port": 0}, r"admin\.port: .*set one")]
)
def test_a_daemon_that_cannot_be_found_is_said(config: Callable[..., Path], admin: dict[str, Any], field: str) -> None:
    """The setting is named."""
    with pytest.raises(ConfigError, match=field):
        control.resume(load(config(**admin)), accept=False)


def other(status: int, body: bytes) -> HTTPServer:
    """Another program, which answers all the same."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    return HTTPServer(("127.0.0.1", 0), Handler)


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (403, b"only on loopback", "the daemon refuses: only on loopback"),
        (404, b"", "answers 404 to GET /status"),
        (200, b"<html>", "not microbatch"),
        (200, b"[1]", "not microbatch"),
        (200, b"\xff", "not microbatch"),
    ],
)
def test_other_answers_are_told(config: Callable[..., Path], status: int, body: bytes, words: str) -> None:
    """What the daemon refuses in its own words; and that something else may listen there."""
    server = other(status, body)
    thread = Thread(target=server.handle_request)
    thread.start()
    try:
        with pytest.raises(FatalError, match=words):
            control.status(load(config(port=server.server_port)))
    finally:
        thread.join()
        server.server_close()


def test_one_that_breaks_off_is_no_daemon(config: Callable[..., Path]) -> None:
    """As if nobody were there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            connection.recv(1)
            connection.close()

        thread = Thread(target=answer)
        thread.start()
        with pytest.raises(UnavailableError, match="is it running"):
            control.status(load(config(port=listener.getsockname()[1])))
        thread.join()

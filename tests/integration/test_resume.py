"""`status`, `pause`, `resume` and `set`: commands that ask the running daemon."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator, Sequence
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
        "orders/0": {"phase": "owned", "next_offset": 500, "end": 1200, "paused": "", "reason": ""},
        "orders/1": {"phase": "held", "next_offset": None, "end": None, "paused": "held", "reason": "a gap"},
        "orders/2": {"phase": "paused", "next_offset": 7, "end": 9, "paused": "operator", "reason": ""},
    },
    "dead_letters": {
        "orders, write, 23514": {
            "count": 3,
            "reason": "Check violation",
            "last": {"topic": "orders", "partition": 0, "offset": 17},
        }
    },
    "events": [],
    "changed": {"batch.max_records": {"configured": 5000, "now": 100}},
    "needs_restart": ["topics", "sink.dsn"],
}
Asked = tuple[str, list[tuple[str, str]]]
TOKEN = "0123456789abcdef"


@pytest.fixture
def asked() -> list[Asked]:
    """What the daemon was asked."""
    return []


@pytest.fixture
def daemon(asked: list[Asked]) -> Iterator[AdminServer]:
    """The part of one that answers."""
    yield from answering(asked)


@pytest.fixture
def guarded(asked: list[Asked]) -> Iterator[AdminServer]:
    """One that wants TOKEN."""
    yield from answering(asked, TOKEN)


def answering(asked: list[Asked], token: str = "") -> Iterator[AdminServer]:
    health = Health(True, False, "held")

    def told(name: str) -> Callable[[Sequence[tuple[str, str]]], str]:
        def command(pairs: Sequence[tuple[str, str]]) -> str:
            if ("target", "orders/9") in pairs:
                raise ConfigError("target", "orders/9", "is not paused")
            asked.append((name, list(pairs)))
            return f"{name} is done"

        return command

    commands = {f"/{name}": told(name) for name in ("pause", "resume", "set")}
    server = AdminServer(
        "127.0.0.1", 0, Metrics().registry, lambda: health, {"/status": lambda: STATUS}, commands, token
    )
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


@pytest.mark.parametrize(
    ("arguments", "name", "pairs"),
    [
        (["resume", ...], "resume", []),
        (["resume", ..., "--accept"], "resume", [("accept", "")]),
        (["resume", ..., "orders/3", "orders"], "resume", [("target", "orders/3"), ("target", "orders")]),
        (["pause", ...], "pause", []),
        (["pause", ..., "orders/3"], "pause", [("target", "orders/3")]),
        (["set", ..., "batch.max_bytes=2MiB"], "set", [("batch.max_bytes", "2MiB")]),
    ],
)
def test_a_command_reaches_the_daemon(
    daemon: AdminServer,
    asked: list[Asked],
    config: Callable[..., Path],
    arguments: list[Any],
    name: str,
    pairs: list[tuple[str, str]],
) -> None:
    """Exit 0, its answer is printed, and it was told once."""
    file = config(port=daemon.port)
    done = microbatch(*[file if argument is ... else argument for argument in arguments])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{name} is done\n", "")
    assert asked == [(name, pairs)]


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["pause", ..., "payments"], 2, "target: is not read here; `topics` has orders (got 'payments')"),
        (["pause", ..., "orders/x"], 2, "target: must be a topic (`orders`) or a partition (`orders/3`)"),
        (["resume", ..., "orders", "--accept"], 2, "--accept: is about everything that is held"),
        (["resume", ..., "orders/9"], 1, "the daemon refuses: target: is not paused"),
        (["set", ..., "batch.max_records"], 2, "set: must be `setting=value`"),
        (["set", ..., "batch.max_records=1", "batch.max_records=2"], 2, "set: must be `setting=value`, and each"),
        (["set", ..., "batch.max_records=0"], 2, "batch.max_records: must be at least 1 (got '0')"),
        (["set", ..., "batch.max_rows=1"], 2, "cannot be changed while the daemon runs; did you mean"),
        (["set", ..., "topics=x"], 2, "topics: cannot be changed while the daemon runs; there are batch.max_records"),
    ],
)
def test_what_makes_no_sense_is_said(
    daemon: AdminServer, asked: list[Asked], config: Callable[..., Path], arguments: list[Any], code: int, words: str
) -> None:
    """With what to do instead, and nothing is changed."""
    file = config(port=daemon.port)
    done = microbatch(*[file if argument is ... else argument for argument in arguments])
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert asked == []


def test_a_token_opens_what_asks_for_it(guarded: AdminServer, asked: list[Asked], config: Callable[..., Path]) -> None:
    """The one of the file; another is refused, with what to do, and never shown."""
    settings = load(config(port=guarded.port, token=TOKEN))
    assert control.pause(settings, []) == "pause is done"
    assert control.status(settings) == STATUS
    for admin in ({}, {"token": TOKEN[::-1]}):
        with pytest.raises(FatalError, match="asked for") as refused:
            control.pause(load(config(port=guarded.port, **admin)), [])
        assert "admin.token" in refused.value.hint
        assert TOKEN[::-1] not in str(refused.value)
    assert asked == [("pause", [])]


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
        "orders/2: paused, next 7, end 9 (paused by an operator)",
        "3 dead letters orders, write, 23514: Check violation (last: orders/0/17)",
        "batch.max_records: 100, by `microbatch set`; configured 5000",
        "changed in the file, and waiting for a restart: topics, sink.dsn",
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
        control.resume(load(config(**admin)))


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

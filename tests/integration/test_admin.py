"""HTTP for probes, Prometheus, people and their commands."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from consumer.admin import CONTROL_HEADER, AdminServer
from consumer.errors import ConfigError
from consumer.health import Health
from consumer.metrics import Metrics
from tests.faults.waiting import until

STATES = {"health": Health(True, True, "records are written as they come")}
ASKED: list[list[tuple[str, str]]] = []
CONTROL = {CONTROL_HEADER: "1"}
TOKEN = "0123456789abcdef-canary"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


def told(asked: Sequence[tuple[str, str]]) -> str:
    """Stands for a command; there is one thing that it does not take."""
    if ("all", "") in asked:
        raise ConfigError("all", None, "is not known")
    ASKED.append(list(asked))
    return "done"


DOCUMENTS = {"/status": lambda: {"state": "running"}, "/history": lambda: [1, 2]}


def listening(
    host: str, port: int = 0, token: str = "", documents: Mapping[str, Callable[[], Any]] = DOCUMENTS
) -> AdminServer:
    metrics = Metrics()
    metrics.count("records_consumed", 5, topic="t")
    commands = {"/resume": told, "/set": told}
    return AdminServer(host, port, metrics.registry, lambda: STATES["health"], documents, commands, token)


@pytest.fixture
def server() -> Iterator[AdminServer]:
    ASKED.clear()
    made = listening("127.0.0.1")
    made.start()
    yield made
    made.stop()


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])
def guarded(request: pytest.FixtureRequest) -> Iterator[AdminServer]:
    """One with a token."""
    ASKED.clear()
    made = listening(request.param, token=TOKEN)
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


def test_documents_are_json(server: AdminServer) -> None:
    """For people and programs."""
    assert json.loads(ask(server, "/status")[1]) == {"state": "running"}
    assert json.loads(ask(server, "/history")[1]) == [1, 2]


def test_a_command_is_given_what_was_asked(server: AdminServer) -> None:
    """Once for each request, in its order; what it does not take is said with 400."""
    assert ask(server, "/resume", "POST", CONTROL) == (202, "done\n")
    assert ask(server, "/resume?accept", "POST", CONTROL)[0] == 202
    assert ask(server, "/set?a.b=1&c=%2F&c=", "POST", CONTROL)[0] == 202
    assert ask(server, "/resume?all", "POST", CONTROL) == (400, "all: is not known\n")
    assert ask(server, f"/set?{'&'.join(['a=1'] * 101)}", "POST", CONTROL)[0] == 400
    assert ASKED == [[], [("accept", "")], [("a.b", "1"), ("c", "/"), ("c", "")]]


FOREIGN = [
    ("POST", {}),
    ("GET", CONTROL),
    ("OPTIONS", CONTROL | {"Origin": "https://evil.example"}),
    ("POST", CONTROL | {"Origin": "https://evil.example"}),
    ("POST", CONTROL | {"Origin": "null"}),
    ("POST", CONTROL | {"Origin": "http://127.0.0.1:1"}),
]
FOREIGN_NAMES = ["no header", "by GET", "preflight", "another site", "a sandbox", "another port"]


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        *FOREIGN,
        ("POST", CONTROL | {"Host": "evil.example"}),
        ("POST", CONTROL | {"Host": "evil.example", "Origin": "http://evil.example"}),
        ("POST", CONTROL | {"Host": "127.0.0.1.evil.example:9464"}),
    ],
    ids=[*FOREIGN_NAMES, "another name", "a rebound name", "a name like ours"],
)
def test_no_request_of_another_site_gets_through(server: AdminServer, method: str, headers: dict[str, str]) -> None:
    """What a browser can be made to send is not enough."""
    assert ask(server, "/resume", method, headers)[0] in (403, 404, 405)
    assert ASKED == []


@pytest.mark.parametrize(("method", "headers"), FOREIGN, ids=FOREIGN_NAMES)
def test_nor_does_one_with_the_token(guarded: AdminServer, method: str, headers: dict[str, str]) -> None:
    """Whoever knows it may still be led by a page."""
    assert ask(guarded, "/resume", method, headers | BEARER)[0] in (403, 404, 405)
    assert ASKED == []


def test_a_page_of_another_name_cannot_read_the_status(server: AdminServer) -> None:
    """Not by a name that was made to point here."""
    assert ask(server, "/status", headers={"Host": "evil.example"})[0] == 403
    assert ask(server, "/status", headers={"Host": f"localhost:{server.port}"})[0] == 200


def test_beyond_loopback_nothing_can_be_changed_without_a_token() -> None:
    """Whoever can reach the port could."""
    ASKED.clear()
    server = listening("0.0.0.0")
    server.start()
    try:
        status, text = ask(server, "/resume", "POST", CONTROL)
    finally:
        server.stop()
    assert status == 403
    assert "set admin.token" in text
    assert ASKED == []


@pytest.mark.parametrize(
    "given",
    ["", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ", f"Basic {TOKEN}", TOKEN, "Bearer \xff"],
    ids=["none", "longer", "shorter", "empty", "another scheme", "no scheme", "not ASCII"],
)
def test_a_wrong_token_opens_nothing(guarded: AdminServer, given: str) -> None:
    """Neither commands nor documents; and the answer does not repeat it."""
    for path, method in (("/resume", "POST"), ("/status", "GET"), ("/history", "GET")):
        status, text = ask(guarded, path, method, CONTROL | {"Authorization": given})
        assert status == 401
        assert TOKEN not in text
    assert ASKED == []


def test_the_token_opens_commands_and_documents_from_anywhere(guarded: AdminServer) -> None:
    """By whatever name it is asked."""
    elsewhere = BEARER | {"Host": "orders.example:9464"}
    assert ask(guarded, "/resume", "POST", CONTROL | elsewhere)[0] == 202
    assert ask(guarded, "/status", headers=elsewhere)[0] == 200
    assert ASKED == [[]]


@pytest.mark.parametrize("path", ["/metrics", "/livez", "/"])
def test_metrics_probes_and_the_empty_page_need_no_token(guarded: AdminServer, path: str) -> None:
    """Prometheus and orchestrators have none; the page shows nothing until it is given one."""
    STATES["health"] = Health(True, True, "well")
    assert ask(guarded, path)[0] == 200


def test_nothing_else_is_there_and_nothing_else_can_be_changed(server: AdminServer) -> None:
    """Unknown paths are 404, other methods 405."""
    assert ask(server, "/pages")[0] == 404
    assert ask(server, "/../page.html")[0] == 404
    assert ask(server, "/metrics", "POST")[0] == 405
    assert ask(server, "/metrics", "DELETE")[0] == 405


@pytest.mark.parametrize("length", ["Content-Length: 10485760", "Transfer-Encoding: chunked"])
def test_a_large_body_is_refused_before_it_is_read(server: AdminServer, length: str) -> None:
    """10 MB are announced, and little of them is ever taken."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(f"POST /set HTTP/1.1\r\nHost: localhost\r\n{CONTROL_HEADER}: 1\r\n{length}\r\n\r\n".encode())
        if "chunked" in length:
            connection.sendall(b"800\r\n" + b"x" * 2048 + b"\r\n")
        answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert ASKED == []


def test_a_large_header_is_refused(server: AdminServer) -> None:
    """More than 8 kB of them are nobody's."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET /status HTTP/1.1\r\nX: " + b"x" * 9000)
        assert connection.recv(4096).startswith(b"HTTP/1.0 431 ")


def test_a_thousand_connections_that_say_little_keep_nobody_out(server: AdminServer) -> None:
    """The oldest of them go; threads and connections stay few, and probes are answered at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    threads = threading.active_count()
    slow: list[socket.socket] = []
    try:
        for number in range(1000):
            slow.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
            if number % 2:
                slow[-1].sendall(b"GET /status HTTP/1.1\r\nX: ")
        began = time.monotonic()
        assert ask(server, "/livez")[0] in (200, 503)
        assert ask(server, "/metrics")[0] == 200
        assert time.monotonic() - began < 1
        assert threading.active_count() <= threads
        assert server._server.connections <= 250
    finally:
        for connection in slow:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_who_asks_and_never_reads_keeps_nobody_out(server: AdminServer) -> None:
    """A scrape that hangs costs its own connection."""
    hanging = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(50)]
    try:
        for connection in hanging:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
        began = time.monotonic()
        assert ask(server, "/metrics")[0] == 200
        assert time.monotonic() - began < 5
    finally:
        for connection in hanging:
            connection.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of patience with those that say or read nothing."""
    monkeypatch.setattr("consumer.port._PATIENCE_SECONDS", 0.5)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("said", [b"", b"GET /livez HTTP/1.1\r\nX: "], ids=["nothing", "too little"])
def test_who_does_not_ask_in_time_is_told_so(server: AdminServer, said: bytes) -> None:
    """A byte now and then does not help."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(said)
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")
        assert connection.recv(4096) == b""


def test_who_must_go_for_others_is_told_to_come_again(server: AdminServer) -> None:
    """The first that came, when one more than 200 has not asked for anything."""
    with ExitStack() as ends:
        waiting = [
            ends.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10)) for _ in range(201)
        ]
        told = waiting[0].recv(4096)
    assert told.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in told


@pytest.mark.usefixtures("impatient")
def test_who_asks_again_and_again_and_reads_nothing_is_cut_off() -> None:
    """No more of it is made than the one answer that has not been read."""
    made: list[str] = []

    def large() -> str:
        made.append("x" * 20_000_000)  # more than the system takes
        return made[-1]

    server = listening("127.0.0.1", documents={"/status": large})
    server.start()
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
            connection.sendall(b"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
            until(lambda: len(made) == 1, "it is asked")
            until(lambda: server._server.connections == 0, "it is cut off")
        assert len(made) == 1
    finally:
        server.stop()


def test_those_who_ask_at_the_same_time_are_given_the_same() -> None:
    """It is made once for all that have come."""
    made: list[int] = []

    def numbered() -> int:
        made.append(len(made))
        return made[-1]

    server = listening("127.0.0.1", documents={"/status": numbered})
    with ExitStack() as ends:
        connections = [
            ends.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=10)) for _ in range(20)
        ]
        for connection in connections:
            connection.sendall(b"GET /status HTTP/1.0\r\nHost: localhost\r\n\r\n")
        server.start()
        ends.callback(server.stop)
        answers = {b"".join(iter(lambda: connection.recv(4096), b""))[-1:] for connection in connections}  # noqa: B023
    assert answers == {b"0"}


def test_a_flood_of_requests_gets_a_small_share_of_a_core_and_probes_an_answer() -> None:
    """Also when each answer is dear: 2 %, a tenth of a second, and the last turn."""
    ended = threading.Event()

    def dear() -> int:
        enough = time.thread_time() + 0.02
        while time.thread_time() < enough:
            pass
        return 0

    def flood() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        with closing(connection):
            while not ended.is_set():
                connection.request("GET", "/status")
                connection.getresponse().read()

    server = listening("127.0.0.1", documents={"/status": dear})
    threads = [threading.Thread(target=flood) for _ in range(5)]
    server.start()
    clock = time.pthread_getcpuclockid(server._thread.ident or 0)
    began, before = time.monotonic(), time.clock_gettime(clock)
    for thread in threads:
        thread.start()
    try:
        while time.monotonic() < began + 2:
            asked = time.monotonic()
            assert ask(server, "/livez")[0] in (200, 503)
            assert time.monotonic() - asked < 4
        used, passed = time.clock_gettime(clock) - before, time.monotonic() - began
    finally:
        ended.set()
        for thread in threads:
            thread.join()
        server.stop()
    assert used < 0.02 * passed + 0.1 + 0.05


def test_a_port_in_use_is_said(server: AdminServer) -> None:
    """With the setting, the port and what to do."""
    with pytest.raises(ConfigError, match=rf"admin\.port: .*{server.port}.*choose another"):
        listening("127.0.0.1", server.port)

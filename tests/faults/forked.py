"""Processes forked from one that has imported the daemon: to import it takes longer than most of them live."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.faults.member"])
_TURN = threading.Lock()  # to start one asks whether any has ended, and an exit code can be read but once


class Forked:
    """A function of a module, called with these arguments in a process of its own; otherwise as subprocess.Popen."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._process = _CONTEXT.Process(target=target, args=arguments)
        with _TURN:
            self._process.start()
        self.pid = self._process.pid or 0

    def poll(self) -> int | None:
        """Its exit code, minus the signal's number if one ended it; None while it lives."""
        with _TURN:
            return self._process.exitcode

    def wait(self) -> int | None:
        """Return its exit code when it has ended."""
        wait([self._process.sentinel])
        return self.poll()

    def send_signal(self, number: signal.Signals) -> None:
        """Nothing happens if it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

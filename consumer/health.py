"""Whether the daemon is well: what the probes are told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Health:
    """`alive`: no restart is needed. `ready`: records flow. `reason` is one sentence for people."""

    alive: bool
    ready: bool
    reason: str

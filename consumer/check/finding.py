"""What was found of one thing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """`message` says how the thing is, or what is wrong and what to do. `configuration`: the file is at fault."""

    subject: str
    ok: bool
    message: str
    configuration: bool = False

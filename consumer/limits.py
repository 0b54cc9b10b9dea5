"""How long things may take, and how much is borne: what the pipeline decides by."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How long things may take, in seconds.

    `write_deadline`: a claim or write, before its connection is cut. `shutdown_grace`: writing what was read, after
    `stop`. `revoke_wait`: a write of partitions that Kafka takes away. `poll`: one call for records, which delays
    signals and outcomes. `longest_delay`: between two tries during an outage, which may last for `give_up`; None: for
    ever.
    """

    write_deadline: float = 60.0
    shutdown_grace: float = 20.0
    revoke_wait: float = 10.0
    poll: float = 0.2
    longest_delay: float = 3.0
    give_up: float | None = None


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What is done about too many records at fault: `stop`, or else hold and probe again after so many seconds.

    `max_pending`: hold while more dead letters than this wait for their topics.
    """

    stop: bool = False
    probe_after: float = 300.0
    max_pending: int = 10_000

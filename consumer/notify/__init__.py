"""Who wants to know is told what happens: in threads of their own, so that nothing else waits for them.

Each target gets an event at least once or, after a few tries, not at all: this is counted, logged, and never an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any

from consumer.config import NotifySettings, Settings
from consumer.events import Event, tell
from consumer.metrics import Metrics
from consumer.notify.courier import Courier
from consumer.notify.sending import program, webhook


class Notifier:
    """Tells every courier; from any thread, without waiting."""

    def __init__(self, couriers: Sequence[Courier], prefix: str) -> None:
        self._couriers, self._prefix, self._count = couriers, prefix, 0
        for courier in couriers:
            courier.start()

    def tell(self, event: str, about: Mapping[str, Any]) -> None:
        """`about` must be JSON, and hold neither values of rows nor secrets."""
        self._count += 1
        body = json.dumps({"event": event, **about}).encode()
        for courier in self._couriers:
            courier.take(event, f"{self._prefix}-{self._count}", body)

    def close(self, seconds: float = 5.0, clock: Callable[[], float] = monotonic) -> None:
        """Deliver what waits, for at most so long; what is left then is given up, and said."""
        deadline = clock() + seconds
        for courier in self._couriers:
            courier.close()
        for courier in self._couriers:
            courier.join(max(0.0, deadline - clock()))
            if left := courier.waiting:
                tell(Event.NOTIFICATIONS_LEFT, target=courier.name, events=left)


def open_notifier(settings: Settings, metrics: Metrics, prefix: str) -> Notifier:
    """For the targets of the settings; ids of notifications begin with `prefix`."""
    return Notifier([_courier(i, target, metrics) for i, target in enumerate(settings.notify)], prefix)


def _courier(index: int, target: NotifySettings, metrics: Metrics) -> Courier:
    name = f"notify.{index}"
    if target.webhook is not None:
        secret = None if target.secret is None else target.secret.get_secret_value()
        deliver = webhook(name, target.webhook.get_secret_value(), secret)
    else:
        deliver = program(name, target.command or [])
    return Courier(name, deliver, target.events, target.min_interval_ms / 1000, metrics)

"""Brings events to one target: the newest of each kind, not too often, with a few tries."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass

from consumer.backoff import delay
from consumer.errors import FatalError, UnavailableError
from consumer.events import Event, tell
from consumer.metrics import Metrics

TRIES = 5
_BASE_SECONDS = 0.25
_LONGEST_SECONDS = 30.0
Deliver = Callable[[str, bytes], None]


@dataclass(frozen=True, slots=True)
class _Notice:
    event: str
    number: str
    body: bytes


class Courier(threading.Thread):
    """One target. Of each kind of event the newest waits, so what waits is bounded by the number of kinds.

    `deliver` gets an id, the same at each try, and the body; it raises UnavailableError (to be tried again) or
    FatalError (it never will do). `events` None: all kinds. `interval`: seconds between two of one kind, until `close`.
    """

    def __init__(
        self,
        name: str,
        deliver: Deliver,
        events: Collection[str] | None,
        interval: float,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._deliver, self._events, self._interval, self._metrics = deliver, events, interval, metrics
        self._clock, self._pause = clock, pause
        self._changed = threading.Condition()
        self._waiting: dict[str, _Notice] = {}
        self._begun: dict[str, float] = {}  # when the last of a kind was brought on its way
        self._at_work = ""
        self._closed = False
        for outcome in ("delivered", "failed", "superseded"):
            metrics.count("notifications", 0, outcome=outcome)

    def take(self, event: str, number: str, body: bytes) -> None:
        """Bring this, if it is of a kind that is wanted; from any thread, at once."""
        if self._events is not None and event not in self._events:
            return
        with self._changed:
            if self._waiting.pop(event, None):
                self._metrics.count("notifications", 1, outcome="superseded")
            self._waiting[event] = _Notice(event, number, body)
            self._changed.notify()

    def close(self) -> None:
        """No more will come: bring what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    @property
    def waiting(self) -> list[str]:
        """The kinds of events that are not delivered yet."""
        with self._changed:
            return [*filter(None, [self._at_work]), *self._waiting]

    def run(self) -> None:
        """See threading.Thread."""
        while notice := self._next():
            self._bring(notice)
            self._at_work = ""

    def _next(self) -> _Notice | None:
        with self._changed:
            while True:
                now = self._clock()
                due = {event: self._due(event, now) for event in self._waiting}
                event = min(due, key=due.__getitem__, default=None)
                if event is not None and due[event] <= now:
                    self._begun[event], self._at_work = now, event
                    return self._waiting.pop(event)
                if event is None and self._closed:
                    return None
                self._changed.wait(None if event is None else due[event] - now)

    def _due(self, event: str, now: float) -> float:
        return now if self._closed or event not in self._begun else self._begun[event] + self._interval

    def _bring(self, notice: _Notice) -> None:
        for attempt in range(1, TRIES + 1):
            try:
                self._deliver(notice.number, notice.body)
            except UnavailableError as error:
                reason, hint, wait = str(error), "", error.retry_after
            except FatalError as error:
                reason, hint, wait = str(error), error.hint, None
                break
            else:
                self._metrics.count("notifications", 1, outcome="delivered")
                return
            if attempt < TRIES:
                self._pause(delay(attempt, base=_BASE_SECONDS) if wait is None else min(wait, _LONGEST_SECONDS))
        self._metrics.count("notifications", 1, outcome="failed")
        tell(Event.NOTIFICATION_FAILED, target=self.name, about=notice.event, reason=reason, hint=hint or None)

"""What the running daemon does when an operator asks: pause, resume, set other bounds, read the file again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from consumer.batch import BatchPolicy
from consumer.config import BatchSettings, Settings
from consumer.config.changing import CHANGEABLE, changed, differences, require_target
from consumer.config.showing import masked
from consumer.errors import ConfigError
from consumer.events import Event
from consumer.steering import EVERYTHING, MAX_PAUSES, Steering
from consumer.telemetry import Telemetry

Asked = Sequence[tuple[str, str]]
TARGET = "target"


class Operations:
    """Asked from any thread. Each command answers with one sentence, or raises ConfigError that says what is wrong.

    What it is asked are pairs of a name and a value, as they stand in the query of an address. `retry` makes the loop
    try again what is held; it is given whether to accept.
    """

    def __init__(
        self, settings: Settings, steering: Steering, telemetry: Telemetry, retry: Callable[[bool], None]
    ) -> None:
        self._lock = threading.Lock()
        self._settings, self._batch = settings, settings.batch
        self._steering, self._telemetry, self._retry = steering, telemetry, retry
        self._needs_restart: list[str] = []

    def pause(self, asked: Asked) -> str:
        """Read no more of these targets, or of anything; what was read of them and not written is given back."""
        names = self._targets(asked) or {EVERYTHING}
        if len(self._steering.paused | names) > MAX_PAUSES:
            raise ConfigError(TARGET, None, f"would be one of more than {MAX_PAUSES} that are paused: pause topics")
        self._steering.pause(names)
        self._telemetry.operated(Event.PAUSED, targets=sorted(names))
        return f"paused within one batch: {_named(names)}; until it is resumed, or this process ends"

    def resume(self, asked: Asked) -> str:
        """Take up these targets again; without any, end a pause of everything and try again what is held."""
        accept = list(asked) == [("accept", "")]
        names = set() if accept else self._targets(asked)
        for name in names:
            self._require_paused(name)
        ended = self._steering.resume(names or {EVERYTHING})
        if names:
            answer = f"resumed: {_named(ended)}"
        else:
            self._retry(accept)
            answer = "what is held is tried again now"
        if ended:
            self._telemetry.operated(Event.TAKEN_UP, targets=sorted(ended))
        left = self._steering.paused
        return f"{answer}; still paused: {_named(left)}" if left else answer

    def change(self, asked: Asked) -> str:
        """Cut batches by other bounds from the next one on; see CHANGEABLE."""
        wanted = dict(asked)
        if not wanted or len(wanted) != len(asked):
            raise ConfigError("set", None, f"takes each of {', '.join(CHANGEABLE)} at most once, and one of them")
        with self._lock:
            told = self._bound(changed(self._batch, wanted), "set")
        return "; ".join(told) or "nothing to change: these are the bounds already"

    def reload(self, load: Callable[[], Settings]) -> None:
        """Take from the file what may change; log what needs a restart. A file that is wrong changes nothing."""
        try:
            fresh = load()
        except ConfigError as error:
            self._telemetry.refused_file(str(error))
            return
        with self._lock:
            self._needs_restart = [name for name in differences(self._settings, fresh) if name not in CHANGEABLE]
            self._settings = self._settings.model_copy(update={"batch": fresh.batch})
            told = self._bound(fresh.batch, "reload")
            self._telemetry.operated(Event.RELOADED, changed=told, needs_restart=self._needs_restart)

    def status(self) -> dict[str, Any]:
        """What was asked for, as JSON can hold it, and the configuration that holds now, with secrets masked."""
        with self._lock:
            values, now = self._settings.batch.model_dump(), self._batch.model_dump()
            return {
                "paused": sorted(self._steering.paused),
                "changed": {
                    f"batch.{name}": {"configured": int(values[name]), "now": int(now[name])}
                    for name in values
                    if values[name] != now[name]
                },
                "needs_restart": list(self._needs_restart),
                "configuration": masked(self._settings.model_copy(update={"batch": self._batch})),
            }

    def _bound(self, batch: BatchSettings, how: str) -> list[str]:
        before, after = self._batch.model_dump(), batch.model_dump()
        told = []
        for name, value in after.items():
            if value != before[name]:
                self._telemetry.changed(f"batch.{name}", int(before[name]), int(value), how)
                told.append(f"batch.{name}: {before[name]:d} -> {value:d}")
        self._batch = batch
        self._steering.bound(policy_of(batch))
        return told

    def _targets(self, asked: Asked) -> set[str]:
        for name, value in asked:
            if name != TARGET:
                raise ConfigError(name[:100], None, f"is not known here: give `{TARGET}=topic/partition`")
            require_target(self._settings, value)
        return {value for _, value in asked}

    def _require_paused(self, name: str) -> None:
        paused, topic = self._steering.paused, name.partition("/")[0]
        if name in paused or any(other.startswith(f"{name}/") for other in paused):
            return
        whole = next((other for other in (topic, EVERYTHING) if other in paused), None)
        if whole is None:
            raise ConfigError(TARGET, name, f"is not paused; paused are: {_named(paused) or 'none'}")
        raise ConfigError(TARGET, name, f"is paused with {_named({whole})}: resume that, and pause what shall stand")


def policy_of(batch: BatchSettings) -> BatchPolicy:
    """The bounds, as the loop takes them."""
    return BatchPolicy(batch.max_records, batch.max_bytes, batch.max_wait_ms, batch.ready_records)


def _named(names: Sequence[str] | frozenset[str] | set[str]) -> str:
    return ", ".join("everything" if name == EVERYTHING else name for name in sorted(names))

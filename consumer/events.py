"""The one list of what is logged; saying it, and not over and over. Never row values, never secrets."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Hashable
from enum import Enum
from typing import Any

import structlog

LOGGER = "microbatch"
log = structlog.get_logger(LOGGER)
REPEAT_SECONDS = 60.0
_MOST = 1000  # keys that are remembered
_NUMBER = re.compile(r"\d+")
_PLACE = ("topic", "partition")
_BATCH = ("batch", "offsets")


class Event(Enum):
    """Level, meaning, fields beside those of every line, and by which of them a line repeats another ((): by none).

    `batch` is the batch's name, as in the evidence of dead letters; `offsets` its first and last offset by partition.
    """

    STARTED = "info", "It has its tables, and joins the group.", ("version", "topics")
    SERVING = "info", "Metrics, probes and the page are answered there.", ("url", "page")
    REBALANCED = "info", "Partitions were assigned, revoked or lost (`kind`).", ("kind", "partitions")
    CLAIMED = "info", "These partitions flow, from these offsets on.", ("next_offsets",)
    FENCED = "warning", "Another instance owns these partitions; their records are dropped.", ("partitions",)
    BATCH_WRITTEN = (
        "debug",
        "A batch was committed (`--verbose`).",
        (*_BATCH, "records", "dead_letters", "trigger", "seconds"),
    )
    FIELDS_DROPPED = (
        "info",
        "No column takes these fields; each is named once, as found in one record of each batch.",
        ("topic", "fields", "hint"),
    )
    DEAD_LETTERED = (
        "warning",
        "So many `records` of a batch are dead letters for one reason; the offset is the last one's.",
        (*_PLACE, "offset", "batch", "records", "stage", "code", "reason"),
        ("topic", "stage", "code", "reason"),
    )
    DEAD_LETTERS_NOT_PUBLISHED = (
        "warning",
        "Their topic does not take dead letters; they wait in the table, and are tried again.",
        ("reason", "pending"),
        ("reason",),
    )
    DEAD_LETTER_PRODUCER_FAILED = (
        "warning",
        "A new one sends what was on its way.",
        ("reason", "in_flight"),
        ("reason",),
    )
    DEAD_LETTER_TOPICS_MISSING = "warning", "Dead letters have nowhere to go.", ("topics", "reason")
    HELD = (
        "error",
        "Nothing is written until somebody looks; with `topic` and `partition`: nothing of that partition.",
        (*_PLACE, *_BATCH, "reason", "hint"),
    )
    RESUMED = "info", "What was held is tried again: after its `time`, or by an operator.", ("by", "accepted")
    RETRY = (
        "warning",
        "The database, or Kafka, cannot serve; the same work is tried again.",
        (*_BATCH, "reason", "failures"),
        ("reason",),
    )
    DATABASE_UNAVAILABLE = "warning", "It does not answer at the start; it is waited for.", ("reason",)
    CONNECTION_CUT = "warning", "A write passed sink.write_deadline_ms.", (*_BATCH, "reason", "seconds")
    KAFKA_AWAY = "warning", "No broker can be reached.", ("reason",)
    KAFKA_BACK = "info", "The end of `kafka_away`.", ()
    COMMIT_FAILED = "warning", "Offsets did not reach Kafka; newer ones follow.", ("reason",), ("reason",)
    TROUBLE = "warning", "Something that mends itself.", ("reason",), ("reason",)
    PAUSED = "info", "An operator paused these.", ("targets",)
    TAKEN_UP = "info", "An operator ended their pause.", ("targets",)
    SETTING_CHANGED = "info", "By `set`, or by a reload.", ("setting", "before", "after", "by")
    RELOADED = "info", "The file was read again.", ("changed", "needs_restart")
    RELOAD_REFUSED = "error", "The file is wrong; what was read before stands.", ("reason", "hint")
    JOB_BEGINS = "info", "It ends at what is there now: so many offsets ahead.", ("partitions", "offsets")
    MILESTONE = (
        "info",
        "So much of a job is done; on a terminal a bar shows it instead.",
        ("done", "total", "percent", "per_second", "eta_seconds"),
    )
    JOB_WAITS = (
        "warning",
        "Nothing of a job was committed for 30 s; `left`: by partition, how far it is.",
        ("reason", "left"),
    )
    CHECKPOINTS_UNKNOWN = (
        "warning",
        "A job is done, and what is stored could not be read back for its report.",
        ("reason",),
    )
    HISTORY_NOT_WRITTEN = "warning", "The history of runs has a gap; the run itself goes on.", ("reason", "hint")
    NOTIFICATION_FAILED = (
        "warning",
        "A target of `notify` did not take an event, and is not asked again.",
        ("target", "about", "reason", "hint"),
    )
    NOTIFICATIONS_LEFT = "warning", "It ends, and these events did not reach their target.", ("target", "events")
    DRAINING = "info", "It was told to end, or its job is done: what was read is written.", ()
    STOPPED = "info", "It has left the group.", ()
    FAILED = "error", "It ends with exit code 1 or 2, because of this.", ("reason", "hint")
    CRASHED = "error", "A defect of microbatch: please report it.", ("error", "traceback")

    def __init__(self, level: str, meaning: str, fields: tuple[str, ...], repeats: tuple[str, ...] = ()) -> None:
        self.level, self.meaning, self.fields, self.repeats = level, meaning, fields, repeats

    def __str__(self) -> str:
        return self.name.lower()

    def key(self, fields: dict[str, Any]) -> Hashable:
        """Equal for lines that repeat each other, but for numbers in their reasons; None where none does."""
        if not self.repeats:
            return None
        values = fields | {"reason": without_numbers(str(fields.get("reason")))}
        return (self.name, *(values.get(name) for name in self.repeats))


def tell(event: Event, **fields: object) -> None:
    """Log it, with fields that it has; what is None is left out."""
    getattr(log, event.level)(str(event), **{name: value for name, value in fields.items() if value is not None})


def without_numbers(text: str) -> str:
    """What makes a sentence the same as another: librdkafka puts durations into its own, databases process ids."""
    return _NUMBER.sub("", text)


class Repeats:
    """Lets one of a kind through in a minute, from any thread. `clock` gives monotonic seconds.

    While a broker is away librdkafka says so twenty times a second, and an outage of an hour must not be a gigabyte.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._seen: dict[Hashable, tuple[float, int]] = {}  # when one passed last, and how many were held back since

    def passes(self, key: Hashable) -> int | None:
        """How many were held back since the last one that passed; None: this one is held back too."""
        with self._lock:
            now = self._clock()
            at, suppressed = self._seen.get(key, (-REPEAT_SECONDS, 0))
            if now - at < REPEAT_SECONDS:
                self._seen[key] = at, suppressed + 1
                return None
            self._seen.pop(key, None)  # so that the oldest come first
            self._seen[key] = now, 0
            if len(self._seen) > _MOST:
                del self._seen[next(iter(self._seen))]
            return suppressed

"""Logs: JSON lines off a terminal, key-values on one; the lines of libraries come the same way."""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Hashable
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict

from consumer.events import LOGGER, Event, Repeats, tell, without_numbers

_bound: dict[str, str] = {}


def bind(**fields: str) -> None:
    """Put these into every line from now on, whichever thread or library says it."""
    _bound.update(fields)


def configure(*, verbose: bool = False, json: bool | None = None) -> None:
    """Log to stderr from now on; `json` None: unless that is a terminal. `verbose` shows every batch.

    So are errors that nobody caught, by class and place: their text may hold a row's values.
    """
    json = not sys.stderr.isatty() if json is None else json
    renderer: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer()
    shared: list[Any] = [
        _add_bound,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    foreign = [structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder(allow=["suppressed"]), *shared]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[_place_errors, structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=foreign,
        )
    )
    handler.addFilter(RepeatFilter())
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if verbose else logging.INFO, force=True)
    logging.captureWarnings(True)
    sys.excepthook = _crashed
    threading.excepthook = lambda told: _crashed(told.exc_type, told.exc_value, told.exc_traceback)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


class RepeatFilter(logging.Filter):
    """Holds back what repeats (see events.Repeats); the next line says how many there were, as `suppressed`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._repeats = Repeats(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        if (key := _key(record)) is None:
            return True
        if suppressed := self._repeats.passes(key):
            if isinstance(record.msg, dict):
                record.msg["suppressed"] = suppressed
            else:
                record.suppressed = suppressed
        return suppressed is not None


def _key(record: logging.LogRecord) -> Hashable:
    """None: it is never held back."""
    if record.name == LOGGER and isinstance(record.msg, dict):
        return Event[record.msg["event"].upper()].key(record.msg)
    if isinstance(record.msg, dict):  # a transform's, by structlog
        return None
    return record.name, without_numbers(record.getMessage())


def _add_bound(_logger: object, _method: str, line: EventDict) -> EventDict:
    line.update(_bound)
    return line


def _place_errors(_logger: object, _method: str, line: EventDict) -> EventDict:
    """An exception that a library logs: its class and its place."""
    if (told := line.pop("exc_info", None)) and told[0] is not None:
        line.update(_placed(told[0], told[2]))
    return line


def _placed(kind: type[BaseException], place: TracebackType | None) -> dict[str, str]:
    lines = ["Traceback (most recent call last):\n", *traceback.format_tb(place)]
    return {"error": kind.__name__, "traceback": "".join(lines)}


def _crashed(kind: type[BaseException], error: BaseException | None, place: TracebackType | None) -> None:
    if issubclass(kind, Exception):
        tell(Event.CRASHED, **_placed(kind, place))
    else:
        sys.__excepthook__(kind, error or kind(), place)

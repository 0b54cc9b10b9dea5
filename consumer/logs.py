"""Logs: JSON lines off a terminal, key-values on one; librdkafka's own lines come the same way."""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import structlog

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


_REPEAT_SECONDS = 30.0
_NUMBER = re.compile(r"\d+")


class Repeats(logging.Filter):
    """Lets a line of librdkafka pass only if none of the last 30 s was the same but for numbers.

    While a broker is away it says so twenty times a second. `clock` gives monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__("kafka")
        self._clock = clock
        self._said: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        if not super().filter(record):
            return True
        now, text = self._clock(), _NUMBER.sub("", record.getMessage())
        self._said = {old: at for old, at in self._said.items() if now - at < _REPEAT_SECONDS}
        if text in self._said:
            return False
        self._said[text] = now
        return True


def configure(*, verbose: bool = False, json: bool | None = None) -> None:
    """Log to stderr from now on; `json` None: unless that is a terminal. `verbose` shows every batch."""
    json = not sys.stderr.isatty() if json is None else json
    renderer: Any = structlog.processors.JSONRenderer() if json else structlog.dev.ConsoleRenderer()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *_SHARED],
        )
    )
    handler.addFilter(Repeats())
    logging.basicConfig(handlers=[handler], level=logging.DEBUG if verbose else logging.INFO, force=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )

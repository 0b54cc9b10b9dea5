"""What reaches the log, and in which form."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from consumer import logs
from consumer.events import Event, tell


class Clock:
    """Moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def line(message: Any, name: str = "kafka") -> logging.LogRecord:
    return logging.LogRecord(name, logging.ERROR, "", 0, message, None, None)


def passed(filter_: logs.RepeatFilter, record: logging.LogRecord) -> tuple[bool, Any]:
    """Whether it passes, and how many it says were suppressed."""
    passes = filter_.filter(record)
    return passes, record.msg.get("suppressed") if isinstance(record.msg, dict) else getattr(record, "suppressed", None)


def test_what_a_library_repeats_is_said_once_a_minute() -> None:
    """Numbers change from line to line; another text, or another library, is another line."""
    clock = Clock()
    repeats = logs.RepeatFilter(clock)
    refused = "[thrd:b:9092/1]: Connection refused (after {} ms in state CONNECT)"
    told = [passed(repeats, line(refused.format(number))) for number in range(3)]
    assert told == [(True, None), (False, None), (False, None)]
    assert passed(repeats, line("Disconnected")) == (True, None)
    assert passed(repeats, line("Disconnected", "waitress")) == (True, None)
    clock.now = 61
    assert passed(repeats, line(refused.format(9))) == (True, 2)


def test_an_event_repeats_as_the_list_says() -> None:
    """By its reason, say; those of which each counts are never held back, nor are the lines of a transform."""
    repeats = logs.RepeatFilter(Clock())
    retry = {"event": "retry", "reason": "away", "failures": 1}
    told = [passed(repeats, line(dict(retry, failures=number), "microbatch"))[0] for number in range(3)]
    assert told == [True, False, False]
    assert passed(repeats, line(dict(retry, reason="locked"), "microbatch")) == (True, None)
    assert all(passed(repeats, line({"event": "started"}, "microbatch"))[0] for _ in range(3))
    assert all(passed(repeats, line({"event": "retry"}, "shop"))[0] for _ in range(3))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is written to stderr, as JSON, by a daemon of the group `shop`; all is set back at the end."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    text = io.StringIO()
    monkeypatch.setattr(sys, "stderr", text)
    monkeypatch.setattr(logs, "_bound", {})
    logs.configure(json=True)
    logs.bind(group="shop", instance="host-1")
    # What was logged through before has kept how it was configured then.
    monkeypatch.setattr("consumer.events.log", structlog.get_logger("microbatch"))
    yield text
    root.handlers[:], _, sys.excepthook, threading.excepthook = before
    root.setLevel(before[1])
    logging.captureWarnings(False)
    structlog.reset_defaults()


def lines(said: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(text) for text in said.getvalue().splitlines()]


def test_every_line_is_json_with_the_group_and_the_instance(said: io.StringIO) -> None:
    """Our own, those of libraries, and of other threads."""
    tell(Event.STARTED, topics=["orders"])
    thread = threading.Thread(target=lambda: logging.getLogger("kafka").error("Disconnected"))
    thread.start()
    thread.join()
    own, kafka = lines(said)
    assert (own["event"], own["topics"], kafka["event"], kafka["logger"]) == (
        "started",
        ["orders"],
        "Disconnected",
        "kafka",
    )
    for one in (own, kafka):
        assert (one["group"], one["instance"]) == ("shop", "host-1")
        assert {"timestamp", "level"} <= one.keys()


def test_repeats_are_counted_in_the_next_line(said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of both kinds of lines."""
    clock = Clock()
    (handler,) = [one for one in logging.getLogger().handlers if one.filters]
    handler.filters = [logs.RepeatFilter(clock)]
    for _ in range(2):
        for _ in range(3):
            tell(Event.TROUBLE, reason="away")
            logging.getLogger("kafka").error("Disconnected")
        clock.now += 60
    told = [(one["event"], one.get("suppressed")) for one in lines(said)]
    assert told == [("trouble", None), ("Disconnected", None), ("trouble", 2), ("Disconnected", 2)]


def test_an_exception_is_told_by_class_and_place(said: io.StringIO) -> None:
    """Its text may hold a row's values."""
    try:
        raise ValueError("canary")
    except ValueError as error:
        caught = error
        logging.getLogger("waitress").exception("while serving")
    sys.excepthook(ValueError, caught, caught.__traceback__)
    served, crashed = lines(said)
    assert (served["event"], served["error"]) == ("while serving", "ValueError")
    assert (crashed["event"], crashed["level"]) == ("crashed", "error")
    assert "test_logs.py" in served["traceback"]
    assert "test_logs.py" in crashed["traceback"]
    assert "ValueError: canary" not in said.getvalue()

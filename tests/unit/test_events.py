"""The list of what is logged against the code that logs."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import consumer
from consumer.events import REPEAT_SECONDS, Event, Repeats, tell

PACKAGE = Path(consumer.__file__).parent
LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}
SOURCES = {path: ast.parse(path.read_text()) for path in PACKAGE.rglob("*.py")}


class Clock:
    """Moved by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@functools.cache
def calls() -> list[tuple[Path, ast.Call]]:
    return [(path, node) for path, tree in SOURCES.items() for node in ast.walk(tree) if isinstance(node, ast.Call)]


def event_of(call: ast.Call) -> Event | None:
    """The one that is given to this call, as its first argument."""
    match call.args[:1]:
        case [ast.Attribute(value=ast.Name(id="Event"), attr=name)]:
            return Event[name]
    return None


def test_everything_that_is_logged_is_on_the_list() -> None:
    """Nobody logs but by `tell`, with an event of the list, or from where such a one was given."""
    elsewhere = [
        (path.name, call.lineno)
        for path, call in calls()
        if path.name != "events.py" and isinstance(call.func, ast.Attribute)
        if call.func.attr == "get_logger"
        or (call.func.attr in LEVELS and ast.unparse(call.func.value) in ("log", "logging"))
    ]
    assert elsewhere == []
    told = [
        ast.unparse(call.args[0])
        for _, call in calls()
        if isinstance(call.func, ast.Name) and call.func.id == "tell" and event_of(call) is None
    ]
    assert told == ["event", "event"]  # operated and _tell of the telemetry, whose callers give it


def test_every_event_of_the_list_is_logged() -> None:
    """What is not would mislead who reads the list."""
    assert {event_of(call) for _, call in calls()} >= set(Event)


def test_each_line_has_fields_of_its_event_only() -> None:
    """Those that are given by name; a repeat is told by fields that it has."""
    for path, call in calls():
        if (event := event_of(call)) and not (isinstance(call.func, ast.Attribute) and call.func.attr == "_note"):
            given = {keyword.arg for keyword in call.keywords if keyword.arg}
            assert given <= set(event.fields), f"{path.name}:{call.lineno}"
    for event in Event:
        assert set(event.repeats) <= set(event.fields)
        assert event.level in LEVELS


def test_a_line_repeats_another_but_for_numbers() -> None:
    """Those in reasons; a topic or a code is another one if its number is."""
    late = {"reason": "no answer for 5 s", "failures": 1}
    assert Event.RETRY.key(late) == Event.RETRY.key({"reason": "no answer for 35 s", "failures": 9})
    assert Event.RETRY.key(late) != Event.RETRY.key({"reason": "refused"})
    assert Event.RETRY.key(late) != Event.TROUBLE.key(late)
    assert Event.STARTED.key({}) is None
    refused = {"topic": "t1", "stage": "write", "code": "23505", "reason": "refused"}
    for other in ({"topic": "t2"}, {"code": "23514"}):
        assert Event.DEAD_LETTERED.key(refused) != Event.DEAD_LETTERED.key(refused | other)


def test_one_of_a_kind_passes_in_a_minute_and_says_how_many_did_not() -> None:
    """Each kind for itself."""
    clock = Clock()
    repeats = Repeats(clock)
    assert [repeats.passes("a") for _ in range(4)] == [0, None, None, None]
    assert repeats.passes("b") == 0
    clock.now = REPEAT_SECONDS - 0.1
    assert repeats.passes("a") is None
    clock.now = REPEAT_SECONDS
    assert repeats.passes("a") == 4
    assert repeats.passes("a") is None
    clock.now = 3 * REPEAT_SECONDS
    assert [repeats.passes("a"), repeats.passes("b")] == [1, 0]


def test_what_is_remembered_of_repeats_is_bounded() -> None:
    """Reasons may be of endless variety; the oldest is forgotten first."""
    repeats = Repeats(Clock())
    assert {repeats.passes(number) for number in range(5000)} == {0}
    assert repeats.passes(4999) is None
    assert repeats.passes(0) == 0
    assert len(repeats._seen) == 1000


def test_what_is_none_is_left_out() -> None:
    """A line has no empty fields."""
    import structlog

    with structlog.testing.capture_logs() as lines:
        tell(Event.HELD, topic=None, reason="why", hint="")
    assert lines == [{"event": "held", "log_level": "error", "reason": "why", "hint": ""}]

"""What the daemon answers when an operator asks it for something."""

from __future__ import annotations

from typing import Any

import pytest

from consumer.config import Settings, parse
from consumer.config.changing import differences
from consumer.errors import ConfigError
from consumer.metrics import Metrics
from consumer.operations import Operations, policy_of
from consumer.steering import MAX_PAUSES, Steering
from consumer.telemetry import Telemetry

CANARIES = {"sasl.password": "canary-1", "ssl.key.pem": "canary-2", "sasl.oauthbearer.client.secret": "canary-3"}


def settings(**other: Any) -> Settings:
    plain: dict[str, Any] = {
        "kafka": {"bootstrap.servers": "none:1", "group.id": "g", **CANARIES},
        "topics": ["orders", "^pay[a-z]*$"],
        "format": "json",
        "sink": {"dsn": "postgresql://u:canary-4@h/d"},
        "admin": {"token": "canary-5-canary-5"},
    }
    return parse(plain | other)


class Daemon:
    """The parts of one that an operator reaches; `retried` is what the loop was told."""

    def __init__(self) -> None:
        self.metrics, self.retried = Metrics(), list[bool]()
        self.telemetry = Telemetry(self.metrics)
        self.steering = Steering(policy_of(settings().batch))
        self.operations = Operations(settings(), self.steering, self.telemetry, self.retried.append)

    def pause(self, *names: str) -> str:
        return self.operations.pause([("target", name) for name in names])

    def resume(self, *names: str) -> str:
        return self.operations.resume([("target", name) for name in names])

    def events(self) -> list[str]:
        return [f"{event['event']} {event['reason']}" for event in self.telemetry.status()["events"]]


def test_pausing_and_resuming_by_topic_and_partition() -> None:
    """A topic takes its partitions with it; each is answered and shown."""
    daemon = Daemon()
    assert daemon.pause("orders/3", "payments").startswith("paused within one batch: orders/3, payments;")
    assert daemon.steering.stops(("orders", 3))
    assert daemon.steering.stops(("payments", 0))
    assert not daemon.steering.stops(("orders", 30))
    assert daemon.operations.status()["paused"] == ["orders/3", "payments"]
    assert daemon.resume("orders") == "resumed: orders/3; still paused: payments"
    assert not daemon.steering.stops(("orders", 3))
    assert daemon.retried == []
    assert daemon.events() == ["paused targets: orders/3, payments", "taken_up targets: orders/3"]


def test_a_pause_of_everything_ends_with_a_resume_of_everything() -> None:
    """Which also tries again what is held, and leaves alone what was paused by its name."""
    daemon = Daemon()
    daemon.pause()
    daemon.pause("orders/1")
    assert daemon.steering.stops(("any", 0))
    assert daemon.resume() == "what is held is tried again now; still paused: orders/1"
    assert (daemon.steering.stops(("orders", 1)), daemon.steering.stops(("orders", 2))) == (True, False)
    daemon.operations.resume([("accept", "")])
    assert daemon.retried == [False, True]


@pytest.mark.parametrize(
    ("paused", "name", "words"),
    [
        ([], "orders/1", "is not paused; paused are: none"),
        (["orders/2"], "orders/1", "is not paused; paused are: orders/2"),
        (["orders"], "orders/1", "is paused with orders: resume that"),
    ],
)
def test_resuming_what_is_not_paused_says_what_is(paused: list[str], name: str, words: str) -> None:
    """Nobody thinks that it flows now."""
    daemon = Daemon()
    if paused:
        daemon.pause(*paused)
    with pytest.raises(ConfigError, match=words):
        daemon.resume(name)
    assert daemon.steering.paused == frozenset(paused)


@pytest.mark.parametrize("name", ["", "*", "orders/", "orders/x", "orders/-1", "orders/1/2", "other", "a" * 300, "ö"])
def test_what_names_nothing_is_refused(name: str) -> None:
    """And nothing of the request is done."""
    daemon = Daemon()
    with pytest.raises(ConfigError, match="target"):
        daemon.pause("orders", name)
    with pytest.raises(ConfigError, match="is not known here"):
        daemon.operations.pause([("targets", "orders")])
    assert daemon.steering.paused == frozenset()


def test_there_is_an_end_of_what_can_be_paused() -> None:
    """Memory is bounded."""
    daemon = Daemon()
    daemon.pause(*(f"orders/{number}" for number in range(MAX_PAUSES)))
    with pytest.raises(ConfigError, match="pause topics"):
        daemon.pause("orders/5000")


def test_a_change_is_taken_logged_counted_and_shown() -> None:
    """With what the file says beside it."""
    daemon = Daemon()
    assert daemon.steering.news() is False
    answer = daemon.operations.change([("batch.max_records", "100"), ("batch.max_bytes", "1MiB")])
    assert answer == "batch.max_records: 20000 -> 100; batch.max_bytes: 5242880 -> 1048576"
    assert (daemon.steering.policy.max_records, daemon.steering.policy.max_bytes) == (100, 1048576)
    assert daemon.steering.news() is True
    status = daemon.operations.status()
    assert status["changed"]["batch.max_records"] == {"configured": 20000, "now": 100}
    assert status["configuration"]["batch"]["max_records"] == 100
    assert daemon.metrics.value("config_changes", outcome="set") == 2
    assert daemon.events()[0] == "setting_changed batch.max_records: 20000 -> 100, by set"
    assert daemon.operations.change([("batch.max_records", "100")]).startswith("nothing to change")


@pytest.mark.parametrize(
    "asked",
    [
        [],
        [("batch.max_records", "0")],
        [("batch.max_records", "1"), ("batch.max_records", "2")],
        [("batch.max_records", "10"), ("batch.max_wait_ms", "-1")],
        [("batch.max_bytes", "much")],
        [("topics", "x")],
        [("sink.dsn", "x")],
    ],
)
def test_a_change_beyond_the_bounds_is_refused_as_a_whole(asked: list[tuple[str, str]]) -> None:
    """Nothing of it is taken."""
    daemon = Daemon()
    with pytest.raises(ConfigError):
        daemon.operations.change(asked)
    assert daemon.operations.status()["changed"] == {}
    assert daemon.steering.news() is False


def test_a_file_that_is_read_again_changes_what_can_be_and_tells_the_rest() -> None:
    """The file has the last word, also over what `set` changed."""
    daemon = Daemon()
    daemon.operations.change([("batch.max_wait_ms", "7")])
    daemon.operations.reload(lambda: settings(batch={"max_records": 10}, topics=["orders"], start="latest"))
    policy = daemon.steering.policy
    assert (policy.max_records, policy.max_wait_ms) == (10, 500)
    status = daemon.operations.status()
    assert (status["changed"], status["needs_restart"]) == ({}, ["topics", "start"])
    assert daemon.metrics.value("config_changes", outcome="reload") == 2
    assert daemon.events()[-1].startswith(
        "reloaded changed: batch.max_records: 20000 -> 10, batch.max_wait_ms: 7 -> 500"
    )


def test_a_broken_file_changes_nothing() -> None:
    """One line says why, with what to do."""
    daemon = Daemon()

    def broken() -> Settings:
        return settings(batch={"max_records": 0}, topics=["orders"])

    daemon.operations.reload(broken)
    (event,) = daemon.telemetry.status()["events"]
    assert event["event"] == "reload_refused"
    assert event["reason"] == "batch.max_records: must be at least 1 (got 0)"
    assert "SIGHUP again" in event["hint"]
    assert daemon.metrics.value("config_changes", outcome="refused") == 1
    assert daemon.steering.news() is False


def test_no_secret_is_shown() -> None:
    """Of the file's settings, all the others are."""
    daemon = Daemon()
    daemon.operations.reload(lambda: settings(sink={"dsn": "postgresql://u:canary-6@h/d"}))
    shown = str(daemon.operations.status()) + str(daemon.events())
    assert "canary" not in shown
    assert "sink.dsn" in shown
    assert "bootstrap.servers" in shown


def test_differences_are_named_by_their_path() -> None:
    """As they stand in the file; secrets too, without their value."""
    other = settings(kafka={"bootstrap.servers": "none:1", "group.id": "h"}, sink={"dsn": "sqlite:///x"})
    assert differences(settings(), settings()) == []
    assert differences(settings(), other) == ["kafka.group.id", *(f"kafka.{name}" for name in CANARIES), "sink.dsn"]

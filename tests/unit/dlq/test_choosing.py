"""Which dead letters the options of a command mean."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from consumer.dlq.choosing import coordinates_of, fits, selection, unlimited
from consumer.errors import ConfigError
from consumer.letter import OPEN, DeadLetter, Evidence, State

NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
TOLD = Evidence("write", "RejectedError", "Check violation of orders_check", "23514", "orders", None, "orders_check")
LETTER = DeadLetter("orders", 3, 17, None, b"v", None, (1, 5), TOLD, NOON)


def test_nothing_typed_means_all_that_are_open() -> None:
    """And only that is unlimited."""
    which = selection()
    assert which.states == OPEN
    assert unlimited(which)
    assert not unlimited(selection(topic="orders"))


def test_coordinates_are_read_as_they_are_printed() -> None:
    """Topics may hold dots and dashes."""
    assert coordinates_of("a.b-c/0/1234") == ("a.b-c", 0, 1234)
    assert selection(coordinates=["orders/1/2", "orders/1/3"]).coordinates == (("orders", 1, 2), ("orders", 1, 3))


@pytest.mark.parametrize(
    "text", ["orders", "orders/1", "orders/1/2/3", "orders/x/1", "/1/2", "orders/-1/2", "orders/1/²"]
)
def test_other_coordinates_are_refused(text: str) -> None:
    """With what they must be."""
    with pytest.raises(ConfigError, match="topic/partition/offset"):
        coordinates_of(text)


@pytest.mark.parametrize(("text", "words"), [("noon", "must be a time"), ("2026-01-01T00:00:00", "needs a zone")])
def test_a_time_needs_a_zone(text: str, words: str) -> None:
    """The option is named."""
    with pytest.raises(ConfigError, match=f"--until: .*{words}"):
        selection(until=text)


FITTING: dict[str, Any] = {
    "topic": "orders",
    "partition": 3,
    "stage": "write",
    "reason": "CHECK violation",
    "sqlstate": "23514",
    "table": "orders",
    "constraint": "orders_check",
    "since": "2026-01-31T12:00:00Z",
    "until": "2026-01-31T14:00:01+02:00",
    "coordinates": ["orders/3/17"],
    "states": [State.PUBLISHED, State.PENDING],
}
OTHER: dict[str, Any] = {
    "topic": "order",
    "partition": 0,
    "stage": "map",
    "reason": "violation of check",
    "sqlstate": "23505",
    "table": "items",
    "constraint": "orders",
    "since": "2026-01-31T12:00:01Z",
    "until": "2026-01-31T12:00:00Z",
    "coordinates": ["orders/3/18"],
    "states": [State.REPLAYED],
}


@pytest.mark.parametrize("name", FITTING)
def test_what_fits_is_chosen(name: str) -> None:
    """By each of the options, and by all of them."""
    assert fits(selection(**{name: FITTING[name]}), LETTER)
    assert fits(selection(**FITTING), LETTER)


@pytest.mark.parametrize("name", OTHER)
def test_what_does_not_fit_is_not(name: str) -> None:
    """One option is enough to leave it out."""
    assert not fits(selection(**FITTING | {name: OTHER[name]}), LETTER)

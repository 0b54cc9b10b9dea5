"""What is wrong with a partition, told from Kafka's offsets, the database's and the dead letters."""

from __future__ import annotations

import datetime
import re
from dataclasses import replace
from typing import Any

import pytest

from consumer.offsets import Standing
from consumer.verify import Account, Filed, faults_of, lines

NOW = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
WELL = Standing("orders", 0, 100, 100, 10, 120, 20, "host-1", 3, "2026-01-31T11:59:00Z", "")
OLD, FRESH = NOW - datetime.timedelta(hours=1), NOW - datetime.timedelta(minutes=1)


def faults(filed: Filed, published: bool = True, **changes: Any) -> list[str]:
    return list(faults_of(replace(WELL, **changes), filed, NOW, published=published))


@pytest.mark.parametrize(
    ("changes", "filed"),
    [
        ({}, Filed({"pending": 3, "replayed": 7}, FRESH)),
        ({"committed": None}, Filed({})),
        ({"committed": 90}, Filed({})),
        ({"next_offset": None, "committed": None, "lag": None}, Filed({})),
        ({"next_offset": None, "committed": 100}, Filed({})),
        ({"next_offset": None, "committed": 120}, Filed({})),
        ({"next_offset": 120, "committed": 120}, Filed({"kept": 1})),
    ],
)
def test_what_is_well_is_no_fault(changes: dict[str, Any], filed: Filed) -> None:
    """Kafka's offset may be behind: it is told after the database's COMMIT."""
    assert faults(filed, **changes) == []


@pytest.mark.parametrize(
    ("changes", "filed", "words"),
    [
        ({"remark": "5 records are gone from Kafka"}, Filed({}), "5 records are gone .* 100, Kafka holds 10 to 120"),
        (
            {"remark": "Kafka has no such partition", "end": None},
            Filed({}),
            "no such partition: the next offset is 100",
        ),
        ({"next_offset": None, "committed": 4}, Filed({}), "6 records are gone .* next offset is 4, Kafka holds 10"),
        ({"next_offset": None, "committed": 121}, Filed({}), "beyond the end"),
        ({"committed": 101}, Filed({}), "committed offset 101 is ahead of the database's 100"),
        ({}, Filed({"kept": 1}, astray=100), "letter at offset 100, and the next offset is 100"),
        ({"next_offset": None, "committed": None}, Filed({}, astray=3), "letter at offset 3, and there is no offset"),
        ({}, Filed({"pending": 1}, OLD), "wait for their topic since 2026-01-31T11:00:00"),
    ],
)
def test_what_is_wrong_is_told_with_its_numbers(changes: dict[str, Any], filed: Filed, words: str) -> None:
    """One sentence each."""
    (fault,) = faults(filed, **changes)
    assert re.search(words, fault), fault


def test_letters_that_nobody_will_publish_are_a_fault_at_once() -> None:
    """They wait for a topic that is configured no longer."""
    (fault,) = faults(Filed({"pending": 1}, FRESH), published=False)
    assert "dead_letter.topic is null" in fault


def test_an_account_is_a_line() -> None:
    """Or one for each fault."""
    assert list(lines(Account(WELL, {"replayed": 7, "pending": 1200}, []))) == [
        "orders/0: 100 is next, 20 behind the end; Kafka holds 10 to 120; dead letters: 1,200 pending, 7 replayed"
    ]
    assert list(lines(Account(WELL, {}, ["a", "b"]))) == ["orders/0: a", "orders/0: b"]
    fresh = replace(WELL, next_offset=None, committed=None, lag=None)
    assert list(lines(Account(fresh, {}, []))) == [
        "orders/0: nothing written yet; Kafka holds 10 to 120; dead letters: none"
    ]

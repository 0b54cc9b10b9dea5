"""What is told of dead letters: which kinds there are, and no values unless asked."""

from __future__ import annotations

import datetime
import json
from dataclasses import replace
from typing import Any

import pytest

from consumer.config import parse
from consumer.dlq.commands import tallied
from consumer.dlq.replay import Report
from consumer.dlq.telling import as_json, lines, reported, shown, summary
from consumer.errors import DecodeError, FatalError
from consumer.letter import DeadLetter, Evidence, State
from consumer.terminal import say

WHEN = datetime.datetime(2026, 1, 31, 8, 0, 0, 5, datetime.UTC)
CHECK = Evidence("write", "RejectedError", "Check violation", "23514", "stock", None, "stock_quantity_check", 2, "b-1")
LETTER = DeadLetter("orders", 1, 42, b"canary", b'{"id": 1}', [("h", b"\xff"), ("n", None)], (1, 5), CHECK, WHEN)
SETTINGS = parse(
    {"kafka": {"bootstrap.servers": "none:1", "group.id": "g"}, "topics": ["orders"], "format": "json"}
    | {"sink": {"dsn": "sqlite:///none.db"}}
)


def of(evidence: Evidence, count: int = 1) -> list[DeadLetter]:
    return [replace(LETTER, offset=number, evidence=evidence) for number in range(count)]


def test_the_summary_names_the_kinds_most_first() -> None:
    """By what the operator knows: constraint, table, SQLSTATE."""
    letters = [
        *of(CHECK, 1200),
        *of(Evidence("decode", "DecodeError", "not JSON"), 22),
        *of(Evidence("write", "RejectedError", "Null", "23502", "stock"), 2),
        *of(Evidence("write", "RejectedError", "Out of range", "22003", "stock", "n")),
    ]
    assert summary(tallied(letters)) == (
        "1,225 dead letters: 1,200 check constraint stock_quantity_check, 22 not decodable, "
        "2 null in a column of table stock, 1 22003 table stock"
    )
    assert summary([]) == "0 dead letters"
    assert summary(tallied([LETTER])).startswith("1 dead letter: ")


def test_kinds_are_counted_with_their_first_and_last_time() -> None:
    """Whatever the order."""
    later = WHEN + datetime.timedelta(hours=1)
    (tally,) = tallied([replace(LETTER, first_failed_at=later), LETTER])
    assert (tally.count, tally.first, tally.last, tally.constraint) == (2, WHEN, later, "stock_quantity_check")


def test_lines_and_json_hold_no_values() -> None:
    """Nor keys, nor headers."""
    told = "\n".join(lines([LETTER])) + json.dumps(as_json(LETTER)) + "\n".join(shown(LETTER, SETTINGS, value=False))
    assert "orders/1/42" in told
    assert "canary" not in told
    assert '{"id"' not in told


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b'{"id": 1}', '"id": 1'),
        (b"\xff{\x1b", r"b'\xff{\x1b'"),
        (b"\x00" * 3000, "1,000 bytes more"),
        (None, "value: null"),
    ],
)
def test_values_are_shown_when_asked(value: bytes | None, words: str) -> None:
    """Decoded; escaped and cut where that cannot be done."""
    told = list(shown(replace(LETTER, value=value), SETTINGS, value=True))
    assert words in "\n".join(told)
    assert 'key: "canary"' in told
    assert told[-2:] == [r"header h: b'\xff'", "header n: null"]


def test_a_report_says_what_became_of_all() -> None:
    """How many, why, and where the first of each kind is."""
    report = Report(replayed=4790, absent=1)
    for number in range(22):
        report.failed.add(DecodeError("not JSON"), f"orders/0/{number}")
    report.left.add(FatalError("there is no table gone", "Create it."), "gone/0/7")
    assert list(reported(report, dry_run=False)) == [
        "4,790 replayed",
        "22 failed again, and keep their place:",
        "  22 decode: not JSON (first: orders/0/0)",
        "1 left as they were:",
        "  1 there is no table gone: Create it. (first: gone/0/7)",
        "1 were not open (any longer) when their turn came",
    ]
    assert next(reported(report, dry_run=True)) == "4,790 would be replayed"


def test_what_a_terminal_would_obey_is_spelt_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Evidence and headers come from anywhere."""
    hostile: Any = replace(CHECK, reason="\x1b]0;owned\x07\u202e\x9b", table="a\rb")
    say(lines([replace(LETTER, evidence=hostile, state=State.KEPT)]))
    said = capsys.readouterr().out
    assert not set(said) & set("\x1b\x07\u202e\x9b\r")
    assert r"\x1b]0;owned" in said

"""What to do about dead letters."""

from __future__ import annotations

import pytest

from consumer.runs.remedies import remedy
from consumer.sinks.postgres.sqlstate import RULES, Verdict
from consumer.sinks.sqlite import codes


@pytest.mark.parametrize(
    ("stage", "sqlstate", "words"),
    [
        ("decode", None, "the schema"),
        ("map", None, "make no rows"),
        ("write", "23514", "A check refuses them"),
        ("write", "22003", "outside its column's range"),
        ("write", "22012", "does not fit its column"),  # by its class
        ("write", "SQLITE_CONSTRAINT_UNIQUE", "there already"),
        ("write", "23999", "A constraint refuses them"),
        ("write", "99999", "The table does not take them"),
        ("write", None, "The table does not take them"),
        ("other", None, "The table does not take them"),
    ],
)
def test_each_kind_has_a_sentence(stage: str, sqlstate: str | None, words: str) -> None:
    """The most exact one that there is."""
    assert words in remedy(stage, sqlstate)


def test_all_that_a_database_refuses_a_record_for_has_a_sentence_of_its_own() -> None:
    """Each state and class of the tables of errors that makes a dead letter."""
    states = [rule.state for rule in RULES if rule.verdict is Verdict.RECORD]
    states += [rule.code for rule in codes.RULES if rule.verdict is Verdict.RECORD]
    assert len(states) > 8
    assert [state for state in states if remedy("write", state) == remedy("write", None)] == []

"""What each SQLSTATE means."""

from __future__ import annotations

import pytest

from consumer.sinks.postgres.sqlstate import RULES, Verdict, condition, rule


@pytest.mark.parametrize(
    ("states", "verdict"),
    [
        ("22001 22003 22007 22021 22P02 22P05 23502 23503 23505 23514 23P01 54000 54001 P0001 44000", Verdict.RECORD),
        ("40001 40P01 55P03 55006 53100 53200 53300 57014", Verdict.RETRY),
        ("08006 08007 57P01 57P02 57P03 57P05 25P03 25P04 25006 40003", Verdict.RECONNECT),
        ("58030 XX000 XX001 ZZ123", Verdict.DOUBTFUL),
        ("42P01 42703 42501 42P10 3D000 3F000 28P01 0A000 55000", Verdict.SETUP),
        ("21000 25P02 22P03 22P04 26000 34000", Verdict.DEFECT),
    ],
)
def test_verdicts(states: str, verdict: Verdict) -> None:
    """The state decides, else its class, else doubt."""
    assert {state: rule(state).verdict for state in states.split()} == dict.fromkeys(states.split(), verdict)


def test_every_rule_says_why_and_is_reached() -> None:
    """No rule is without a reason, and none is hidden by another of the same state."""
    assert all(each.why and rule(each.state) is each for each in RULES)


def test_rules_that_stop_tell_what_to_do() -> None:
    """The reason of such a rule is shown to the user as a hint, so it is a sentence."""
    stopping = [each for each in RULES if each.verdict in (Verdict.SETUP, Verdict.DEFECT, Verdict.DOUBTFUL)]
    assert all(each.why[0].isupper() and each.why.endswith(".") for each in stopping)


def test_conditions_have_names() -> None:
    """Names come from the driver's catalogue; a state that it does not know is no error."""
    assert condition("23505") == "unique violation"
    assert condition("ZZ123") == "unknown condition"

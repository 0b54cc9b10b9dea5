"""What each SQLSTATE means."""

from __future__ import annotations

import re

import psycopg
import pytest
from psycopg import errors

from consumer.errors import ConfigError, FatalError, RejectedError, UnavailableError
from consumer.sinks.postgres.sqlstate import RULES, STATELESS, UNKNOWN, VERDICTS, Rule, Rules, Verdict, condition
from consumer.sinks.postgres.translation import Translation, refused_login

# The driver's list is made from the server's own: https://www.postgresql.org/docs/current/errcodes-appendix.html
LISTED = sorted({each.sqlstate for each in vars(errors).values() if isinstance(getattr(each, "sqlstate", None), str)})
CERTAIN = Rules({})


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
    assert {state: CERTAIN.rule(state).verdict for state in states.split()} == dict.fromkeys(states.split(), verdict)


def test_every_listed_state_has_a_rule() -> None:
    """Of all that PostgreSQL lists none is unknown; a list that shrinks is no list."""
    assert len(LISTED) > 250
    assert [state for state in LISTED if CERTAIN.rule(state) is UNKNOWN] == []


def test_every_rule_is_of_a_listed_state() -> None:
    """No rule is of a state or class that there is not."""
    known = {*LISTED, *(state[:2] for state in LISTED)}
    assert [rule.state for rule in RULES if rule.state not in known] == []


def test_every_rule_says_why_and_is_reached() -> None:
    """No rule is without a reason, and none is hidden by another of the same state."""
    assert all(rule.why and CERTAIN.rule(rule.state) is rule for rule in RULES)
    assert all(rule.why for rule in STATELESS)


def test_rules_that_stop_tell_what_to_do() -> None:
    """The reason of such a rule is shown to the user as a hint, so it is a sentence."""
    stopping = [each for each in RULES if each.verdict in (Verdict.SETUP, Verdict.DEFECT, Verdict.DOUBTFUL)]
    assert all(each.why[0].isupper() and each.why.endswith(".") for each in stopping)


@pytest.mark.parametrize("state", LISTED)
def test_every_listed_state_becomes_its_instruction(state: str) -> None:
    """The rule's verdict is the instruction; on a broken connection each is an outage."""
    instructions = {
        Verdict.RECORD: RejectedError,
        Verdict.RETRY: UnavailableError,
        Verdict.RECONNECT: UnavailableError,
        Verdict.DOUBTFUL: UnavailableError,
        Verdict.SETUP: FatalError,
        Verdict.DEFECT: FatalError,
    }
    error = errors.lookup(state)()
    assert type(Translation(CERTAIN).translate(error, False)) is instructions[CERTAIN.rule(state).verdict]
    assert type(Translation(CERTAIN).translate(error, True)) is UnavailableError


def test_an_error_without_a_state() -> None:
    """On a connection that is well the driver refused a value; on one that is not, it is an outage."""
    error = psycopg.DataError()
    assert type(Translation(CERTAIN).translate(error, False)) is RejectedError
    assert type(Translation(CERTAIN).translate(error, True)) is UnavailableError


@pytest.mark.parametrize("error", [psycopg.OperationalError(), psycopg.InterfaceError()])
def test_what_is_said_of_a_connection_is_an_outage_though_libpq_has_not_noticed(error: psycopg.Error) -> None:
    """It comes without a state, and for a moment the connection still counts as open; no value is at fault."""
    assert type(Translation(CERTAIN).translate(error, False)) is UnavailableError
    assert not Translation(CERTAIN).may_go_on(error, False)


def test_doubt_ends() -> None:
    """What may pass by itself is tried again four times, and begins anew when a batch got through."""
    translation = Translation(CERTAIN)
    error = errors.lookup("XX000")()
    told = [type(translation.translate(error, False)) for _ in range(5)]
    assert told == [UnavailableError] * 4 + [FatalError]
    translation.settle()
    assert type(translation.translate(error, False)) is UnavailableError


@pytest.mark.parametrize("state", LISTED)
def test_only_what_was_cancelled_may_be_done_in_halves(state: str) -> None:
    """A statement that ran out of its time asks for less; nothing else does."""
    found = Translation(CERTAIN).translate(errors.lookup(state)(), False)
    assert getattr(found, "smaller", False) is (state == "57014")


def test_a_login_that_is_refused() -> None:
    """At first nobody but a person can put it right; later it is an outage."""
    error = psycopg.OperationalError('FATAL:  password authentication failed for user "app"')
    assert type(refused_login(error, True)) is FatalError
    assert type(refused_login(error, False)) is UnavailableError
    assert type(refused_login(psycopg.OperationalError("Connection refused"), True)) is UnavailableError


@pytest.mark.parametrize("verdict", [each.value for each in VERDICTS])
def test_users_override_states_and_classes(verdict: str) -> None:
    """A state that is named goes before its class, whoever named it."""
    rules = Rules({"23503": verdict, "22": verdict, "ZZ": verdict})
    assert {rules.rule(state).verdict for state in ("23503", "22001", "ZZ123")} == {Verdict(verdict)}
    assert rules.rule("23505") == CERTAIN.rule("23505")
    assert rules.rule("22P03").verdict is Verdict.DEFECT
    assert "sink.errors.23503" in rules.rule("23503").why


def test_of_record_is_what_the_rules_say() -> None:
    """The two lists tell the same as the rules do, state by state."""
    for rules in (CERTAIN, Rules({"23503": "retry", "0A": "reject", "54": "stop", "ZZ123": "reject"})):
        states, others = rules.of_record()
        for state in (*LISTED, "ZZ123", "ZZ124"):
            listed = state in states or (state[:2] in states and state not in others)
            assert listed is (rules.rule(state).verdict is Verdict.RECORD)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"2350": "retry"}, "SQLSTATE"),
        ({"23503": "ignore"}, "reject, retry"),
        ({"23503": "stop and report"}, "must be one of"),
    ],
)
def test_what_is_no_override_is_refused(overrides: dict[str, str], reason: str) -> None:
    """The error names the setting."""
    with pytest.raises(ConfigError, match=reason) as raised:
        Rules(overrides)
    assert raised.value.field == f"sink.errors.{next(iter(overrides))}"


def test_conditions_have_names() -> None:
    """Names come from the driver's catalogue; a state that it does not know is no error."""
    assert condition("23505") == "unique violation"
    assert condition("ZZ123") == "unknown condition"
    assert all(re.fullmatch("[a-z ]+", condition(state).replace("_", "")) for state in LISTED)


def test_the_table_can_be_printed() -> None:
    """Each rule is a row of the documentation: state or situation, what is done, why."""
    assert all(
        isinstance(rule, Rule) and rule.state and rule.verdict.value and rule.why for rule in (*RULES, *STATELESS)
    )

"""What each of SQLite's result codes means."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from consumer.errors import ConfigError, FatalError, MicrobatchError, RejectedError, UnavailableError
from consumer.sinks.sqlite.codes import RULES, Codes, Verdict

# The module has other constants of this prefix: limits, settings, and the actions that an authorizer is asked about.
_OTHERS = ("SQLITE_LIMIT_", "SQLITE_DBCONFIG_", "SQLITE_CREATE_", "SQLITE_DROP_")
_ACTIONS = {
    f"SQLITE_{action}"
    for action in (
        *("ALTER_TABLE", "ANALYZE", "ATTACH", "DELETE", "DENY", "DETACH", "FUNCTION", "IGNORE", "INSERT", "PRAGMA"),
        *("READ", "RECURSIVE", "REINDEX", "SAVEPOINT", "SELECT", "TRANSACTION", "UPDATE"),
    )
}
CODES = {
    name: getattr(sqlite3, name)
    for name in dir(sqlite3)
    if name.startswith("SQLITE_") and not name.startswith(_OTHERS) and name not in _ACTIONS
}


def failure(name: str, message: str = "told") -> sqlite3.Error:
    error: Any = sqlite3.OperationalError(message)
    error.sqlite_errorname, error.sqlite_errorcode = name, CODES[name]
    return error  # type: ignore[no-any-return]


@pytest.mark.parametrize(("name", "number"), CODES.items(), ids=list(CODES))
def test_every_result_code_has_a_rule(name: str, number: int) -> None:
    """Its own, or that of its family; none is left to chance."""
    assert len(CODES) > 90
    rule = Codes({}).rule(name, number)
    assert rule.code in (name, *(family for family in CODES if name.startswith(f"{family}_")))


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        ("BUSY BUSY_SNAPSHOT LOCKED FULL IOERR IOERR_WRITE CANTOPEN NOMEM INTERRUPT PROTOCOL", UnavailableError),
        ("READONLY_DBMOVED", UnavailableError),
        ("CONSTRAINT CONSTRAINT_CHECK CONSTRAINT_FOREIGNKEY CONSTRAINT_TRIGGER MISMATCH TOOBIG", RejectedError),
        ("ERROR SCHEMA READONLY READONLY_DIRECTORY PERM AUTH CORRUPT CORRUPT_INDEX NOTADB NOLFS", FatalError),
        ("MISUSE RANGE INTERNAL IOERR_CORRUPTFS CANTOPEN_ISDIR", FatalError),
    ],
)
def test_verdicts(names: str, kind: type[MicrobatchError]) -> None:
    """The code decides, else its family."""
    for name in names.split():
        found = Codes({}).classify(failure(f"SQLITE_{name}"), "item")
        assert type(found) is kind
        assert f"SQLITE_{name}" in (found.sqlstate or "" if isinstance(found, RejectedError) else str(found))


def test_a_code_that_python_does_not_know_goes_by_its_family() -> None:
    """As a newer SQLite may have."""
    error: Any = failure("SQLITE_BUSY")
    error.sqlite_errorname, error.sqlite_errorcode = "unknown", sqlite3.SQLITE_BUSY | 99 << 8
    assert isinstance(Codes({}).classify(error), UnavailableError)
    error.sqlite_errorcode = 99
    assert isinstance(Codes({}).classify(error), FatalError)


def test_every_rule_says_why() -> None:
    """Where it stops this is a hint, so it is a sentence; no code has two."""
    assert len({rule.code for rule in RULES}) == len(RULES)
    assert all(rule.why for rule in RULES)
    stopping = [rule for rule in RULES if rule.verdict is Verdict.STOP]
    assert all(rule.why[0].isupper() and rule.why.endswith(".") for rule in stopping)


def test_the_user_overrules_a_code_or_a_family() -> None:
    """The closer name decides: a code before its family."""
    codes = Codes({"SQLITE_CONSTRAINT": "stop", "SQLITE_CONSTRAINT_FOREIGNKEY": "retry", "SQLITE_FULL": "reject"})
    assert isinstance(codes.classify(failure("SQLITE_CONSTRAINT_CHECK")), FatalError)
    assert isinstance(codes.classify(failure("SQLITE_CONSTRAINT_FOREIGNKEY")), UnavailableError)
    assert isinstance(codes.classify(failure("SQLITE_FULL")), RejectedError)
    assert isinstance(codes.classify(failure("SQLITE_BUSY")), UnavailableError)
    assert isinstance(Codes({"SQLITE_ERROR": "reconnect"}).classify(failure("SQLITE_ERROR")), UnavailableError)


@pytest.mark.parametrize(
    ("verdicts", "field"),
    [({"23505": "reject"}, "23505"), ({"SQLITE_BUZY": "retry"}, "BUZY"), ({"SQLITE_BUSY": "wait"}, "SQLITE_BUSY")],
)
def test_what_cannot_be_overruled_is_a_configuration_error(verdicts: dict[str, str], field: str) -> None:
    """A code that SQLite does not have, or a verdict that nobody knows."""
    with pytest.raises(ConfigError) as raised:
        Codes(verdicts)
    assert raised.value.field.startswith("sink.errors.")
    assert field in raised.value.field


def test_what_a_trigger_says_is_never_told() -> None:
    """Its text is the user's, and may hold values."""
    for verdicts in ({}, {"SQLITE_CONSTRAINT_TRIGGER": "stop"}, {"SQLITE_CONSTRAINT_TRIGGER": "retry"}):
        error = Codes(verdicts).classify(failure("SQLITE_CONSTRAINT_TRIGGER", "secret"))
        assert "secret" not in str(error)

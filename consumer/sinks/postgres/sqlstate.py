"""What each SQLSTATE means to a batch, as data: by state, never by the driver's exception classes.

Classes and states: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache

from psycopg import errors

from consumer.errors import ConfigError


class Verdict(Enum):
    """What to do about an error, by the words of the documentation."""

    RECORD = "reject"  # the data is at fault, confirmed by failing alone
    RETRY = "retry"  # the same batch again
    RECONNECT = "reconnect"  # the session is gone or useless: connect, claim, the same batch again
    DOUBTFUL = "retry four times, then stop"
    SETUP = "stop"  # a person must change something
    DEFECT = "stop and report"  # this program is wrong


@dataclass(frozen=True, slots=True)
class Rule:
    """`state`: a SQLSTATE, or the two letters of its class. `why` is the hint to the user where the verdict stops.

    `smaller`: half of the batch may do.
    """

    state: str
    verdict: Verdict
    why: str
    smaller: bool = False


_REPORT = "This is a defect of microbatch; please report it."
_TRIGGER = "A trigger or function of the database is written wrongly; the message says how."
_ROLES = "Look for a trigger that changes roles or privileges; a write needs none."
RULES = (
    Rule("08", Verdict.RECONNECT, "the connection failed; 08007 leaves the outcome open"),
    Rule("40003", Verdict.RECONNECT, "the outcome is unknown; the claim will tell"),
    Rule("57P01", Verdict.RECONNECT, "an administrator, or the next owner of a partition, ended the session"),
    Rule("57P02", Verdict.RECONNECT, "the server crashes"),
    Rule("57P03", Verdict.RECONNECT, "the server starts or stops"),
    Rule("57P04", Verdict.RECONNECT, "the database is dropped: connecting again says so"),
    Rule("57P05", Verdict.RECONNECT, "idle_session_timeout"),
    Rule("25P03", Verdict.RECONNECT, "idle_in_transaction_session_timeout: this process was stopped meanwhile"),
    Rule("25P04", Verdict.RECONNECT, "transaction_timeout"),
    Rule("25006", Verdict.RECONNECT, "read-only: after a failover the primary is elsewhere"),
    Rule("40", Verdict.RETRY, "deadlock or serialisation: another transaction won"),
    Rule("40002", Verdict.RECORD, "a constraint refused the data at the end of the transaction"),
    Rule("53", Verdict.RETRY, "disk, memory or connections used up"),
    Rule("55006", Verdict.RETRY, "the object is in use"),
    Rule("55P03", Verdict.RETRY, "a lock was not free in time"),
    Rule("57", Verdict.RETRY, "an operator intervened"),
    Rule("57014", Verdict.RETRY, "cancelled: by an administrator, or by statement_timeout", smaller=True),
    Rule("72", Verdict.RETRY, "snapshot too old"),
    Rule("58", Verdict.DOUBTFUL, "The server's disk or files fail; see the server's log."),
    Rule("HV", Verdict.DOUBTFUL, "The foreign table's own server fails; see the server's log."),
    Rule("XX", Verdict.DOUBTFUL, "The server reports an internal error or damaged data; see the server's log."),
    Rule("09", Verdict.RECORD, "a trigger refused"),
    Rule("10", Verdict.RECORD, "an expression over XML in a trigger did not take a value"),
    Rule("20", Verdict.RECORD, "CASE in a trigger has no branch for a value"),
    Rule("22", Verdict.RECORD, "a value does not fit its column"),
    Rule("23", Verdict.RECORD, "a constraint refused the row"),
    Rule("27", Verdict.RECORD, "a trigger changed the row that was being written"),
    Rule("44", Verdict.RECORD, "the view's check option refused the row"),
    Rule("54", Verdict.RECORD, "a value is too large or too deep"),
    Rule("P0", Verdict.RECORD, "a trigger raised an exception"),
    Rule("03", Verdict.DEFECT, _REPORT),
    Rule("21", Verdict.DEFECT, _REPORT),
    Rule("22P03", Verdict.DEFECT, _REPORT),
    Rule("22P04", Verdict.DEFECT, _REPORT),
    Rule("24", Verdict.DEFECT, _REPORT),
    Rule("25", Verdict.DEFECT, _REPORT),
    Rule("26", Verdict.DEFECT, _REPORT),
    Rule("34", Verdict.DEFECT, _REPORT),
    Rule("3B", Verdict.DEFECT, _REPORT),
    Rule("02", Verdict.SETUP, _TRIGGER),
    Rule("0A", Verdict.SETUP, "The server cannot do this; check the kind of the table and the server's version."),
    Rule("0B", Verdict.SETUP, _TRIGGER),
    Rule("0F", Verdict.SETUP, _TRIGGER),
    Rule("0L", Verdict.SETUP, _ROLES),
    Rule("0P", Verdict.SETUP, _ROLES),
    Rule("0Z", Verdict.SETUP, _TRIGGER),
    Rule("28", Verdict.SETUP, "Check the user and the password in sink.dsn, and pg_hba.conf on the server."),
    Rule("2B", Verdict.SETUP, _ROLES),
    Rule("2D", Verdict.SETUP, _TRIGGER),
    Rule("2F", Verdict.SETUP, _TRIGGER),
    Rule("38", Verdict.SETUP, _TRIGGER),
    Rule("39", Verdict.SETUP, _TRIGGER),
    Rule("3D", Verdict.SETUP, "Check the database in sink.dsn."),
    Rule("3F", Verdict.SETUP, "Create the schema, or name another one in the table's name."),
    Rule("42", Verdict.SETUP, "Make the table and the configuration agree; `microbatch check` shows what differs."),
    Rule(
        "42501", Verdict.SETUP, "Grant the privilege to the user in sink.dsn; `microbatch check` lists what is needed."
    ),
    Rule("42P01", Verdict.SETUP, "Create the table, or name another one in the configuration."),
    Rule("42P10", Verdict.SETUP, "Create a unique index on exactly the key columns, or configure another key."),
    Rule("55", Verdict.SETUP, "The table is not in a state that takes writes; the message says why."),
    Rule("F0", Verdict.SETUP, "The server's configuration is wrong; see the server's log."),
)
# Where there is no SQLSTATE, or none with a rule; `state` is what the documentation calls it.
BROKEN = Rule("connection lost", Verdict.RECONNECT, "whatever state came last; the claim tells how a COMMIT ended")
FIRST_LOGIN = Rule(
    "login refused at start",
    Verdict.SETUP,
    "Check the user and the password in sink.dsn, and pg_hba.conf on the server.",
)
LATER_LOGIN = Rule("login refused later", Verdict.RECONNECT, "the daemon waits for the password to be put right")
UNENCODABLE = Rule(
    "refused by the driver", Verdict.RECORD, "the value has no form in the protocol: NUL, a lone surrogate"
)
UNKNOWN = Rule("unknown", Verdict.DOUBTFUL, "This error has no rule; look its SQLSTATE up, and see the server's log.")
STATELESS = (BROKEN, FIRST_LOGIN, LATER_LOGIN, UNENCODABLE, UNKNOWN)
# What a user may make of a state. Whatever that is, a broken connection stays an outage.
VERDICTS = (Verdict.RECORD, Verdict.RETRY, Verdict.RECONNECT, Verdict.SETUP)
_STATE = re.compile("[0-9A-Z]{2}|[0-9A-Z]{5}")


class Rules:
    """The rules of RULES, but where `overrides` have another verdict for a SQLSTATE or a class (see VERDICTS)."""

    def __init__(self, overrides: Mapping[str, str]) -> None:
        """Raises ConfigError for what is no state, or no verdict."""
        self._by_state = {rule.state: rule for rule in (*RULES, *map(_overriding, overrides, overrides.values()))}

    def rule(self, state: str) -> Rule:
        """The rule of this SQLSTATE itself, else of its class; of an unknown class: a few tries, then stop."""
        return self._by_state.get(state) or self._by_state.get(state[:2]) or UNKNOWN

    def of_record(self) -> tuple[list[str], list[str]]:
        """The states and classes with the verdict RECORD, and those with another one."""
        states: tuple[list[str], list[str]] = ([], [])
        for state, rule in self._by_state.items():
            states[rule.verdict is not Verdict.RECORD].append(state)
        return states


@cache
def condition(state: str) -> str:
    """The condition's name in words, `unique violation`: unlike the server's message it never holds values."""
    try:
        name = errors.lookup(state).__name__
    except KeyError:
        return "unknown condition"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()


def _overriding(state: str, verdict: str) -> Rule:
    if not _STATE.fullmatch(state):
        raise ConfigError(
            f"sink.errors.{state}", None, "is neither a SQLSTATE (five letters and digits) nor a class (two)"
        )
    words = [each.value for each in VERDICTS]
    if verdict not in words:
        raise ConfigError(f"sink.errors.{state}", verdict, f"must be one of {', '.join(words)}")
    return Rule(state, Verdict(verdict), f"Configured in sink.errors.{state}.")

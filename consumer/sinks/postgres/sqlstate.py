"""What each SQLSTATE means to a batch, as data: by state, never by the driver's exception classes.

Classes and states: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto

from psycopg import errors


class Verdict(Enum):
    """What to do about an error."""

    RECORD = auto()  # the data is at fault: reject, confirmed by failing alone
    RETRY = auto()  # the same batch again
    RECONNECT = auto()  # the session is gone or useless: connect, claim, the same batch again
    DOUBTFUL = auto()  # the same batch again a few times, then stop
    SETUP = auto()  # stop; a person must change something
    DEFECT = auto()  # stop; this program is wrong


@dataclass(frozen=True, slots=True)
class Rule:
    """`state`: a SQLSTATE, or the two letters of its class. `why` is the hint to the user where the verdict stops."""

    state: str
    verdict: Verdict
    why: str


_REPORT = "This is a defect of microbatch; please report it."
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
    Rule("57014", Verdict.RETRY, "cancelled: by an administrator, or by statement_timeout"),
    Rule("72", Verdict.RETRY, "snapshot too old"),
    Rule("58", Verdict.DOUBTFUL, "The server's disk or files fail; see the server's log."),
    Rule("XX", Verdict.DOUBTFUL, "The server reports an internal error or damaged data; see the server's log."),
    Rule("09", Verdict.RECORD, "a trigger refused"),
    Rule("22", Verdict.RECORD, "a value does not fit its column"),
    Rule("23", Verdict.RECORD, "a constraint refused the row"),
    Rule("44", Verdict.RECORD, "the view's check option refused the row"),
    Rule("54", Verdict.RECORD, "a value is too large or too deep"),
    Rule("P0", Verdict.RECORD, "a trigger raised an exception"),
    Rule("21000", Verdict.DEFECT, _REPORT),
    Rule("22P03", Verdict.DEFECT, _REPORT),
    Rule("22P04", Verdict.DEFECT, _REPORT),
    Rule("24", Verdict.DEFECT, _REPORT),
    Rule("25", Verdict.DEFECT, _REPORT),
    Rule("26", Verdict.DEFECT, _REPORT),
    Rule("34", Verdict.DEFECT, _REPORT),
    Rule("3B", Verdict.DEFECT, _REPORT),
    Rule("0A", Verdict.SETUP, "The server cannot do this; check the kind of the table and the server's version."),
    Rule("28", Verdict.SETUP, "Check the user and the password in sink.dsn, and pg_hba.conf on the server."),
    Rule("3D", Verdict.SETUP, "Check the database in sink.dsn."),
    Rule("3F", Verdict.SETUP, "Create the schema, or name another one in the table's name."),
    Rule("42", Verdict.SETUP, "Make the table and the configuration agree; `microbatch check` shows what differs."),
    Rule(
        "42501", Verdict.SETUP, "Grant the privilege to the user in sink.dsn; `microbatch check` lists what is needed."
    ),
    Rule("42P01", Verdict.SETUP, "Create the table, or name another one in the configuration."),
    Rule("42P10", Verdict.SETUP, "Create a unique index on exactly the key columns, or configure another key."),
    Rule("55", Verdict.SETUP, "The table is not in a state that takes writes; the message says why."),
)
_UNKNOWN = Rule("", Verdict.DOUBTFUL, "This error has no rule; look its SQLSTATE up, and see the server's log.")
_BY_STATE = {rule.state: rule for rule in RULES}


def rule(state: str) -> Rule:
    """The rule of this SQLSTATE itself, else of its class; of an unknown class: a few tries, then stop."""
    return _BY_STATE.get(state) or _BY_STATE.get(state[:2]) or _UNKNOWN


def condition(state: str) -> str:
    """The condition's name in words, `unique violation`: unlike the server's message it never holds values."""
    try:
        name = errors.lookup(state).__name__
    except KeyError:
        return "unknown condition"
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()

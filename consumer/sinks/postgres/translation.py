"""Driver errors into instructions. What is said never holds row values, nor anything of the DSN's secrets."""

from __future__ import annotations

import re
from collections.abc import Collection

import psycopg

from consumer.errors import FatalError, MicrobatchError, RejectedError, UnavailableError
from consumer.sinks.postgres import sqlstate
from consumer.sinks.postgres.sqlstate import Rules, Verdict

_PATIENCE = 5
_RAISE = "exec_stmt_raise"  # pl_exec.c
_BUILT_IN = Rules({})
_LINE = re.compile(r"COPY [^\n]*, line \d+(?P<column>, column [^\n]+)?")
_CHECKING = ("ExecConstraints", "ReportNotNullViolationError")
_REFUSED_LOGIN = re.compile(
    r"authentication failed|no password supplied|no pg_hba\.conf entry|pg_hba\.conf rejects|password is empty|"
    r"is not permitted to log in|requires a valid client certificate|certificate verify failed|"
    r'(role|database) "[^"]*" does not exist|permission denied for database'
)


class Translation:
    """By `rules`. Keeps the one thing that matters from error to error: how many in a row were doubtful."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._doubtful = 0

    def settle(self) -> None:
        """A batch got through: patience begins anew."""
        self._doubtful = 0

    def translate(
        self, error: psycopg.Error, broken: bool, table: str | None = None, columns: Collection[str] = ()
    ) -> MicrobatchError:
        """The instruction in this error; `table` and its `columns` are what was being written, if anything was."""
        state = error.sqlstate
        if state is None:
            if broken or _of_connection(error):
                return UnavailableError("PostgreSQL: the connection is lost")
            return RejectedError(f"the driver cannot encode a value ({type(error).__name__})", table=table)
        rule = sqlstate.BROKEN if broken else self._rules.rule(state)
        if rule.verdict is Verdict.RECORD:
            diag = error.diag
            column = diag.column_name or _column(diag.context, columns)
            return rejection(state, diag.table_name, column, diag.constraint_name, table)
        message = f"PostgreSQL: {_said(error, state)} ({state})"
        if rule.verdict in (Verdict.RETRY, Verdict.RECONNECT):
            return UnavailableError(message, smaller=rule.smaller)
        if rule.verdict is Verdict.DOUBTFUL:
            self._doubtful += 1
            if self._doubtful < _PATIENCE:
                return UnavailableError(message)
        return FatalError(message, rule.why)

    def may_go_on(self, error: psycopg.Error, broken: bool) -> bool:
        """Whether another way of doing the same may work, as after a savepoint: neither an outage nor a defect."""
        if error.sqlstate is None or broken:
            return not broken and not _of_connection(error)
        return self._rules.rule(error.sqlstate).verdict in (Verdict.RECORD, Verdict.SETUP)

    def refuses_data(self, error: psycopg.Error) -> bool:
        """Whether the error is about the rows."""
        return error.sqlstate is not None and self._rules.rule(error.sqlstate).verdict is Verdict.RECORD


def _said(error: psycopg.Error, state: str) -> str:
    """What the server says, where that cannot hold a value: the name of the condition where it is about data, whatever
    the user makes of it, where there is no rule, and where a function of the user's says it (RAISE of PL/pgSQL)."""
    rule, text = _BUILT_IN.rule(state), error.diag.message_primary
    about_data = rule is sqlstate.UNKNOWN or rule.verdict is Verdict.RECORD
    return sqlstate.condition(state) if about_data or error.diag.source_function == _RAISE or not text else text


def _of_connection(error: psycopg.Error) -> bool:
    """Whether an error without a SQLSTATE is about the connection: libpq need not have noticed yet that it is lost.

    A value without a form in the protocol is a DataError, or no error of the driver's at all (measured, psycopg 3.3).
    """
    return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)


def rejection(
    state: str, found: str | None, column: str | None, constraint: str | None, written: str | None
) -> RejectedError:
    """A refusal as the server tells it, without values. `written`: the table, if the one `found` is none or a stage."""
    # The stage is ours: what was written is the table behind it.
    table = found if found and not found.startswith("microbatch_stage") else written
    parts = [("table", table), ("column", column), ("constraint", constraint)]
    reason = ", ".join([sqlstate.condition(state), *(f"{name} {value}" for name, value in parts if value)])
    return RejectedError(reason, state, table, column or None, constraint or None)


def line(error: psycopg.Error) -> int | None:
    """Which line of a COPY the server speaks of, from 1; it need not be at fault, and is told only in English."""
    found = re.findall(r"^COPY .*, line (\d+)", error.diag.context or "", re.MULTILINE)
    return int(found[-1]) if found else None


def of_its_line(error: psycopg.Error, acts: bool) -> bool:
    """Whether that line is at fault for certain: a value of it does not fit its column; or, unless the table `acts` by
    triggers, which may have made of it what it is, a CHECK or NOT NULL of the table refused it.

    Constraints are checked there and in no other function: ExecConstraints in the server's execMain.c.
    """
    told = _LINE.fullmatch(error.diag.context or "")
    return told is not None and (bool(told["column"]) or (not acts and error.diag.source_function in _CHECKING))


def refused_login(error: psycopg.Error, first: bool) -> MicrobatchError:
    """A connection that was not made: fatal where the very first one was refused for what it says, else an outage.

    libpq gives no SQLSTATE here, only text; in another language than English everything counts as an outage. Later
    on a changed password is one too: the daemon waits for it to be put right.
    """
    text = " ".join(str(error).split())
    if first and _REFUSED_LOGIN.search(text):
        return FatalError(f"PostgreSQL: {text}", sqlstate.FIRST_LOGIN.why)
    return UnavailableError(f"PostgreSQL: {text}")


def _column(context: str | None, columns: Collection[str]) -> str | None:
    """COPY says `COPY t, line 1, column c` where there is no field for it; in other languages it is not found."""
    found = re.findall(r"^COPY .*, column ([^:\n]+)", context or "", re.MULTILINE)
    return found[-1] if found and found[-1] in columns else None

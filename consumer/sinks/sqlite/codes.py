"""What each of SQLite's result codes means to a batch, as data (https://sqlite.org/rescode.html).

Reasons carry SQLite's message only where it is made of the schema's own names; never a value.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from consumer.errors import ConfigError, FatalError, MicrobatchError, RejectedError, UnavailableError


class Verdict(StrEnum):
    """What to do about an error."""

    REJECT = "reject"  # the data is at fault, confirmed by failing alone
    RETRY = "retry"  # the same batch again, on a new connection
    STOP = "stop"  # a person must change something


@dataclass(frozen=True, slots=True)
class Rule:
    """`code`: SQLite's name of a result code, or of its family. `why` is the hint to the user where it stops."""

    code: str
    verdict: Verdict
    why: str


_REPORT = "This is a defect of microbatch; report it."
_SCHEMA = "Create or correct the table, or correct the configuration; `microbatch check` says what differs."
_ACCESS = "Give the daemon's user write access to the file and its folder."
_DAMAGE = "The file is damaged: stop everything that uses it, and recover or restore it."
RULES = (
    Rule("SQLITE_BUSY", Verdict.RETRY, "another connection writes"),
    Rule("SQLITE_LOCKED", Verdict.RETRY, "the table is in use"),
    Rule("SQLITE_FULL", Verdict.RETRY, "the disk is full"),
    Rule("SQLITE_IOERR", Verdict.RETRY, "the disk or its file system fails"),
    Rule("SQLITE_CANTOPEN", Verdict.RETRY, "the file, or one beside it, cannot be opened now"),
    Rule("SQLITE_NOMEM", Verdict.RETRY, "memory is used up"),
    Rule("SQLITE_PROTOCOL", Verdict.RETRY, "the locks of the write-ahead log were not free in time"),
    Rule("SQLITE_INTERRUPT", Verdict.RETRY, "the watchdog ended a call that took too long"),
    Rule("SQLITE_READONLY_DBMOVED", Verdict.RETRY, "the file was replaced: what is open is no longer at its path"),
    Rule("SQLITE_CONSTRAINT", Verdict.REJECT, "a constraint or a trigger refused the row"),
    Rule("SQLITE_MISMATCH", Verdict.REJECT, "a value has a type that its column does not take"),
    Rule("SQLITE_TOOBIG", Verdict.REJECT, "a value is too large"),
    Rule("SQLITE_ERROR", Verdict.STOP, _SCHEMA),
    Rule("SQLITE_SCHEMA", Verdict.STOP, _SCHEMA),
    Rule("SQLITE_READONLY", Verdict.STOP, _ACCESS),
    Rule("SQLITE_PERM", Verdict.STOP, _ACCESS),
    Rule("SQLITE_AUTH", Verdict.STOP, _ACCESS),
    Rule("SQLITE_CANTOPEN_ISDIR", Verdict.STOP, "There is a folder at this path: correct sink.dsn."),
    Rule("SQLITE_CORRUPT", Verdict.STOP, _DAMAGE),
    Rule("SQLITE_IOERR_CORRUPTFS", Verdict.STOP, _DAMAGE),
    Rule("SQLITE_NOTADB", Verdict.STOP, "The file is no SQLite database, or encrypted: correct sink.dsn."),
    Rule("SQLITE_NOLFS", Verdict.STOP, "The file system cannot hold files of this size: move the database."),
    Rule("SQLITE_INTERNAL", Verdict.STOP, "SQLite found a defect in itself; update Python or its SQLite."),
    Rule("SQLITE_ABORT", Verdict.STOP, _REPORT),
    Rule("SQLITE_EMPTY", Verdict.STOP, _REPORT),
    Rule("SQLITE_FORMAT", Verdict.STOP, _REPORT),
    Rule("SQLITE_MISUSE", Verdict.STOP, _REPORT),
    Rule("SQLITE_NOTFOUND", Verdict.STOP, _REPORT),
    Rule("SQLITE_RANGE", Verdict.STOP, _REPORT),
    # Not errors, and never raised:
    Rule("SQLITE_OK", Verdict.STOP, _REPORT),
    Rule("SQLITE_ROW", Verdict.STOP, _REPORT),
    Rule("SQLITE_DONE", Verdict.STOP, _REPORT),
    Rule("SQLITE_NOTICE", Verdict.STOP, _REPORT),
    Rule("SQLITE_WARNING", Verdict.STOP, _REPORT),
)
_UNKNOWN = Rule("", Verdict.STOP, "This error has no rule; look its result code up.")
_OVERRULED = "sink.errors says that this stops."
_VERDICTS = {verdict.value: verdict for verdict in Verdict} | {"reconnect": Verdict.RETRY}  # which always does
_FAMILIES: dict[int, str] = {
    number: rule.code for rule in RULES if (number := getattr(sqlite3, rule.code, 0x100)) <= 0xFF
}


class Codes:
    """The rules, with those of the user in their place."""

    def __init__(self, verdicts: Mapping[str, str]) -> None:
        """`verdicts`: by name of a result code or a family of them; raises ConfigError for others."""
        self._rules = {rule.code: rule for rule in RULES}
        for code, verdict in verdicts.items():
            if not any(code == family or code.startswith(f"{family}_") for family in _FAMILIES.values()):
                raise ConfigError(f"sink.errors.{code}", None, "is no result code of SQLite, as SQLITE_CONSTRAINT is")
            if verdict not in _VERDICTS:
                raise ConfigError(f"sink.errors.{code}", verdict, f"must be one of {', '.join(_VERDICTS)}")
            self._rules[code] = Rule(code, _VERDICTS[verdict], _OVERRULED)

    def rule(self, name: str, number: int) -> Rule:
        """The rule of this code itself, else of its family."""
        return self._rules.get(name) or self._rules.get(_FAMILIES.get(number & 0xFF, "")) or _UNKNOWN

    def classify(self, error: Exception, table: str | None = None) -> MicrobatchError:
        """Turn what sqlite3 raised while it worked on `table` into an instruction."""
        if not isinstance(error, sqlite3.Error):  # OverflowError, UnicodeEncodeError: a value that cannot be bound
            return RejectedError(f"a value cannot be stored ({type(error).__name__})", table=table)
        number: int | None = getattr(error, "sqlite_errorcode", None)
        if number is None:  # raised before SQLite was asked: the parameters
            return RejectedError(f"a value cannot be bound ({type(error).__name__})", table=table)
        code = _name(error)
        rule = self.rule(code, number)
        if rule.verdict is Verdict.REJECT:
            return _rejected(error, code, table)
        if rule.verdict is Verdict.RETRY:
            return UnavailableError(f"SQLite: {_message(error, code)} ({code})")
        return FatalError(f"SQLite: {_message(error, code)} ({code})", rule.why)


def _name(error: sqlite3.Error) -> str:
    """SQLite's name of the result code; of its family where Python does not know the exact one."""
    known: str = error.sqlite_errorname
    return known if known != "unknown" else _FAMILIES.get(error.sqlite_errorcode & 0xFF, str(error.sqlite_errorcode))


def _message(error: sqlite3.Error, code: str) -> str:
    # RAISE() has the text of the user's trigger, which may hold values.
    return "a trigger refused the row" if code == "SQLITE_CONSTRAINT_TRIGGER" else str(error)


def _rejected(error: sqlite3.Error, code: str, table: str | None) -> RejectedError:
    message = _message(error, code)
    kind, found, rest = message.partition(" constraint failed: ")
    constraint = rest if found and kind in {"CHECK", "UNIQUE"} else None
    column = rest.rpartition(".")[2] if found and kind == "NOT NULL" else None
    return RejectedError(message, code, table, column, constraint)

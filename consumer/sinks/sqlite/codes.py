"""What a failure of SQLite asks for: one table of result codes (https://sqlite.org/rescode.html).

Reasons carry SQLite's message only where it is made of the schema's own names; never a value.
"""

from __future__ import annotations

import sqlite3

from consumer.errors import FatalError, MicrobatchError, RejectedError, UnavailableError

_REPORT = "This is a defect of microbatch; report it."
_SCHEMA = "Create or correct the table, or correct the configuration; `microbatch check` says what differs."
_UNAVAILABLE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_INTERRUPT,
}
_REJECTED = {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE}
_FATAL = {
    sqlite3.SQLITE_ERROR: _SCHEMA,
    sqlite3.SQLITE_SCHEMA: _SCHEMA,
    sqlite3.SQLITE_READONLY: "Give the daemon's user write access to the file and its folder.",
    sqlite3.SQLITE_PERM: "Give the daemon's user write access to the file and its folder.",
    sqlite3.SQLITE_AUTH: "Give the daemon's user write access to the file and its folder.",
    sqlite3.SQLITE_CORRUPT: "The file is damaged: stop everything that uses it, and recover or restore it.",
    sqlite3.SQLITE_NOTADB: "The file is no SQLite database, or encrypted: correct sink.dsn.",
    sqlite3.SQLITE_NOLFS: "The file system cannot hold files of this size: move the database.",
}


def classify(error: Exception, table: str | None = None) -> MicrobatchError:
    """Turn what sqlite3 raised while it worked on `table` into an instruction."""
    if not isinstance(error, sqlite3.Error):  # OverflowError, UnicodeEncodeError: a value that cannot be bound
        return RejectedError(f"a value cannot be stored ({type(error).__name__})", table=table)
    code: int | None = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised before SQLite was asked: the parameters
        return RejectedError(f"a value cannot be bound ({type(error).__name__})", table=table)
    primary = code & 0xFF
    if primary in _UNAVAILABLE:
        return UnavailableError(f"SQLite: {error} ({name(error)})")
    if primary in _REJECTED:
        return _rejected(error, table)
    return FatalError(f"SQLite: {error} ({name(error)})", _FATAL.get(primary, _REPORT))


def name(error: sqlite3.Error) -> str:
    """SQLite's name of the result code; of its family where Python does not know the exact one."""
    known: str = error.sqlite_errorname
    return known if known != "unknown" else _FAMILIES.get(error.sqlite_errorcode & 0xFF, str(error.sqlite_errorcode))


def _rejected(error: sqlite3.Error, table: str | None) -> RejectedError:
    state, message = name(error), str(error)
    kind, found, rest = message.partition(" constraint failed: ")
    if state == "SQLITE_CONSTRAINT_TRIGGER":  # RAISE() with text of the user's, which may hold values
        message = "a trigger refused the row"
    constraint = rest if found and kind in {"CHECK", "UNIQUE"} else None
    column = rest.rpartition(".")[2] if found and kind == "NOT NULL" else None
    return RejectedError(message, state, table, column, constraint)


_FAMILIES = {
    getattr(sqlite3, family): family
    for family in ("SQLITE_CONSTRAINT", "SQLITE_IOERR", "SQLITE_BUSY", "SQLITE_CANTOPEN", "SQLITE_READONLY")
}

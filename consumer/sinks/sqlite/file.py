"""The database's file: found, opened, and told from another at the same path."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from consumer.errors import FatalError


def identity(path: Path) -> tuple[int, int]:
    """What tells this file from another of that name. Raises FatalError when there is none."""
    try:
        found = path.stat()
    except OSError as error:
        hint = "Create it with its tables (`sqlite3 FILE < schema.sql`), or correct sink.dsn."
        raise FatalError(f"SQLite: the database file {path} cannot be opened: {error.strerror}", hint) from None
    return found.st_dev, found.st_ino


def connect(path: Path, busy_timeout: float) -> sqlite3.Connection:
    """Open an existing file: WAL, every commit on disk, foreign keys enforced, no transaction unless asked for.

    Raises FatalError when the file system cannot have WAL, and what sqlite3 raises.
    """
    # Not made here: an empty file would only hide a wrong path. One thread at a time uses it, not always the same.
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=busy_timeout, check_same_thread=False
    )
    try:
        (mode,) = connection.execute("pragma journal_mode = wal").fetchone()
        connection.execute("pragma synchronous = full")  # NORMAL loses commits at a power cut
        connection.execute("pragma foreign_keys = on")
    except sqlite3.Error:
        connection.close()
        raise
    if mode != "wal":
        connection.close()
        hint = "Put the file on a local disk: WAL needs memory shared between processes."
        raise FatalError(f"SQLite: {path} cannot have a write-ahead log (journal mode {mode})", hint)
    return connection

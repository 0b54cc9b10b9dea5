"""What would fail later, said before: one sentence each, with what to do."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from consumer.errors import FatalError
from consumer.sinks.sqlite.schema import breaks_a_key, deferring, describe
from consumer.sinks.sqlite.write import faults
from consumer.table import Kind, Target


def advice(connection: sqlite3.Connection, path: Path, targets: Sequence[Target]) -> list[str]:
    """See Sink.check. Raises what sqlite3 raises."""
    found = [
        f"{needed} cannot be written: give this user write access to it, because SQLite also writes beside the file."
        for needed in (path, path.parent)
        if not os.access(needed, os.W_OK)
    ]
    for target in targets:
        found += [f"Table {target.table}: {sentence}." for sentence in _of(connection, target)]
    return found


def _of(connection: sqlite3.Connection, target: Target) -> Iterator[str]:
    try:
        table = describe(connection, target.table)
    except FatalError:
        yield "it is not there: create it, or correct its name in sink.tables"
        return
    yield from faults(table, target)
    for column in table.columns.values():
        if column.kind is Kind.OTHER:
            yield (
                f"column {column.name} has the type {column.type_name}, with which SQLite may change values: "
                "leave it out of the mapping, or declare a known type"
            )
    for referring in deferring(connection, table.name):
        yield (
            f"the foreign key of {referring} is deferred, so that every write here reads all of {referring}: "
            "declare it without DEFERRED if that table grows"
        )
        if breaks_a_key(connection, referring):
            yield f"rows of {referring} refer to rows that are not there: every write will fail until they are mended"

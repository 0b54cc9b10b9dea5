"""What to do about dead letters of a kind, as data: a sentence for each stage, and for what a database refuses."""

from __future__ import annotations

_STAGES = {
    "decode": "The bytes are not what `format` says: give it the schema that their producer writes with, then replay.",
    "map": "They make no rows: correct the columns, the key's format or the transform, or replay with a fix function.",
    "write": "The table does not take them: correct the table, or replay with a fix function.",
}
_TRIGGER = "A trigger refuses them: correct it and replay, or replay with a fix function."
_CONSTRAINT = "A constraint refuses them: correct it and replay, or replay with a fix function."
# By SQLSTATE, its class, or the beginning of SQLite's name: the longest that fits.
_STATES = {
    "09": _TRIGGER,
    "10": _TRIGGER,
    "20": _TRIGGER,
    "23": _CONSTRAINT,
    "27": _TRIGGER,
    "22": "A value does not fit its column: widen the column, or replay with a fix function.",
    "22001": "A text is longer than its column: widen the column, or replay with a fix function.",
    "22003": "A number is outside its column's range: take a wider type, or replay with a fix function.",
    "22P02": "A text has not the form of its column's type: correct the column, or replay with a fix function.",
    "23502": "A column wants a value: give it a default, or let it be null, then replay.",
    "23503": "They refer to rows that are not there: load those, then replay; `sink.errors` can make them wait.",
    "23505": "Such a row is there already: discard them, or set `mode: upsert` and replay.",
    "23514": "A check refuses them: correct the check and replay, or replay with a fix function.",
    "23P01": "They overlap rows that are there: discard them, or replay with a fix function.",
    "40002": "A constraint refuses them at the end of the transaction: load what it asks for, then replay.",
    "44": "The view does not show such rows: write into its table, or replay with a fix function.",
    "54": "A value is too large for the database: replay with a fix function, or discard them.",
    "P0": _TRIGGER,
    "SQLITE_CONSTRAINT": _CONSTRAINT,
    "SQLITE_CONSTRAINT_CHECK": "A check refuses them: correct the check and replay, or replay with a fix function.",
    "SQLITE_CONSTRAINT_FOREIGNKEY": "They refer to rows that are not there: load those, then replay.",
    "SQLITE_CONSTRAINT_NOTNULL": "A column wants a value: give it a default, or let it be null, then replay.",
    "SQLITE_CONSTRAINT_PRIMARYKEY": "Such a row is there already: discard them, or set `mode: upsert` and replay.",
    "SQLITE_CONSTRAINT_UNIQUE": "Such a row is there already: discard them, or set `mode: upsert` and replay.",
    "SQLITE_MISMATCH": "A value has a type that its column does not take: correct the column, then replay.",
    "SQLITE_TOOBIG": "A value is too large for the database: replay with a fix function, or discard them.",
}


def remedy(stage: str, sqlstate: str | None) -> str:
    """What to do about records that failed there, for that reason."""
    fitting = [state for state in _STATES if sqlstate and sqlstate.startswith(state)]
    if stage == "write" and fitting:
        return _STATES[max(fitting, key=len)]
    return _STAGES.get(stage, _STAGES["write"])

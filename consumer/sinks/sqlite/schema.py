"""What a SQLite table holds, read from its PRAGMAs, and what its declared types mean here.

SQLite's column types only suggest (https://sqlite.org/datatype3.html). A Kind is given only where every value of it
is stored so that it reads back equal:

| declared                            | Kind        | stored as                                                      |
|-------------------------------------|-------------|----------------------------------------------------------------|
| ..INT..                             | INTEGER     | integer, 64 bits                                               |
| ..CHAR.., ..CLOB.., ..TEXT..        | TEXT        | text                                                           |
| ..BLOB.., BINARY, VARBINARY, BYTEA  | BYTES       | blob                                                           |
| ..REAL.., ..FLOA.., ..DOUB..        | FLOAT       | real; NaN, which SQLite would turn into NULL, is refused       |
| BOOL, BOOLEAN                       | BOOLEAN     | 0 or 1                                                         |
| NUMERIC, DECIMAL                    | DECIMAL     | integer or real, where equal; more digits are refused          |
| DECIMAL TEXT                        | DECIMAL     | text, any number of digits                                     |
| DATE                                | DATE        | text, `2024-02-29`                                             |
| TIME                                | TIME        | text, `23:59:59.000001`                                        |
| DATETIME, TIMESTAMP, TIMESTAMPTZ    | TIMESTAMPTZ | text in UTC, `2024-02-29 23:59:59.000001+00:00`               |
| UUID                                | UUID        | text, 36 characters                                            |
| JSON, JSONB                         | JSON        | JSON text                                                      |
| no type; ANY in a STRICT table      | JSON        | numbers and strings as they are, true as 1, the rest JSON text |
| anything else                       | OTHER       | cannot be written: SQLite would turn the text 007 into 7       |
"""

from __future__ import annotations

import sqlite3
from dataclasses import replace

from consumer.errors import FatalError
from consumer.table import Column, Kind, Table

_NAMED = {
    "BOOL": Kind.BOOLEAN,
    "BOOLEAN": Kind.BOOLEAN,
    "NUMERIC": Kind.DECIMAL,
    "DECIMAL": Kind.DECIMAL,
    "DATE": Kind.DATE,
    "TIME": Kind.TIME,
    "DATETIME": Kind.TIMESTAMPTZ,
    "TIMESTAMP": Kind.TIMESTAMPTZ,
    "TIMESTAMPTZ": Kind.TIMESTAMPTZ,
    "UUID": Kind.UUID,
    "JSON": Kind.JSON,
    "JSONB": Kind.JSON,
    "BINARY": Kind.BYTES,
    "VARBINARY": Kind.BYTES,
    "BYTEA": Kind.BYTES,
    "": Kind.JSON,
}
_PARTS = (
    ("INT", Kind.INTEGER),
    ("CHAR", Kind.TEXT),
    ("CLOB", Kind.TEXT),
    ("TEXT", Kind.TEXT),
    ("BLOB", Kind.BYTES),
    ("REAL", Kind.FLOAT),
    ("FLOA", Kind.FLOAT),
    ("DOUB", Kind.FLOAT),
)
_COLUMNS = (
    'select name, type, "notnull", dflt_value is not null, pk, hidden from pragma_table_xinfo(?) where hidden <> 1'
)
_STRICT = "select strict from pragma_table_list where schema = 'main' and name = ? collate nocase"
_INDEXES = (
    "select name, origin, partial from pragma_index_list(?) where \"unique\" order by origin = 'pk' desc, seq desc"
)
_INDEX = "select name from pragma_index_info(?) order by seqno"
# Only the table's text tells whether a foreign key is deferred; a word too many costs time, not truth.
_DEFERRED = """
select c.name from sqlite_schema c
where c.type = 'table' and c.sql like '%initially%deferred%'
  and exists (select 1 from pragma_foreign_key_list(c.name) f where lower(?) in (lower(c.name), lower(f."table")))
"""


def describe(connection: sqlite3.Connection, table: str) -> Table:
    """The table as it is now. Raises FatalError when there is none, and what sqlite3 raises."""
    found = connection.execute(_COLUMNS, [table]).fetchall()
    if not found:
        raise FatalError(f"SQLite: there is no table {table}", f"Create it, or correct sink.tables ({table}).")
    strict = bool((connection.execute(_STRICT, [table]).fetchone() or [0])[0])
    primary = tuple(row[0] for row in sorted(found, key=lambda row: row[4]) if row[4])
    keys = [primary] if primary else []
    indexed = False
    for index, origin, partial in connection.execute(_INDEXES, [table]).fetchall():
        indexed = indexed or origin == "pk"
        names = tuple(row[0] for row in connection.execute(_INDEX, [index]))
        if not partial and None not in names and names not in keys:  # None: an expression
            keys.append(names)
    columns = {
        row[0]: _column(row[0], row[1], not row[2] and not row[4], bool(row[3]), row[5], strict) for row in found
    }
    if len(primary) == 1 and not indexed and columns[primary[0]].type_name.upper() == "INTEGER":
        # The rowid by another name: SQLite numbers the row that gives none (https://sqlite.org/lang_createtable.html).
        columns[primary[0]] = replace(columns[primary[0]], nullable=True, has_default=True)
    return Table(table, columns, tuple(keys))


def stored_as_text(column: Column) -> bool:
    """Whether SQLite gives the column TEXT affinity: whatever it is given stays the same text."""
    declared = column.type_name.upper()
    return "INT" not in declared and any(part in declared for part in ("CHAR", "CLOB", "TEXT"))


def stored_as_is(column: Column) -> bool:
    """Whether the column takes any value without turning it into another: no type, or ANY in a STRICT table."""
    return column.kind is Kind.JSON and column.type_name.upper() in {"", "ANY"}


def deferring(connection: sqlite3.Connection, table: str) -> tuple[str, ...]:
    """The tables with foreign keys, from or to this table, that SQLite may check only at COMMIT."""
    return tuple(row[0] for row in connection.execute(_DEFERRED, [table]))


def breaks_a_key(connection: sqlite3.Connection, table: str) -> bool:
    """Whether any row of the table refers to a row that is not there; reads all of the table."""
    return connection.execute("select 1 from pragma_foreign_key_check(?) limit 1", [table]).fetchone() is not None


def _column(name: str, declared: str, nullable: bool, has_default: bool, hidden: int, strict: bool) -> Column:
    kind = _kind(declared.upper(), strict)
    bounds = (-(2**63), 2**63 - 1) if kind is Kind.INTEGER else (None, None)
    return Column(name, kind, declared, nullable, has_default, hidden == 0, *bounds)


def _kind(declared: str, strict: bool) -> Kind:
    if strict and declared == "ANY":
        return Kind.JSON
    first = declared.replace("(", " ").split(" ")[0]
    if first in _NAMED:
        return _NAMED[first]
    return next((kind for part, kind in _PARTS if part in declared), Kind.OTHER)

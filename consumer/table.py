"""Tables as sinks describe them, targets as the user configures them, and rows on their way into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from consumer.vector import Vector

Row = tuple[Any, ...]


class Kind(StrEnum):
    """What a column holds, whatever its database calls it. In brackets: the Python type of its values in rows."""

    BOOLEAN = "boolean"  # bool
    INTEGER = "integer"  # int, within Column.minimum and maximum
    FLOAT = "float"  # float
    DECIMAL = "decimal"  # decimal.Decimal
    TEXT = "text"  # str
    BYTES = "bytes"  # bytes
    DATE = "date"  # datetime.date
    TIME = "time"  # datetime.time, naive
    TIMETZ = "timetz"  # datetime.time, aware
    TIMESTAMP = "timestamp"  # datetime.datetime, naive
    TIMESTAMPTZ = "timestamptz"  # datetime.datetime, aware
    INTERVAL = "interval"  # datetime.timedelta
    UUID = "uuid"  # uuid.UUID
    JSON = "json"  # anything that JSON can hold
    ENUM = "enum"  # str, one of Column.labels
    ARRAY = "array"  # list of what Column.item holds
    OTHER = "other"  # cannot be written


# The kinds of which one column takes whatever another one does.
PLAIN = frozenset(
    {
        Kind.BOOLEAN,
        Kind.TEXT,
        Kind.BYTES,
        Kind.DATE,
        Kind.TIME,
        Kind.TIMETZ,
        Kind.TIMESTAMP,
        Kind.TIMESTAMPTZ,
        Kind.INTERVAL,
        Kind.UUID,
    }
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `type_name` is the database's own name of its type, for messages to users.

    `minimum` and `maximum` bound INTEGER, and FLOAT of less than 64 bits. `writable` is False where the database
    generates the value always. `has_default`: a row may leave it out.
    """

    name: str
    kind: Kind
    type_name: str
    nullable: bool = True
    has_default: bool = False
    writable: bool = True
    minimum: float | None = None
    maximum: float | None = None
    labels: tuple[str, ...] = ()
    item: Column | None = None

    def takes(self, known: Column) -> bool:
        """Whether each value that `known` allows is taken here as it is, but for what text may not contain."""
        return (
            known.kind is self.kind
            and (self.nullable or not known.nullable)
            and (self.kind in PLAIN or (self.kind in _TAKES and _TAKES[self.kind](self, known)))
        )


def _within(column: Column, known: Column) -> bool:
    low, high = column.minimum, column.maximum
    return (low is None or (known.minimum is not None and known.minimum >= low)) and (
        high is None or (known.maximum is not None and known.maximum <= high)
    )


# Beside PLAIN. Not here: the kinds whose values are converted on their way, or tell only one by one whether they fit.
_TAKES: dict[Kind, Callable[[Column, Column], bool]] = {
    Kind.INTEGER: _within,
    Kind.FLOAT: lambda column, _: column.maximum is None,  # else what rounds to infinity must be found
    Kind.ENUM: lambda column, known: bool(known.labels) and set(known.labels) <= set(column.labels),
}


@dataclass(frozen=True, slots=True)
class Table:
    """A table as the sink found it. `keys` are the column sets that the database holds unique, primary key first."""

    name: str
    columns: Mapping[str, Column]
    keys: tuple[tuple[str, ...], ...] = ()


class Mode(StrEnum):
    """What a row does to its table."""

    INSERT = "insert"  # one more row
    UPSERT = "upsert"  # the row of that key becomes this one; the last of a batch wins
    INCREMENT = "increment"  # numbers are added to the row of that key; a missing row starts with them
    DELETE = "delete"  # the row of that key goes


@dataclass(frozen=True, slots=True)
class Target:
    """How one table is written. `key` names columns that are unique together; empty: the table's primary key.

    `add`: the columns that INCREMENT adds up (all others of the row are its key, or are set by the last record).
    `version`: UPSERT and DELETE change a row only if this column of it is not newer; equal is written again.
    """

    table: str
    mode: Mode = Mode.INSERT
    key: tuple[str, ...] = ()
    add: tuple[str, ...] = ()
    version: str | None = None


class Deferred(Sequence[Row]):
    """So many rows, made when somebody looks at one of them."""

    def __init__(self, count: int, make: Callable[[], Sequence[Row]]) -> None:
        self._count, self._make = count, make
        self._rows: Sequence[Row] | None = None

    def _made(self) -> Sequence[Row]:
        if self._rows is None:
            self._rows = self._make()
        return self._rows

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Row]:
        return iter(self._made())

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        return self._made()[index]


@dataclass(slots=True)
class TableRows:
    """Rows for one table, in record order, all with the same columns; what `Sink.apply` writes.

    `ordinals[i]` is the index in its batch of the record that row i came from: ascending, repeated where a record has
    several rows. `deletes[i]` says that row i deletes its key (only its key columns count); None: no row does.
    `known[i]`: what each value of column i is known to be, by whoever made it; None, or nothing: to be looked at.
    `vectors`: the same values by column, for sinks that write those; where they are, `rows` are made when asked for.
    `prepared`: what the sink made of them before it was their turn.
    """

    table: str
    columns: tuple[str, ...]
    rows: Sequence[Row]
    ordinals: Sequence[int]
    deletes: list[bool] | None = None
    known: tuple[Column | None, ...] = ()
    vectors: tuple[Vector, ...] = ()
    prepared: Any = None

    def only(self, places: Mapping[int, int]) -> TableRows:
        """The rows of these records, by ordinal, each with the ordinal given for it."""
        kept = [index for index, ordinal in enumerate(self.ordinals) if ordinal in places]
        return TableRows(
            self.table,
            self.columns,
            [self.rows[index] for index in kept],
            [places[self.ordinals[index]] for index in kept],
            self.deletes and [self.deletes[index] for index in kept],
            self.known,
        )

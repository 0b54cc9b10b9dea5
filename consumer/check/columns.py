"""Whether a table's columns exist and can take what the records hold, as far as the configuration tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from consumer.config import AvroFormat, Constant, Format, JsonFormat, KeepIn, Settings, TableSettings
from consumer.decode.avro_schema import load
from consumer.decode.avro_types import Array, Enum, Fixed, Map, Primitive, Record, Type, Union
from consumer.errors import ConfigError
from consumer.table import Column, Kind, Table

_NUMBER = {Kind.INTEGER, Kind.FLOAT, Kind.DECIMAL, Kind.JSON}
_TIMES = {Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.JSON}
# Which kinds of columns can take which Avro types: at least some values of them, for others are refused by record.
FITS: dict[str, set[Kind]] = {
    "boolean": {Kind.BOOLEAN, Kind.JSON},
    "int": _NUMBER,
    "long": _NUMBER,
    "float": _NUMBER,
    "double": _NUMBER,
    "decimal": _NUMBER,
    "bytes": {Kind.BYTES, Kind.JSON},
    "string": set(Kind) - {Kind.BYTES, Kind.ARRAY, Kind.OTHER},
    "enum": {Kind.TEXT, Kind.ENUM, Kind.JSON},
    "array": {Kind.ARRAY, Kind.JSON},
    "map": {Kind.JSON},
    "record": {Kind.JSON},
    "date": {Kind.DATE, Kind.JSON},
    "time-millis": {Kind.TIME, Kind.JSON},
    "time-micros": {Kind.TIME, Kind.JSON},
    "timestamp-millis": _TIMES,
    "timestamp-micros": _TIMES,
    "local-timestamp-millis": {Kind.TIMESTAMP, Kind.JSON},
    "local-timestamp-micros": {Kind.TIMESTAMP, Kind.JSON},
    "uuid": {Kind.UUID, Kind.JSON},
}
Fields = Mapping[str, Type]


def schemas_of(settings: Format) -> list[Fields]:
    """The top-level fields that values have, by each schema; none where that is not known."""
    if not isinstance(settings, AvroFormat):
        return []
    paths = [settings.reader or settings.schema_file, *({} if settings.reader else settings.schemas or {}).values()]
    try:
        trees = [load(path, "format") for path in paths if path]
    except ConfigError:
        return []
    records = [tree for tree in trees if isinstance(tree, Record)]
    return [{field.name: field.type for field in record.fields if field.name} for record in records]


def faults_of(settings: Settings, rules: TableSettings, table: Table, schemas: Sequence[Fields]) -> Iterator[str]:
    """One sentence each, with what to do."""
    yield from _named(rules, table)
    yield from _typed(rules, table, schemas)
    yield from _required(settings, rules, table, schemas)


def _named(rules: TableSettings, table: Table) -> Iterator[str]:
    """Columns that the configuration names."""
    named = {name: "columns" for name in rules.columns} | {name: "select" for name in rules.select or ()}
    if isinstance(rules.unknown, KeepIn):
        named[rules.unknown.column] = "unknown"
    renamed = {source for source in rules.columns.values() if isinstance(source, str)}
    for name, setting in named.items():
        column = table.columns.get(name)
        if column is None:
            if setting != "select" or name not in renamed:
                yield f"it has no column {name}, which `{setting}` names: correct one of them"
        elif not column.writable:
            yield f"the database generates column {name} always: leave it out of `{setting}`"
        elif column.kind is Kind.OTHER:
            yield f"column {name} is {column.type_name}, which cannot be written: leave it out of `{setting}`"


def _typed(rules: TableSettings, table: Table, schemas: Sequence[Fields]) -> Iterator[str]:
    """Fields of the schemas against the columns that they go to."""
    for column in table.columns.values():
        if column.kind is Kind.OTHER or not column.writable:
            continue
        source = _source(rules, column)
        name = source.removeprefix("$value.") if source else ""
        for fields in schemas:
            if name in fields and (kind := type_of(fields[name])) in FITS and column.kind not in FITS[kind]:
                yield (
                    f"field {name} is {kind}, and column {column.name} is {column.type_name}, which takes none of it: "
                    "change the column, or convert the field in a transform"
                )


def _required(settings: Settings, rules: TableSettings, table: Table, schemas: Sequence[Fields]) -> Iterator[str]:
    """Columns that must have a value, and get none."""
    kept = rules.unknown.column if isinstance(rules.unknown, KeepIn) else None
    has_fields = isinstance(settings.format, JsonFormat | AvroFormat)
    for column in table.columns.values():
        if column.nullable or column.has_default or not column.writable or column.name == kept:
            continue
        source = _source(rules, column)
        if source is None or not (has_fields or column.name in rules.columns):
            yield f"column {column.name} must have a value, and gets none: give it a source in `columns`, or a default"
        elif not source.startswith("$") and not all(
            {source, source.split(".")[0]} & fields.keys() for fields in schemas
        ):
            yield f"column {column.name} must have a value, and the schema has no field {source}: map it in `columns`"


def _source(rules: TableSettings, column: Column) -> str | None:
    """What feeds a column: the text of its source, or the field of its name; None: nothing."""
    source = rules.columns.get(column.name)
    if isinstance(source, Constant):
        return "$constant"
    if source is not None:
        return source
    return column.name if rules.select is None or column.name in rules.select else None


def type_of(part: Type) -> str:
    """The name of an Avro type as in FITS, of an optional one that of its only branch; "" where it may be several."""
    match part:
        case Union():
            names = {type_of(branch) for branch in part.branches} - {"null"}
            return names.pop() if len(names) == 1 else ""
        case Primitive() | Fixed():
            kind = "bytes" if isinstance(part, Fixed) else part.kind
            return part.logical.name if part.logical else kind
        case Enum():
            return "enum"
        case Array():
            return "array"
        case Map():
            return "map"
        case Record():
            return "record"
    return ""

"""Avro readers as generated Python: one function a schema, which reads a whole batch and checks every byte.

Why not fastavro, which reads the same formats: it takes -1 for the index of the last branch or symbol and ints beyond
32 bits, ignores what follows the value, and overruns the C stack on nested records. After the fact most of that cannot
be told, so a second pass over the bytes would be needed; and it calls `read()` on a file object for every byte, so that
code which indexes `bytes` takes two thirds of its time, checks included.

How the code stays safe: every item of an array takes at least a byte (see `avro_schema`), so counts are bounded by the
payload; a position beyond the payload raises IndexError at the next read, or differs from the payload's length at the
end; slices never reach beyond it. Records call one another as Python functions: that ends in RecursionError, never in
an overrun stack. Schemas come into the code only as integers and `repr` of str.
"""

from __future__ import annotations

import datetime
import struct
import uuid
from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from typing import Any

from msgspec import UNSET

from consumer.decode import avro_values as values
from consumer.decode.avro_types import (
    Array,
    Enum,
    Fixed,
    Logical,
    Map,
    Never,
    Primitive,
    Record,
    Type,
    Union,
)

Reader = Callable[[Sequence[bytes], int], list[Any]]
"""Reads payloads from an index on: one value each."""

_MAX_INLINE_DEPTH = 5  # Python allows 20 nested loops in a function, and 100 levels of indentation
_NAMES: dict[str, Any] = {
    "UNSET": UNSET,
    "block": values.block,
    "copy": deepcopy,
    "date": datetime.date.fromordinal,
    "double": struct.Struct("<d").unpack_from,
    "ended_wrong": values.ended_wrong,
    "epoch": values.EPOCH,
    "first_day": values.FIRST_DAY,
    "float32": struct.Struct("<f").unpack_from,
    "length": values.length,
    "local_epoch": values.LOCAL_EPOCH,
    "microsecond": values.MICROSECOND,
    "millisecond": values.MILLISECOND,
    "negative": values.negative,
    "number": values.number,
    "refuse": values.refuse,
    "time_of": values.time_of,
    "truncated": values.truncated,
    "UUID": uuid.UUID,
    "uuid_of": values.uuid_of,
}
_LOGICAL = {
    "date": "date({0} + first_day)",
    "time-millis": "time_of({0}, millisecond)",
    "time-micros": "time_of({0}, microsecond)",
    "timestamp-millis": "epoch + millisecond * {0}",
    "timestamp-micros": "epoch + microsecond * {0}",
    "local-timestamp-millis": "local_epoch + millisecond * {0}",
    "local-timestamp-micros": "local_epoch + microsecond * {0}",
    "uuid": "uuid_of({0})",
}
_PROMOTE = {"float": "float({0})", "double": "float({0})", "bytes": "{0}.encode()", "string": "{0}.decode()"}


def value_reader(schema: Type) -> Reader:
    """Reads whole values; records are dicts."""
    return _Writer(schema).reader(None)


def row_reader(schema: Record, names: tuple[str, ...]) -> Reader:
    """Reads records as tuples of these fields; UNSET where the schema has no such field."""
    return _Writer(schema).reader(names)


def dict_maker(names: Sequence[str]) -> Callable[[Iterable[Iterable[Any]]], list[dict[str, Any]]]:
    """Makes a dict a record from columns of these names: code takes half the time of `dict(zip(names, row))`."""
    values = [f"v{at}" for at in range(len(names))]
    pairs = ", ".join(f"{name!r}: {value}" for name, value in zip(names, values, strict=True))
    source = f"lambda columns: [{{{pairs}}} for {', '.join(values)}, in zip(*columns, strict=True)]"
    return eval(compile(source, "<Avro dicts>", "eval"))  # type: ignore[no-any-return]  # noqa: S307 - see above


class _Writer:
    """Writes the source of one reader and compiles it."""

    def __init__(self, schema: Type) -> None:
        self._schema = schema
        self._names = dict(_NAMES)
        self._functions: list[str] = []
        self._records: dict[int, str] = {}
        self._lines: list[str] = []
        self._count = 0

    def reader(self, names: tuple[str, ...] | None) -> Reader:
        self._line(0, "def read(payloads, start):")
        self._line(1, "out = []")
        self._line(1, "add = out.append")
        self._line(1, "for data in payloads:")
        self._line(2, "p = start")
        if isinstance(self._schema, Record):
            result = self._record(self._schema, 2, names)
        else:
            result = self._new("v")
            self._value(self._schema, result, 2, 0)
        self._line(2, "if p != len(data): ended_wrong(p, len(data))")
        self._line(2, f"add({result})")
        self._line(1, "return out")
        source = "\n".join([*self._functions, *self._lines])
        exec(compile(source, "<Avro reader>", "exec"), self._names)  # noqa: S102 - see above
        read: Reader = self._names["read"]
        return read

    def _line(self, indent: int, text: str) -> None:
        self._lines.append("    " * indent + text)

    def _new(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def _constant(self, value: Any) -> str:
        name = self._new("constant_")
        self._names[name] = value
        return name

    def _record(self, record: Record, indent: int, names: tuple[str, ...] | None) -> str:
        """Code for the fields; an expression for the record, or for the tuple of `names`."""
        found: dict[str, str] = {}
        for part in record.fields:
            target = self._new("v")
            self._value(part.type, target, indent, 0)
            if part.name is not None:
                found[part.name] = target
        for name, value in record.constants.items():
            constant = self._constant(value)
            found[name] = f"copy({constant})" if isinstance(value, list | dict) else constant
        if names is None:
            return "{" + ", ".join(f"{name!r}: {found[name]}" for name in record.names()) + "}"
        return "(" + "".join(f"{found.get(name, 'UNSET')}, " for name in names) + ")"

    def _value(self, part: Type, target: str, indent: int, depth: int) -> None:
        """Code that reads a value at `p` into the variable `target`."""
        match part:
            case Record():
                self._line(indent, f"{target}, p = {self._record_function(part)}(data, p)")
            case Array() | Map() | Union() if depth >= _MAX_INLINE_DEPTH:
                self._line(indent, f"{target}, p = {self._function(part)}(data, p)")
            case Primitive():
                self._primitive(part, target, indent)
            case Fixed():
                self._fixed(part, target, indent)
            case Enum():
                self._enum(part, target, indent)
            case Union():
                self._union(part, target, indent, depth)
            case Array():
                self._array(part, target, indent, depth)
            case Map():
                self._map(part, target, indent, depth)
            case Never():
                self._line(indent, f"refuse({part.reason!r})")

    def _record_function(self, record: Record) -> str:
        if id(record) not in self._records:
            self._records[id(record)] = self._new("record_")
            self._define(self._records[id(record)], lambda: self._record(record, 1, None))
        return self._records[id(record)]

    def _function(self, part: Type) -> str:
        name, target = self._new("read_"), self._new("v")

        def body() -> str:
            self._value(part, target, 1, 0)
            return target

        self._define(name, body)
        return name

    def _define(self, name: str, body: Callable[[], str]) -> None:
        outer, self._lines = self._lines, []
        self._line(0, f"def {name}(data, p):")
        result = body()
        self._line(1, f"return {result}, p")
        self._functions += self._lines
        self._lines = outer

    def _number(self, target: str, indent: int, inline_bytes: int) -> None:
        """Code for a variable-length number, without zig-zag: so many bytes without a call of `number`."""
        self._line(indent, f"{target} = data[p]")
        self._line(indent, f"if {target} < 128: p += 1")
        continuation = 128  # the continuation bits of the bytes that are added so far
        for at in range(1, inline_bytes):
            self._line(indent, "else:")
            indent += 1
            self._line(indent, f"b = data[p + {at}]")
            self._line(indent, f"{target} += b << {7 * at}")
            self._line(indent, f"if b < 128: {target} -= {continuation}; p += {at + 1}")
            continuation += 128 << (7 * at)
        self._line(indent, f"else: {target}, p = number(data, p + 1, data[p])")

    def _index(self, target: str, indent: int) -> None:
        self._line(indent, f"{target} = data[p]")
        self._line(indent, "p += 1")
        self._line(indent, f"if {target} > 127: {target}, p = number(data, p, {target})")

    def _bytes(self, target: str, indent: int, suffix: str = "") -> None:
        self._line(indent, "n = data[p]")
        self._line(indent, "p += 1")
        self._line(indent, "if n > 127: n, p = length(data, p, n)")
        self._line(indent, "elif n & 1: negative()")
        self._line(indent, "q = p + (n >> 1)")
        self._line(indent, f"{target} = data[p:q]{suffix}")
        self._line(indent, "p = q")

    def _primitive(self, part: Primitive, target: str, indent: int) -> None:
        match part.kind:
            case "null":
                self._line(indent, f"{target} = None")
            case "boolean":
                self._line(indent, f"{target} = data[p]")
                self._line(indent, f"if {target} > 1: refuse('a boolean that is neither 0 nor 1')")
                self._line(indent, f"{target} = {target} == 1")
                self._line(indent, "p += 1")
            case "int" | "long":
                self._number(target, indent, 9 if part.kind == "long" else 5)
                if part.kind == "int":
                    self._line(indent, f"if {target} > 0xFFFFFFFF: refuse('an int of more than 32 bits')")
                self._line(indent, f"{target} = ~({target} >> 1) if {target} & 1 else {target} >> 1")
            case "float" | "double":
                name, size = ("float32", 4) if part.kind == "float" else ("double", 8)
                self._line(indent, f"{target}, = {name}(data, p)")
                self._line(indent, f"p += {size}")
            case _:
                self._bytes(target, indent, ".decode()" if part.kind == "string" else "")
        if part.promote is not None:
            self._line(indent, f"{target} = {_PROMOTE[part.promote].format(target)}")
        self._logical(part.logical, target, indent)

    def _logical(self, logical: Logical | None, target: str, indent: int) -> None:
        if logical is None:
            return
        if logical.name == "decimal":
            reader = self._constant(values.DecimalReader(logical))
            self._line(indent, f"{target} = {reader}({target})")
        else:
            self._line(indent, f"{target} = {_LOGICAL[logical.name].format(target)}")

    def _fixed(self, part: Fixed, target: str, indent: int) -> None:
        self._line(indent, f"q = p + {part.size}")
        self._line(indent, "if q > len(data): truncated()")
        self._line(indent, f"{target} = data[p:q]")
        self._line(indent, "p = q")
        if part.logical is not None and part.logical.name == "uuid":
            self._line(indent, f"{target} = UUID(bytes={target})")
        else:
            self._logical(part.logical, target, indent)

    def _enum(self, part: Enum, target: str, indent: int) -> None:
        symbols = self._constant({2 * at: symbol for at, symbol in enumerate(part.symbols)})
        self._index(target, indent)
        self._line(indent, f"{target} = {symbols}.get({target}, 0)")
        self._line(indent, f"if {target} == 0: refuse({f'no symbol of {part.name} has this index'!r})")
        if None in part.symbols:
            self._line(indent, f"if {target} is None: refuse({f'a symbol of {part.name} that the reader lacks'!r})")

    def _union(self, part: Union, target: str, indent: int, depth: int) -> None:
        index = self._new("u")
        self._index(index, indent)
        for at, branch in enumerate(part.branches):
            self._line(indent, f"{'elif' if at else 'if'} {index} == {2 * at}:")
            self._value(branch, target, indent + 1, depth + 1)
        self._line(indent, "else: refuse('no branch of the union has this index')")

    def _blocks(self, indent: int) -> None:
        count = self._new("c")
        self._line(indent, "while True:")
        self._line(indent + 1, f"{count}, p = block(data, p)")
        self._line(indent + 1, f"if not {count}: break")
        self._line(indent + 1, f"for _ in range({count}):")

    def _array(self, part: Array, target: str, indent: int, depth: int) -> None:
        item = self._new("v")
        self._line(indent, f"{target} = []")
        self._blocks(indent)
        self._value(part.item, item, indent + 2, depth + 1)
        self._line(indent + 2, f"{target}.append({item})")

    def _map(self, part: Map, target: str, indent: int, depth: int) -> None:
        key, item = self._new("k"), self._new("v")
        self._line(indent, f"{target} = {{}}")
        self._blocks(indent)
        self._bytes(key, indent + 2, ".decode()")
        self._value(part.value, item, indent + 2, depth + 1)
        self._line(indent + 2, f"{target}[{key}] = {item}")

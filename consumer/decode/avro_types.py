"""The tree of types that an Avro schema is; readers are made from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

NO_DEFAULT = object()


class SchemaError(Exception):
    """A schema that is not Avro's, or that no record can be decoded by; the text is for the user."""


@dataclass(frozen=True, slots=True)
class Logical:
    """What a primitive or fixed value means. `precision` and `scale` are those of decimal."""

    name: str
    precision: int = 0
    scale: int = 0


@dataclass(slots=True, eq=False)
class Primitive:
    """A type without parts. `promote`: the primitive type that the reader wants instead."""

    kind: str
    logical: Logical | None = None
    promote: str | None = None


@dataclass(slots=True, eq=False)
class Fixed:
    """So many bytes."""

    name: str
    size: int
    logical: Logical | None = None
    aliases: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Enum:
    """One of the symbols. A symbol is None where the writer knows it and the reader does not."""

    name: str
    symbols: tuple[str | None, ...]
    default: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Array:
    """Items of one type."""

    item: Type


@dataclass(slots=True, eq=False)
class Map:
    """Text keys, values of one type."""

    value: Type


@dataclass(slots=True, eq=False)
class Union:
    """One of the branches, by index."""

    branches: tuple[Type, ...]


@dataclass(slots=True, eq=False)
class RecordField:
    """A field as written. `name` is None where the reader does not want it."""

    name: str | None
    type: Type
    default: Any = NO_DEFAULT
    aliases: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class Record:
    """Fields in the order of their bytes. `constants`: fields that are not in the bytes, with the reader's defaults."""

    name: str
    fields: list[RecordField] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()

    def names(self) -> list[str]:
        """The names of the fields that a decoded record has."""
        return [part.name for part in self.fields if part.name is not None] + list(self.constants)


@dataclass(slots=True, eq=False)
class Never:
    """A type that the reader's schema has no match for: a value of it cannot be decoded."""

    reason: str


Type = Primitive | Fixed | Enum | Array | Map | Union | Record | Never


def walk(tree: Type) -> Iterator[Type]:
    """Each type in the tree once."""
    seen, waiting = {id(tree)}, [tree]
    while waiting:
        part = waiting.pop()
        yield part
        for child in _children(part):
            if id(child) not in seen:
                seen.add(id(child))
                waiting.append(child)


def _children(part: Type) -> list[Type]:
    match part:
        case Array():
            return [part.item]
        case Map():
            return [part.value]
        case Union():
            return list(part.branches)
        case Record():
            return [child.type for child in part.fields]
        case _:
            return []


def label(part: Type) -> str:
    """How a type is called in messages: its full name, or its kind."""
    match part:
        case Record() | Enum() | Fixed():
            return part.name
        case Primitive():
            return part.kind
        case _:
            return type(part).__name__.lower()

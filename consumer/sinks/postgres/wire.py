"""PostgreSQL's types: the kind of each, and under which type its values are encoded for binary COPY."""

from __future__ import annotations

from functools import cache
from typing import Any

import psycopg
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.types import TypeInfo
from psycopg.types.array import register_array
from psycopg.types.string import StrBinaryDumper

from consumer.table import Kind

TEXT = 25
_JSON, _JSONB = 114, 3802
# Built-in types have the same numbers everywhere: pg_type.dat in the server's source.
KINDS: dict[int, Kind] = {
    16: Kind.BOOLEAN,
    21: Kind.INTEGER,
    23: Kind.INTEGER,
    20: Kind.INTEGER,
    700: Kind.FLOAT,
    701: Kind.FLOAT,
    1700: Kind.DECIMAL,
    TEXT: Kind.TEXT,
    1043: Kind.TEXT,
    1042: Kind.TEXT,
    17: Kind.BYTES,
    1082: Kind.DATE,
    1083: Kind.TIME,
    1266: Kind.TIMETZ,
    1114: Kind.TIMESTAMP,
    1184: Kind.TIMESTAMPTZ,
    1186: Kind.INTERVAL,
    2950: Kind.UUID,
    _JSON: Kind.JSON,
    _JSONB: Kind.JSON,
}
_FLOAT4 = 3.4028234663852886e38
BOUNDS: dict[int, tuple[float, float]] = {
    21: (-(2**15), 2**15 - 1),
    23: (-(2**31), 2**31 - 1),
    20: (-(2**63), 2**63 - 1),
    700: (-_FLOAT4, _FLOAT4),
}


class _Json(Dumper):
    """JSON comes encoded: conversion.checked makes it bytes."""

    format = Format.BINARY
    oid = _JSON

    def dump(self, obj: bytes) -> bytes:
        return obj


class _Jsonb(_Json):
    oid = _JSONB

    def dump(self, obj: bytes) -> bytes:
        return b"\1" + obj  # the version of the binary form: jsonb_recv in jsonb.c


def register(connection: psycopg.Connection[Any]) -> None:
    """Teach a new connection what psycopg does otherwise."""
    connection.adapters.register_dumper(None, _Json)
    connection.adapters.register_dumper(None, _Jsonb)


def oid(kind: Kind, base: int) -> int:
    """The type to give to `Copy.set_types` for a column of this kind, whose type without domains is `base`."""
    # Enums, citext and the kinds of char travel as text does, for which the driver has an encoder in C.
    return TEXT if kind in (Kind.TEXT, Kind.ENUM) else base


def register_items(connection: psycopg.Connection[Any], kind: Kind, item: int, array: int) -> None:
    """Teach a connection arrays of this item type: their items carry the type's number, text-like ones too."""
    if kind in (Kind.TEXT, Kind.ENUM):
        connection.adapters.register_dumper(None, _text_dumper(item))
    register_array(TypeInfo(f"item{item}", item, array), connection)


@cache
def _text_dumper(number: int) -> type[Dumper]:
    return type(f"Text{number}", (StrBinaryDumper,), {"oid": number})

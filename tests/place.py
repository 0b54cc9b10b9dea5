"""A schema of PostgreSQL for one test, with sinks on it; and what the server makes of rows that come one by one."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from consumer.errors import RejectedError
from consumer.sinks import Fence, Isolated, Position
from consumer.sinks.postgres import PostgresSink
from consumer.table import TableRows, Target

P = ("t", 0)
Row = tuple[Any, ...]


class Place:
    """A schema with tables of one test, and a sink on it."""

    def __init__(self, dsn: str) -> None:
        self.schema = f"isolation_{uuid.uuid4().hex}"
        self._admin = psycopg.connect(dsn, autocommit=True)
        self._admin.execute(sql.SQL("create schema {0}; set search_path = {0}").format(sql.Identifier(self.schema)))
        self.dsn = make_conninfo(dsn, options=f"-csearch_path={self.schema}")
        self._sinks: list[PostgresSink] = []
        self._fence = Fence(0, 0)

    def run(self, statements: str) -> list[Row]:
        cursor = self._admin.execute(statements.encode())
        return cursor.fetchall() if cursor.description else []

    def open(self, *targets: Target, dsn: str | None = None, **more: Any) -> PostgresSink:
        """A sink with a transaction open."""
        sink = PostgresSink(dsn or self.dsn, targets, "g", "a", **more)
        self._sinks.append(sink)
        claim = sink.claim({P: Position(0, "c", "i")})[P]
        self._fence = Fence(claim.epoch, claim.position.next_offset)
        sink.begin({P: self._fence})
        return sink

    def begin(self, sink: PostgresSink) -> None:
        sink.begin({P: self._fence})

    def commit(self, sink: PostgresSink) -> None:
        following = self._fence.next_offset + 1
        sink.commit({P: following})
        self._fence = Fence(self._fence.epoch, following)

    def write(self, sink: PostgresSink, *groups: TableRows, patience: int | None = None) -> Isolated:
        """As the writer does it; the transaction stays open."""
        try:
            sink.apply(groups)
        except RejectedError:
            return sink.isolate(groups, patience)
        return Isolated([])

    def close(self) -> None:
        for sink in self._sinks:
            sink.close()
        self._admin.execute(sql.SQL("drop schema {} cascade").format(sql.Identifier(self.schema)))
        self._admin.close()


def group(table: str, columns: str, rows: Sequence[Row], ordinals: Sequence[int] = ()) -> TableRows:
    return TableRows(table, tuple(columns.split()), list(rows), list(ordinals) or list(range(len(rows))))


def ordinals(found: Isolated) -> list[int]:
    return [failure.ordinal for failure in found.failures]


def one_by_one(place: Place, rows: Sequence[Row]) -> tuple[dict[int, psycopg.Error], list[Row]]:
    """Which rows the table refuses, each after those before it, and what is in it then; it is left empty."""
    bad = {}
    for number, row in enumerate(rows):
        try:
            place.run(f"insert into item values ({', '.join('null' if cell is None else repr(cell) for cell in row)})")
        except psycopg.Error as error:
            bad[number] = error
    found = content(place)
    place.run("delete from item")
    return bad, found


def content(place: Place) -> list[Row]:
    """All rows of the table, in an order that only they decide."""
    return place.run("select * from item order by item::text")

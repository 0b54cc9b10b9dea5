"""What fits where, by the table of the check, against what the sinks really convert."""

from __future__ import annotations

import datetime
import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from consumer.check.columns import FITS, faults_of, schemas_of
from consumer.config import Settings, TableSettings, parse
from consumer.errors import RejectedError
from consumer.sinks.conversion import checked
from consumer.table import Column, Kind, Table

NOON = datetime.datetime(2026, 1, 31, 12, tzinfo=datetime.UTC)
SAMPLES: dict[str, list[Any]] = {
    "boolean": [True],
    "int": [1],
    "long": [1],
    "float": [1.0],
    "double": [1.0],
    "decimal": [Decimal(1)],
    "bytes": [b"x"],
    "string": ["x", "1", "true", "2026-01-31", "12:00:00", "12:00:00Z", "2026-01-31T12:00:00", "P1D"],
    "enum": ["x"],
    "array": [[1]],
    "map": [{"a": 1}],
    "record": [{"a": 1}],
    "date": [NOON.date()],
    "time-millis": [NOON.time()],
    "time-micros": [NOON.time()],
    "timestamp-millis": [NOON],
    "timestamp-micros": [NOON],
    "local-timestamp-millis": [NOON.replace(tzinfo=None)],
    "local-timestamp-micros": [NOON.replace(tzinfo=None)],
    "uuid": [uuid.uuid4()],
}


SAMPLES["string"] += [str(uuid.uuid4()), "2026-01-31T12:00:00Z"]


def fits(column: Column, value: Any) -> bool:
    try:
        checked(column, [value])
    except RejectedError:
        return False
    return True


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.OTHER])
@pytest.mark.parametrize("name", FITS)
def test_the_check_and_the_sinks_agree(name: str, kind: Kind) -> None:
    """A combination is refused by the check exactly where the sinks refuse every value."""
    column = Column("c", kind, kind, labels=("x",), item=Column("c", Kind.INTEGER, "bigint"))
    assert (kind in FITS[name]) == any(fits(column, value) for value in SAMPLES[name])


def settings(folder: Path, **changes: Any) -> Settings:
    fields = [{"name": "id", "type": "long"}, {"name": "n", "type": ["null", "string"]}]
    (folder / "a.avsc").write_text(json.dumps({"type": "record", "name": "r", "fields": fields}))
    written: dict[str, Any] = {
        "kafka": {"bootstrap.servers": "x", "group.id": "g"},
        "topics": ["t"],
        "format": {"type": "avro", "schema": "a.avsc"},
        "sink": {"dsn": "sqlite:///x"},
    }
    return parse(written | changes, folder)


def column(name: str, kind: Kind = Kind.INTEGER, **more: Any) -> Column:
    return Column(name, kind, kind, **more)


@pytest.mark.parametrize(
    ("columns", "rules", "words"),
    [
        ([column("id"), column("n", Kind.TEXT)], {}, []),
        ([column("id", nullable=False)], {}, []),
        ([column("id", Kind.OTHER), column("n", Kind.BYTES, writable=False)], {}, []),
        ([column("id", Kind.TEXT)], {}, ["field id is long, and column id is text"]),
        ([column("id"), column("n", Kind.BYTES)], {}, ["field n is string"]),
        ([column("x", Kind.BYTES)], {"columns": {"x": "n"}}, ["field n is string, and column x"]),
        ([column("x", nullable=False)], {}, ["column x must have a value, and the schema has no field x"]),
        ([column("x", nullable=False)], {"columns": {"x": "id"}}, []),
        ([column("x", nullable=False)], {"columns": {"x": "$offset"}}, []),
        ([column("x", nullable=False, has_default=True)], {}, []),
        ([column("id", nullable=False)], {"select": ["n"]}, ["no column n", "id must have a value, and gets none"]),
        ([column("id", writable=False)], {"columns": {"id": "$offset"}}, ["generates column id always"]),
        ([column("id", Kind.OTHER)], {"columns": {"id": "$offset"}}, ["cannot be written"]),
        ([column("id")], {"unknown": {"column": "rest"}}, ["no column rest, which `unknown` names"]),
    ],
)
def test_faults_of_columns(tmp_path: Path, columns: list[Column], rules: dict[str, Any], words: list[str]) -> None:
    """Missing columns, types that cannot be, and columns that get no value; and nothing else."""
    found = settings(tmp_path)
    table = Table("t", {one.name: one for one in columns})
    faults = list(faults_of(found, TableSettings.model_validate(rules), table, schemas_of(found.format)))
    assert len(faults) == len(words)
    assert all(word in fault for word, fault in zip(words, faults, strict=True))

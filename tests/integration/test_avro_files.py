"""Avro schemas in files, as the configuration names them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from consumer.decode.avro import open_avro
from consumer.errors import ConfigError

LONG = '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}'


def test_schemas_are_read_from_files(tmp_path: Path) -> None:
    """The plain one, those of ids, and the reader's."""
    writer, reader = tmp_path / "writer.avsc", tmp_path / "reader.avsc"
    writer.write_text(LONG)
    reader.write_text(LONG.replace("long", "double"))
    assert open_avro(writer, None, None, "format").decode([b"\2"]) == [{"a": 1}]
    assert open_avro(writer, None, reader, "format").decode([b"\2"]) == [{"a": 1.0}]
    assert open_avro(None, {258: writer}, reader, "format").decode([b"\0\0\0\1\2\2"]) == [{"a": 1.0}]


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b"[" * 10_000, b'{"type": "nothing"}', b"5"])
def test_files_without_a_schema_are_configuration_errors(tmp_path: Path, content: bytes | None) -> None:
    """That name the field and the file."""
    good, bad = tmp_path / "good.avsc", tmp_path / "bad.avsc"
    good.write_text(json.dumps("long"))
    if content is not None:
        bad.write_bytes(content)
    for settings, name in (
        ((bad, None, None), "format.schema"),
        ((None, {7: good, 8: bad}, None), "format.schemas.8"),
        ((good, None, bad), "format.reader"),
    ):
        with pytest.raises(ConfigError) as caught:
            open_avro(*settings, "format")
        assert (caught.value.field, caught.value.value) == (name, str(bad))


def test_a_folder_is_no_schema(tmp_path: Path) -> None:
    """It says so."""
    with pytest.raises(ConfigError, match="directory"):
        open_avro(tmp_path, None, None, "format")


def test_exactly_one_way_to_find_schemas_is_wanted(tmp_path: Path) -> None:
    """Both or none is a configuration error."""
    for schema, schemas in ((None, None), (None, {}), (tmp_path, {1: tmp_path})):
        with pytest.raises(ConfigError, match="either"):
            open_avro(schema, schemas, None, "key_format")

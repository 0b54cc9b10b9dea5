"""Payloads that kill or hang a careless decoder, met in a process of their own with little memory, on a thread."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, threading
from consumer.decode.avro import AvroDecoder, FramedAvroDecoder
from consumer.decode.json import JsonDecoder
from consumer.errors import DecodeError
from consumer.table import Column, Kind

resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
TREE = {"type": "record", "name": "T", "fields": [
    {"name": "left", "type": ["null", "T"]}, {"name": "kids", "type": {"type": "map", "values": ["int", "T"]}}]}
BOMB = {"type": "record", "name": "B", "fields": [{"name": "b", "type": "B"}]}
LONGS = {"type": "array", "items": "long"}
FIXED = {"type": "array", "items": {"type": "fixed", "name": "F", "size": 1}}
HUGE = b"\\xfe" + b"\\xff" * 8 + b"\\1"  # 2**63 - 1

def json(payload):
    yield lambda: JsonDecoder().decode([payload])
    for kind in (Kind.JSON, Kind.TEXT, Kind.ARRAY, Kind.DECIMAL, Kind.INTEGER):
        item = Column("i", Kind.DECIMAL, "numeric")
        yield lambda: JsonDecoder({"a": Column("a", kind, "", item=item)}).rows([payload], ("a",))
    yield lambda: JsonDecoder({"b": Column("b", Kind.TEXT, "text")}).rows([payload], ("b",))

def avro(schema, payload):
    yield lambda: AvroDecoder(schema).decode([payload])
    outer = {"type": "record", "name": "O", "fields": [{"name": "o", "type": schema}]}
    yield lambda: AvroDecoder(outer).rows([payload], ())
    yield lambda: FramedAvroDecoder({1: schema}).decode([b"\\0\\0\\0\\0\\1" + payload])

def calls():
    for depth in (2_000, 10_000, 1_000_000):
        yield from json(b"[" * depth)
        yield from json(b'{"a":' + b"[" * depth + b"]" * depth + b"}")
        yield from json(b'{"a":' * depth + b"1" + b"}" * depth)
        yield from avro(TREE, b"\\2" * depth)
        yield from avro(TREE, b"\\0\\2\\2k\\2" * depth)
        yield from avro(LONGS, b"\\2" * depth)
    yield from json(b'{"a":' + b"9" * 1_000_000 + b"x")
    yield from json(b'{"a":"' + b"x" * 50_000_000)
    yield from avro(BOMB, b"")
    yield from avro(BOMB, b"\\0" * 100)
    for schema in (LONGS, FIXED, {"type": "map", "values": "null"}, "string", "bytes"):
        for count in (HUGE, b"\\x80\\xa0\\x94\\xa5\\x8d\\x1d", b"\\xff" * 9 + b"\\1" + HUGE):
            yield from avro(schema, count)
            yield from avro(schema, count + b"\\0" * 1000)
    yield from avro("long", b"\\xff" * 50_000_000)
    decimal = {"type": "bytes", "logicalType": "decimal", "precision": 5}
    yield from avro(decimal, b"\\x80\\xe1\\xeb\\x17" + b"\\x7f" * 25_000_000)

def main():
    for call in calls():
        try:
            value = call()
        except DecodeError as error:
            assert len(error.reason) < 200
            print("refused")
        else:
            print("value")

thread = threading.Thread(target=main)
thread.start()
thread.join()
"""


@pytest.mark.timeout(60)
def test_killers_end_in_decode_errors() -> None:
    """None ends the process, fills its 1 GB, or takes long."""
    ended = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.split() == ["refused"] * ended.stdout.count("\n")
    assert ended.stdout.count("refused") > 100

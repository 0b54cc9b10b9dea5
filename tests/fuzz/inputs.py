"""Records to fuzz with, made from a seed: good ones, ones with hostile values, and bytes that are mutated or random."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from consumer.record import Headers
from tests.fake_kafka import MemoryMessage
from tests.fuzz.fields import FIELDS, HOSTILE_BYTES, HOSTILE_JSON, HOSTILE_NUMBERS, Field, block, number, optional

TOPIC = "fuzz"
PARTITIONS = 3
_SIZES = (1, 2, 7, 40, 150, 300, 600)
_SPOILT = (0.0, 0.0, 0.005, 0.02, 0.2, 1.0)  # shares of a batch
_FLOATS = tuple(
    struct.pack("<d", value) for value in (math.inf, -math.inf, math.nan, 1e308, -1e308, 5e-324, 1e39, 1e-46)
)
_TIMES = (0, -1, 1, -62_135_596_800_001, 253_402_300_800_000, 2**63 - 1, -(2**63))


@dataclass(frozen=True, slots=True)
class Input(MemoryMessage):
    """One record as read. `extra` None and `unreadable`: a header's name is not UTF-8."""

    extra: Headers | None = None
    unreadable: bool = False
    dated: int = 1

    def headers(self) -> Headers | None:
        if self.unreadable:
            raise SystemError("as confluent_kafka does")
        return self.extra

    def timestamp(self) -> tuple[int, int]:
        return (self.dated, self.millis)


Payload = Callable[[Random, bool], bytes | None]


def life(make: Payload, seed: int) -> list[list[Input]]:
    """The batches that one instance meets, the first record a good one. Offsets only rise, with holes."""
    random = Random(seed)
    at = [0] * PARTITIONS
    batches = [_batch(make, random, at) for _ in range(random.randint(1, 4))]
    first = batches[0][0]
    batches[0][0] = Input(TOPIC, first.number, first.place, make(random, False))
    return batches


def _batch(make: Payload, random: Random, at: list[int]) -> list[Input]:
    share = random.choice(_SPOILT)
    return [_input(make, random, at, random.random() < share) for _ in range(random.choice(_SIZES))]


def _input(make: Payload, random: Random, at: list[int], spoilt: bool) -> Input:
    partition = random.randrange(PARTITIONS)
    at[partition] += random.choice([1, 1, 1, 1, 7])
    odd = spoilt and random.random() < 0.2  # in key, headers or timestamp, and not in the value
    value = make(random, spoilt and not odd)
    key = random.choice(HOSTILE_BYTES if odd else [None, b"", b"key", b"42"])
    usual: list[Headers | None] = [None, [], [("trace", b"x")]]
    headers = _headers(random) if odd else random.choice(usual)
    millis = random.choice(_TIMES) if odd and random.random() < 0.5 else 1_700_000_000_000
    unreadable, dated = odd and random.random() < 0.1, random.choice([0, 1, 2])
    return Input(TOPIC, partition, at[partition], value, key, millis, headers, unreadable, dated)


def _headers(random: Random) -> Headers:
    names = ("trace", "", "a" * 300, "\0", "é☃", "__dlq.errors.offset", "microbatch.stage", "trace")
    return [(random.choice(names), random.choice([None, *HOSTILE_BYTES])) for _ in range(random.randint(0, 5))]


def json_payload(random: Random, spoilt: bool) -> bytes | None:
    """A JSON object of the fields, and sometimes of others."""
    way = random.random() if spoilt else 1.0
    if way < 0.1:
        return _nonsense(random)
    chosen = {
        field.name: field.json(random)
        for field in FIELDS
        if field.name not in ("span", "parent") or random.random() < 0.5
    }
    if way < 0.8:
        for _ in range(random.randint(1, 2)):
            name = random.choice([*chosen, "inner", "other"])
            like = [text for text in HOSTILE_JSON if text[:1] == chosen.get(name, "")[:1]]  # as a number for a number
            chosen[name] = random.choice(like if like and random.random() < 0.7 else HOSTILE_JSON)
    if random.random() < 0.1:
        chosen |= {"inner": '{"value": "x"}', "other": "[1, 2]"}
    data = _object(chosen, "latin-1" if 0.55 < way < 0.6 else "utf-8")
    return _mutated(random, data) if 0.6 < way < 1.0 else data


def avro_payload(random: Random, spoilt: bool) -> bytes | None:
    """A record of AVRO_SCHEMA."""
    return _avro(random, spoilt, FIELDS)


def framed_payload(random: Random, spoilt: bool) -> bytes | None:
    """A record of one of FRAMED_SCHEMAS, with its id before it."""
    known = random.choice(list(FRAMED_FIELDS))
    payload = _avro(random, spoilt, FRAMED_FIELDS[known])
    if payload is None or (spoilt and random.random() < 0.1):
        return payload
    framed = random.choice([0, 1, 2, 3, 2**32 - 1]) if spoilt and random.random() < 0.3 else known
    return b"\0" + framed.to_bytes(4, "big") + payload


def raw_payload(random: Random, spoilt: bool) -> bytes | None:
    """JSON of any kind, or bytes that are not."""
    if not spoilt:
        return random.choice(FIELDS).json(random).encode()
    if random.random() < 0.5:
        return random.choice([None, random.randbytes(random.randint(0, 50)), *HOSTILE_BYTES])
    return random.choice(HOSTILE_JSON).encode("latin-1")


def keyed_payload(random: Random, spoilt: bool) -> bytes | None:
    """A JSON object with one of a few keys, or null."""
    if random.random() < (0.3 if spoilt else 0.0):
        return None
    chosen = {"id": str(random.randint(40, 44)), "words": _json(random, "words"), "amount": _json(random, "amount")}
    if spoilt:
        chosen[random.choice([*chosen, "short", "other"])] = random.choice(HOSTILE_JSON)
    data = _object(chosen)
    return _mutated(random, data) if spoilt and random.random() < 0.2 else data


def schema(fields: tuple[Field, ...]) -> dict[str, Any]:
    """The Avro schema of records of these fields."""
    return {
        "type": "record",
        "name": "Fuzzed",
        "fields": [{"name": field.name, "type": _union(field)} for field in fields],
    }


def _union(field: Field) -> Any:
    return "null" if field.read == "null" else ["null", field.read]


def _avro(random: Random, spoilt: bool, fields: tuple[Field, ...]) -> bytes | None:
    way = random.random() if spoilt else 1.0
    if way < 0.1:
        return _nonsense(random)
    parts = [b"" if field.read == "null" else optional(field.avro)(random) for field in fields]
    if way < 0.8:
        for _ in range(random.randint(1, 2)):
            place = random.randrange(len(parts))
            parts[place] = _hostile_avro(random, fields[place].read)
    data = b"".join(parts)
    return _mutated(random, data) if 0.6 < way < 1.0 else data


def _hostile_avro(random: Random, read: Any) -> bytes:
    """A value that its type takes more often than not."""
    if random.random() < 0.2:
        return number(random.choice([0, 1, 2, -1, 2**62])) + random.randbytes(random.randint(0, 9))
    match read["type"] if isinstance(read, dict) else read:
        case "string" | "bytes":
            value = block(random.choice(HOSTILE_BYTES))
        case "float":
            value = random.choice(_FLOATS)[4:]
        case "double":
            value = random.choice(_FLOATS)
        case "null":
            return b""
        case _:
            value = number(random.choice(HOSTILE_NUMBERS))
    return number(1) + value


def _json(random: Random, name: str) -> str:
    return next(field for field in FIELDS if field.name == name).json(random)


def _object(fields: dict[str, str], encoding: str = "utf-8") -> bytes:
    text = ", ".join(f"{json.dumps(name)}: {value}" for name, value in fields.items())
    return f"{{{text}}}".encode(encoding, "replace")


def _nonsense(random: Random) -> bytes | None:
    return random.choice([None, b"", random.randbytes(random.randint(1, 200)), *HOSTILE_BYTES])


def _mutated(random: Random, data: bytes) -> bytes:
    for _ in range(random.randint(1, 3)):
        at, size = random.randrange(len(data) + 1), random.choice([1, 1, 2, 8])
        match random.randrange(6):
            case 0:
                data = data[:at]
            case 1:
                data = data[:at] + random.randbytes(size) + data[at:]
            case 2:
                data = data[:at] + data[at + size :]
            case 3:
                data = data[:at] + random.randbytes(size) + data[at + size :]
            case 4:
                data = data[:at] + random.choice(HOSTILE_BYTES) + data[at:]
            case 5:
                data += data[at:]
    return data


FRAMED_FIELDS = {
    1: FIELDS,
    2: tuple(field for field in FIELDS if field.name not in ("words", "numbers", "uid", "price")),
}

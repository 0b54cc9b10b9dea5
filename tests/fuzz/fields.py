"""What the fuzzed records are made of: fields with good values in JSON and Avro, and values that no column takes."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

Make = Callable[[Random], Any]


@dataclass(frozen=True)
class Field:
    """A field and the column of its name. `json` and `avro` make good values, encoded; `sqlite` '': not there.

    `written` is the schema that Avro bytes are made by: the same as `read` but for what the values mean.
    """

    name: str
    postgres: str
    sqlite: str
    json: Callable[[Random], str]
    avro: Callable[[Random], bytes]
    read: Any


def number(value: int) -> bytes:
    """Avro's int and long, of any size."""
    value = value * 2 if value >= 0 else -value * 2 - 1
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def block(data: bytes) -> bytes:
    """Avro's bytes and string."""
    return number(len(data)) + data


def optional(make: Callable[[Random], bytes]) -> Callable[[Random], bytes]:
    """Of a union with null before it."""
    return lambda random: number(1) + make(random) if random.random() < 0.9 else number(0)


def _int(low: int, high: int) -> Callable[[Random], str]:
    return lambda random: str(random.randint(low, high))


def _long(low: int, high: int) -> Callable[[Random], bytes]:
    return lambda random: number(random.randint(low, high))


def _words(random: Random) -> str:
    return "".join(random.choices("abc é☃😀'\"\\\t%;", k=random.randint(0, 12)))


def _text(make: Callable[[Random], str]) -> tuple[Callable[[Random], str], Callable[[Random], bytes]]:
    """The same text in both formats."""
    return (
        lambda random: json.dumps(make(random), ensure_ascii=random.random() < 0.5),
        lambda random: block(make(random).encode()),
    )


def _day(random: Random) -> str:
    return f"{random.randint(1, 9999):04}-{random.randint(1, 12):02}-{random.randint(1, 28):02}"


def _hour(random: Random) -> str:
    return (
        f"{random.randint(0, 23):02}:{random.randint(0, 59):02}:{random.randint(0, 59):02}.{random.randint(0, 999):03}"
    )


def _uuid(random: Random) -> str:
    return f"{random.getrandbits(128):032x}"[:8] + "-0000-4000-8000-000000000000"


def _document(random: Random) -> str:
    return random.choice(['{"a": [1, 2.5, null]}', "[]", '"text"', "17", "1e5", "true", "null", '{"é": {"ü": "☃"}}'])


def _logical(kind: str, logical: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "logicalType": logical, **more}


def _array(make: Callable[[Random], bytes]) -> Callable[[Random], bytes]:
    def encode(random: Random) -> bytes:
        items = [make(random) for _ in range(random.randint(0, 3))]
        return (number(len(items)) + b"".join(items) if items else b"") + b"\0"

    return encode


def _json_array(make: Callable[[Random], str]) -> Callable[[Random], str]:
    return lambda random: f"[{', '.join(make(random) for _ in range(random.randint(0, 3)))}]"


def _float(random: Random) -> float:
    return random.choice([0.0, -0.0, 1.5, 1e10, -1e-10, random.random()])


_LABELS = ("sad", "ok", "happy")
_MILLIS = 62_135_596_800_000  # from the year 1 to 1970
_label = _text(lambda random: random.choice(_LABELS))
_short = _text(lambda random: _words(random)[:5])
_wordy = _text(_words)
_id = _text(_uuid)

FIELDS = (
    Field("id", "bigint unique", "bigint unique", _int(0, 10**6), _long(0, 10**6), "long"),
    Field(
        "flag",
        "boolean",
        "boolean",
        lambda r: r.choice(["true", "false"]),
        lambda r: r.choice([b"\0", b"\1"]),
        "boolean",
    ),
    Field("small", "smallint", "int", _int(-(2**15), 2**15 - 1), _long(-(2**15), 2**15 - 1), "int"),
    Field("whole", "int", "int", _int(-(2**31), 2**31 - 1), _long(-(2**31), 2**31 - 1), "int"),
    Field(
        "amount",
        "bigint check (amount >= 0)",
        "bigint check (amount >= 0)",
        _int(0, 2**63 - 1),
        _long(0, 2**62),
        "long",
    ),
    Field("ratio", "real", "real", lambda r: repr(_float(r)), lambda r: struct.pack("<f", _float(r)), "float"),
    Field(
        "exact",
        "double precision",
        "double",
        lambda r: repr(_float(r)),
        lambda r: struct.pack("<d", _float(r)),
        "double",
    ),
    Field(
        "price",
        "numeric(12, 3)",
        "numeric",
        lambda r: f"{r.randint(-999, 999)}.{r.randint(0, 9)}",
        lambda r: block(r.randint(-(2**31), 2**31).to_bytes(5, "big", signed=True)),
        _logical("bytes", "decimal", precision=11, scale=2),
    ),
    Field("words", "text", "text", *_wordy, "string"),
    Field("short", "varchar(5)", "varchar(5)", *_short, "string"),
    Field(
        "mood",
        "mood",
        "text check (mood in ('sad', 'ok', 'happy'))",
        _label[0],
        _long(0, 2),
        {"type": "enum", "name": "Mood", "symbols": _LABELS},
    ),
    Field(
        "body",
        "bytea",
        "blob",
        lambda r: r.choice(['"aGk="', '""', '"AAEC"']),
        lambda r: block(r.randbytes(4)),
        "bytes",
    ),
    Field("day", "date", "date", lambda r: f'"{_day(r)}"', _long(-719_162, 2_932_896), _logical("int", "date")),
    Field("hour", "time", "time", lambda r: f'"{_hour(r)}"', _long(0, 86_399_999), _logical("int", "time-millis")),
    Field(
        "moment",
        "timestamptz",
        "timestamptz",
        lambda r: f'"{_day(r)}T{_hour(r)}Z"',
        _long(-_MILLIS, 253_402_300_799_999),
        _logical("long", "timestamp-millis"),
    ),
    Field(
        "local",
        "timestamp",
        "",
        lambda r: f'"{_day(r)}T{_hour(r)}"',
        _long(-_MILLIS * 1000, 253_402_300_799_999_999),
        _logical("long", "local-timestamp-micros"),
    ),
    Field("span", "interval", "", lambda r: f'"P{r.randint(0, 99)}DT5M"', lambda r: b"\0", "null"),
    Field("uid", "uuid", "uuid", _id[0], _id[1], _logical("string", "uuid")),
    Field(
        "doc",
        "jsonb",
        "json",
        _document,
        lambda r: number(1) + block(b"k") + number(7) + b"\0",
        {"type": "map", "values": "long"},
    ),
    Field("kept", "json", "json", _document, _array(_wordy[1]), {"type": "array", "items": "string"}),
    Field("numbers", "int[]", "", _json_array(_int(-9, 9)), _array(_long(-9, 9)), {"type": "array", "items": "int"}),
    Field("names", "text[]", "", _json_array(_wordy[0]), _array(_wordy[1]), {"type": "array", "items": "string"}),
    Field(
        "parent",
        "bigint references parent deferrable initially deferred",
        "bigint references parent deferrable initially deferred",
        _int(1, 3),
        _long(1, 3),
        "long",
    ),
)
# Texts of JSON values that some column or the format itself must refuse, or take without loss.
HOSTILE_JSON = (
    *(
        "null",
        "{}",
        "[]",
        "[[]]",
        "[[1], [2, 3]]",
        "[1, [2]]",
        "[null]",
        '[{"a": 1}]',
        "NaN",
        "Infinity",
        "-Infinity",
        "-0",
        "00",
        "+1",
    ),
    *(
        "1e400",
        "-1e400",
        "1e-400",
        "1E+999999999",
        "1E-999999999",
        "9" * 400,
        "9" * 5000,
        "-" + "9" * 19,
        "0." + "1" * 400,
    ),
    *(
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775809",
        "32768",
        "2147483648",
        "3.5",
        "1e2",
        "16777217",
    ),
    *(
        '"\\u0000"',
        '"a\\u0000b"',
        '"\\ud800"',
        '"\\udc00\\ud800"',
        '"\\ud83d\\ude00"',
        '"\\x"',
        '"\xff"',
        '"' + "x" * 30_000 + '"',
    ),
    *(
        '"0000-01-01"',
        '"10000-01-01"',
        '"2024-02-30"',
        '"-4714-01-01"',
        '"infinity"',
        '"24:00:00"',
        '"23:59:60"',
        '"12:00:00+23:59"',
    ),
    *(
        '"9999-12-31T23:59:59.999999-23:59"',
        '"0001-01-01T00:00:00+23:59"',
        '"P999999999999D"',
        '"P1Y"',
        '"now"',
        '"true"',
        '"1"',
        '"0x10"',
    ),
    *(
        "[" * 200 + "]" * 200,
        "[" * 7 + "1" + "]" * 7,
        '{"a":' * 100 + "1" + "}" * 100,
        "[" * 5000 + "]" * 5000,
        '{"a": 1, "a": 2}',
    ),
    *('{"": ""}', '{"\\u0000": 1}', '{"\\ud800": 1}', '{"a": "\\u0000"}', "tru", "'x'", "//", "[1,]", '{"a" 1}', '"'),
)
HOSTILE_NUMBERS = (
    *(
        0,
        1,
        -1,
        2**15,
        2**31 - 1,
        2**31,
        -(2**31) - 1,
        2**32,
        2**53 + 1,
        2**62,
        2**63 - 1,
        2**63,
        -(2**63),
        -(2**63) - 1,
    ),
    *(2**64, 2**70, 10**30, 86_400_000, -719_163, 2_932_897, 253_402_300_800_000, -62_135_596_800_001, 60, 126),
)
HOSTILE_BYTES = (
    *(
        b"",
        b"\0",
        b"a\0b",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"x" * 30_000,
        b"\x7f" * 20,
        b"null",
        b"-",
        b"-a",
    ),
    *(
        b"1",
        b"01",
        b'"',
        b"{",
        b"[1]",
        b"1e999999999",
        b"\\u0000",
        b'"\\u0000"',
        b'"\\ud800"',
        b" ",
        b"\n",
        b"\xef\xbb\xbf{}",
    ),
)

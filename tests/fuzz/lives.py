"""What one instance does with its batches, in this process, and what must then be in the database."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from consumer.batch import BatchPolicy, Collector
from consumer.breaker import Breaker
from consumer.config import parse
from consumer.mapping.opening import open_mapper
from consumer.record import Headers
from consumer.sinks import Position
from consumer.sinks.opening import open_sink
from consumer.writer import Writer, Written
from tests.fuzz.fields import FIELDS
from tests.fuzz.inputs import (
    FRAMED_FIELDS,
    PARTITIONS,
    TOPIC,
    Input,
    Payload,
    avro_payload,
    framed_payload,
    json_payload,
    keyed_payload,
    raw_payload,
    schema,
)
from tests.fuzz.stores import Store
from tests.fuzz.transforms import lines

KEYS = [(TOPIC, partition) for partition in range(PARTITIONS)]
_decode_id: Any = msgspec.json.Decoder(msgspec.defstruct("Id", [("id", int | float | str)])).decode
_decode_headers = msgspec.json.Decoder(Headers).decode
_ALL = 10**9  # records at fault in a row that are borne
_PLACE = {"part": "$partition", "pos": "$offset"}
_WIDE = {
    "columns": _PLACE
    | {"label": "$key", "headers": "$headers", "trace": "$headers.trace", "at": "$timestamp"}
    | {"inside": "inner.value"},
    "unknown": {"column": "extra"},
}
_TALLY = {"mode": "increment", "add": ["n"], "select": [], "columns": {"part": "$partition", "n": {"const": 1}}}
_RAW = {"columns": _PLACE | {"body": "$value", "doc": "$value", "label": "$key", "at": "$timestamp"}, "select": []}


@dataclass(frozen=True)
class Case:
    """One way through the program: payloads, and the settings that they meet. `main` has one row a record."""

    payload: Payload
    settings: dict[str, Any]
    tables: dict[str, Any]
    main: str = "wide"


_MAPPED = {"wide": _WIDE, "tally": _TALLY}
CASES = {
    "json": Case(json_payload, {"format": "json"}, _MAPPED),
    "avro": Case(avro_payload, {"format": {"type": "avro", "schema": "0.avsc"}}, _MAPPED),
    "framed": Case(framed_payload, {"format": {"type": "avro", "schemas": {1: "1.avsc", 2: "2.avsc"}}}, _MAPPED),
    "raw": Case(raw_payload, {"format": {"type": "raw", "on_null": "skip"}}, {"raw": _RAW}, "raw"),
    "transform": Case(
        json_payload,
        {"format": "json", "transform": "tests.fuzz.transforms:explode"},
        {"wide": {}, "line": {}, "tally": {"mode": "increment", "add": ["n"]}},
    ),
    "keyed": Case(
        keyed_payload,
        {"format": {"type": "json", "on_null": "delete"}},
        {"latest": {"mode": "upsert", "columns": _PLACE}},
        "latest",
    ),
}


def write_schemas(folder: Path) -> None:
    """The files that the cases speak of."""
    for name, fields in {0: FIELDS, **FRAMED_FIELDS}.items():
        (folder / f"{name}.avsc").write_text(json.dumps(schema(fields)))


def live(case: Case, store: Store, folder: Path, batches: Sequence[Sequence[Input]]) -> None:
    """Handle these batches as an instance does. Raises AssertionError where a record is lost, doubled or neither."""
    store.clear()
    kafka = {"bootstrap.servers": "nowhere", "group.id": "fuzz"}
    tables = {"topics": [TOPIC], "kafka": kafka, "sink": {"dsn": store.url, "tables": case.tables}}
    settings = parse(case.settings | tables, folder)
    sink = open_sink(settings, "fuzz")
    try:
        writer = Writer(sink, open_mapper(settings, sink.describe), Breaker(_ALL, 1.0))
        writer.claim({key: Position(0, "cluster", "topic") for key in KEYS})
        written = _write(writer, batches)
    finally:
        sink.close()
    _judge(case, store, batches, written)


def _write(writer: Writer, batches: Sequence[Sequence[Input]]) -> list[Written]:
    collector = Collector(BatchPolicy(max_records=10**6, max_bytes=10**9))
    collector.start(dict.fromkeys(KEYS, 0))
    done = []
    for messages in batches:
        collector.add(messages, 0)
        collector.close("drain")
        if batch := collector.take(0):
            done.append(writer.write(batch))
    return done


def _judge(case: Case, store: Store, batches: Sequence[Sequence[Input]], written: Sequence[Written]) -> None:
    inputs = {(message.number, message.place): message for messages in batches for message in messages}
    letters = _letters(store)
    if case.main == "latest":
        _judge_latest(store, inputs, letters)
        rows: list[Any] = [at for at in inputs if at not in letters]
    else:
        rows = store.query(f"select part, pos from {case.main}")
    skipped = {at for at, message in inputs.items() if message.body is None and case.main == "raw"}
    outcome = Counter(rows) + Counter(list(letters)) + Counter(skipped)
    assert not (lost := inputs.keys() - outcome.keys()), f"neither in the table nor a dead letter: {sorted(lost)[:9]}"
    assert not (more := [at for at, count in outcome.items() if count > 1]), f"more than once: {sorted(more)[:9]}"
    assert outcome.keys() == inputs.keys(), "records that were never read"
    changed = [at for at, found in letters.items() if found != _as_read(inputs[at])]
    assert not changed, f"dead letters that are not as read: {changed[:9]}"
    counted = [sum((getattr(one, name) for one in written), Counter[str]()).total() for name in ("records", "filtered")]
    assert [*counted, sum(len(one.letters) for one in written)] == [len(rows), len(skipped), len(letters)], "the counts"
    _judge_offsets(store, inputs)
    if case.main == "wide":
        sums = Counter({part: n for part, n in store.query("select part, n from tally") if n})
        assert sums == Counter(part for part, _ in rows), "a record is not in all of its tables"
    if "line" in case.tables:
        found = Counter(store.query("select part, pos from line"))
        assert found == Counter({at: lines(at[1]) for at in rows if lines(at[1])}), "rows of a record are missing"
    if case.main == "raw":
        bodies = {(part, pos): bytes(body) for part, pos, body in store.query("select part, pos, body from raw")}
        assert bodies == {at: inputs[at].body for at in bodies}, "values are not as read"


def _letters(store: Store) -> dict[tuple[int, int], tuple[Any, ...]]:
    columns = "key, value, timestamp_type, timestamp_ms, cast(headers as text)"
    rows = store.query(f'select partition, "offset", {columns} from microbatch_dead_letters')
    return {
        (part, pos): (*found, None if headers is None else _decode_headers(headers))
        for part, pos, *found, headers in rows
    }


def _as_read(message: Input) -> tuple[Any, ...]:
    """What the dead letter of this must have."""
    headers = None if message.unreadable else message.extra
    return (message.label, message.body, *message.timestamp(), headers)


def _judge_latest(store: Store, inputs: dict[tuple[int, int], Input], letters: Collection[tuple[int, int]]) -> None:
    """Of each key the last record that is no dead letter is there, unless it was a null value."""
    expected: dict[int, tuple[int, int]] = {}
    for at, message in inputs.items():
        if at in letters:
            continue
        if message.body is None:
            expected.pop(int(message.label or b""), None)
        else:
            expected[int(_decode_id(message.body).id)] = at
    found = {number: (part, pos) for number, part, pos in store.query("select id, part, pos from latest")}
    assert found == expected, f"of a key another record is there than the last: {found.items() ^ expected.items()}"


def _judge_offsets(store: Store, inputs: dict[tuple[int, int], Input]) -> None:
    ends = {part: max((pos + 1 for p, pos in inputs if p == part), default=0) for part in range(PARTITIONS)}
    stored = dict(store.query("select partition, next_offset from microbatch_offsets"))
    assert stored == ends, f"next offsets are {stored}, not {ends}"

"""What is told of a preview."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consumer.errors import DecodeError, MappingError, RejectedError
from consumer.letter import evidence_of
from consumer.preview.telling import advice, as_json, lines
from consumer.preview.trial import Preview, Rejection, Stretch, TablePart, TopicPart


def refusal(code: str | None, column: str | None = None, constraint: str | None = None) -> RejectedError:
    return RejectedError("refused", code, "orders", column, constraint)


FOUND = Preview(
    [
        TopicPart("orders", [Stretch(0, 5, 904), Stretch(2, 7, 106)], 1000, 998, 998, 3, 985, 7, 5, ["coupon", "ip"]),
        TopicPart("returns", [], 0, 0, 0, 0, 0, 0, 0, []),
    ],
    [TablePart("orders", "upsert", 985, ["note"])],
    [
        Rejection(5, "orders", 0, 17, evidence_of(refusal("23514", constraint="positive"), "")),
        Rejection(2, "orders", 2, 9, evidence_of(DecodeError("JSON is malformed (byte 7)"), "")),
    ],
    {"map": 0.01, "write": 0.03},
    ["orders/2: 5 records are gone from Kafka; `run` holds it"],
    "more than 3 records in a row (dead_letter.max_consecutive) cannot be written",
)


def test_lines_are_for_people() -> None:
    """What was read, what became of it, why not of all, and how fast."""
    assert list(lines(FOUND)) == [
        "orders/2: 5 records are gone from Kafka; `run` holds it",
        "orders: 1,000 records, orders/0 offsets 5 to 904, orders/2 offsets 7 to 106",
        "  998 decoded, 998 mapped, 3 filtered, 985 written, 7 rejected",
        "  5 the group has written before: their keys are there, which is no fault",
        "  fields that no column takes: coupon, ip",
        "returns: no records",
        "table orders: 985 rows, mode upsert",
        "  columns that stay at their defaults, because no field feeds them: note",
        "7 would be rejected, and become dead letters:",
        "  5 write 23514 (first: orders/0/17): refused",
        "    correct what writes such records, or the constraint positive",
        "  2 decode DecodeError (first: orders/2/9): JSON is malformed (byte 7)",
        "    correct the producer, or `format` if no record of the topic can be decoded",
        "`run` would hold at once: more than 3 records in a row (dead_letter.max_consecutive) cannot be written",
        "about 25,000 records/s an instance, of which writing takes 75%: decoded and mapped in 0.010 s, written in "
        "0.030 s, without COMMIT",
        "nothing was kept: the transaction was rolled back",
    ]


def test_json_has_the_same() -> None:
    """With plain names."""
    told = json.loads(json.dumps(as_json(FOUND)))
    assert (told["records"], told["records_per_second"], told["seconds"]) == (1000, 25000, {"map": 0.01, "write": 0.03})
    assert told["topics"][0]["offsets"] == [
        {"partition": 0, "first": 5, "last": 904},
        {"partition": 2, "first": 7, "last": 106},
    ]
    assert told["rejections"][0] == {
        "count": 5, "topic": "orders", "partition": 0, "offset": 17, "stage": "write", "error": "RejectedError",
        "reason": "refused", "sqlstate": "23514", "table": "orders", "column": None, "constraint": "positive",
    }  # fmt: skip


def test_an_empty_sample_has_no_rate() -> None:
    """There is nothing to measure."""
    found = Preview([TopicPart("orders", [], 0, 0, 0, 0, 0, 0, 0, [])])
    assert list(lines(found)) == ["orders: no records", "nothing was kept: the transaction was rolled back"]
    assert as_json(found)["records_per_second"] is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (refusal("23502", "name"), "give column name a source"),
        (refusal("SQLITE_CONSTRAINT_NOTNULL", "name"), "give column name a source"),
        (refusal("23503"), '{"23503": retry}'),
        (refusal("23505"), "mode upsert"),
        (refusal("23514", constraint="positive"), "the constraint positive"),
        (refusal("22003", "n"), "widen column n"),
        (refusal(None), "sink.errors"),
        (DecodeError("x"), "format"),
        (MappingError("x"), "transform"),
    ],
)
def test_each_kind_says_what_to_do(error: Any, words: str) -> None:
    """Whatever the database calls it."""
    assert words in advice(evidence_of(error, ""))

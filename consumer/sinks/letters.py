"""Dead letters as rows of a table: the same columns in every database."""

from __future__ import annotations

from typing import Any

import msgspec

from consumer.letter import DeadLetter, Evidence, State
from consumer.record import Headers
from consumer.sinks import Selection

TABLE = "microbatch_dead_letters"
COLUMNS = (
    'topic, partition, "offset", state, stage, evidence, key, value, headers, timestamp_type, timestamp_ms,'
    " replay_count, first_failed_at"
)
_decode_evidence = msgspec.json.Decoder(Evidence).decode
_decode_headers = msgspec.json.Decoder(Headers).decode


def row_of(letter: DeadLetter) -> tuple[Any, ...]:
    """The values of COLUMNS. Evidence and headers are JSON; values of headers are in base64."""
    return (
        *letter.coordinates,
        letter.state.value,
        letter.evidence.stage,
        json_of(letter.evidence),
        letter.key,
        letter.value,
        None if letter.headers is None else json_of(letter.headers),
        *letter.timestamp,
        letter.replay_count,
        letter.first_failed_at,
    )


def letter_of(row: tuple[Any, ...]) -> DeadLetter:
    """What `row_of` made this of; the time of the first failure aware, in UTC."""
    topic, partition, offset, state, _, evidence, key, value, headers, kind, milliseconds, replays, failed_at = row
    return DeadLetter(
        topic,
        partition,
        offset,
        key,
        value,
        None if headers is None else _decode_headers(headers),
        (kind, milliseconds),
        _decode_evidence(evidence),
        failed_at,
        State(state),
        replays,
    )


def json_of(told: Evidence | Headers) -> bytes:
    """Its text."""
    return msgspec.json.encode(told)


def parameters_of(which: Selection) -> dict[str, Any]:
    """The fields of a selection under their own names, but for those that each database takes in its own way."""
    names = ("topic", "partition", "stage", "reason", "sqlstate", "table", "constraint")
    return {name: getattr(which, name) for name in names}

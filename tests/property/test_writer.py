"""The writer against the plainest reference: one record after the other."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.test_writer import batch_of, fresh, joined, letters, next_offset, stored


@given(st.lists(st.sampled_from([b"ok", b"-", b"x", b"range", b"twice"]), min_size=1, max_size=40))
def test_exactly_the_bad_records_leave(kinds: list[bytes]) -> None:
    """The same answer as trying one record after the other."""
    database = fresh()
    writer, _ = joined(database)
    values = {b"-": b"-", b"x": b"x", b"range": b"5000", b"twice": b"7"}
    payloads = [values.get(kind, b"%d" % (100 + index)) for index, kind in enumerate(kinds)]
    bad, ids = {}, list[int]()
    for index, payload in enumerate(payloads):
        if payload in (b"x", b"5000") or (payload == b"7" and 7 in ids):
            bad["t", 0, index] = payload
        elif payload != b"-":
            ids.append(int(payload))
    written = writer.write(batch_of(*payloads))
    assert (stored(database), letters(database), next_offset(database)) == (ids, bad, len(payloads))
    assert sum(written.records.values()) == len(ids)

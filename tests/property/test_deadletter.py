"""Headers of dead letters, whatever these hold."""

from __future__ import annotations

import datetime
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from consumer.deadletter import NoDeadLetterError, Style, letter_of_dead_letter
from consumer.letter import DeadLetter, Evidence, State
from consumer.record import Headers
from tests.unit.test_deadletter import LETTER, STYLES, Published, of

PREFIXES = ("microbatch.", "__dlq.errors.", "__connect.errors.", "kafka_dlt-")
texts = st.text(max_size=2000)
letters = st.builds(
    DeadLetter,
    topic=st.from_regex(r"[A-Za-z0-9._-]{1,249}", fullmatch=True),
    partition=st.integers(0, 2**31 - 1),
    offset=st.integers(0, 2**63 - 1),
    key=st.none() | st.binary(),
    value=st.none() | st.binary(),
    headers=st.none() | st.lists(st.tuples(st.text(), st.none() | st.binary()), min_size=1),
    timestamp=st.tuples(st.integers(0, 2), st.integers(-(2**63), 2**63 - 1)),
    evidence=st.builds(
        Evidence, texts, texts, texts, *[st.none() | texts] * 4, attempts=st.integers(0, 2**31 - 1), batch=texts
    ),
    first_failed_at=st.datetimes(
        datetime.datetime(1971, 1, 1), datetime.datetime(9998, 1, 1), timezones=st.just(datetime.UTC)
    ),
    state=st.just(State.PUBLISHED),
    replay_count=st.integers(0, 2**31 - 1),
)


@given(letters, st.sampled_from(STYLES))
def test_whatever_a_letter_holds_its_headers_are_small_and_lead_back_to_it(letter: DeadLetter, style: Style) -> None:
    """Coordinates, bytes and times exactly; texts up to their limits. Not more than 8 kB of headers of our own."""
    headers = of(letter, style)
    mine = [h for h in letter.headers or [] if not h[0].startswith(("microbatch.", _prefix(style)))]
    assert headers[: len(mine)] == mine
    assert sum(len(name.encode()) + len(value or b"") for name, value in headers[len(mine) :]) <= 8192
    back = letter_of_dead_letter(Published(headers, letter.value, label=letter.key))
    assert replace(back, evidence=letter.evidence) == replace(letter, headers=mine or None)
    assert letter.evidence.reason.startswith(back.evidence.reason.split("\ufffd")[0])


def _prefix(style: Style) -> str:
    return dict(zip(STYLES, PREFIXES[1:], strict=True))[style]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([name for style in STYLES for name, _ in of(LETTER, style)]),
            st.none() | st.binary(max_size=30) | st.integers().map(lambda n: str(n).encode()),
        )
    ),
    st.tuples(st.integers(0, 2), st.integers(-(2**63), 2**63 - 1)),
)
def test_any_headers_make_a_letter_or_are_refused(headers: Headers, time: tuple[int, int]) -> None:
    """Nothing else is raised, with any of our names, any bytes, and any time."""
    for given_headers in (headers, [*of(LETTER), *headers]):
        try:
            letter = letter_of_dead_letter(Published(given_headers, time=time), whole=False)
        except NoDeadLetterError:
            continue
        assert letter.first_failed_at.tzinfo is datetime.UTC

"""Dead letters come back as they were, whatever Kafka had in them."""

from __future__ import annotations

import datetime
from contextlib import closing

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.letter import DeadLetter, Evidence, State
from consumer.sinks import Selection
from tests.databases import Database, Memory, PostgresDatabase, Sqlite
from tests.sinks import opened

EXAMPLES: dict[type[Database], int] = {Memory: 50, Sqlite: 100, PostgresDatabase: 40}
INT, LONG = st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1)
NAMES = st.text(st.characters(codec="utf-8"))  # of headers
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
TIMES = st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30), timezones=st.just(datetime.UTC))
LETTERS = st.builds(
    DeadLetter,
    topic=st.text("abcXYZ019._-", min_size=1),
    partition=INT,
    offset=LONG,
    key=st.none() | st.binary(),
    value=st.none() | st.binary(),
    headers=st.none() | st.lists(st.tuples(NAMES, st.none() | st.binary())),
    timestamp=st.tuples(st.integers(0, 2), st.integers(-1, 2**62)),
    evidence=st.builds(
        Evidence,
        *[WORDS] * 3,
        *[st.none() | WORDS] * 4,
        attempts=INT,
        batch=WORDS,
    ),
    first_failed_at=TIMES,
    state=st.sampled_from(State),
    replay_count=INT,
)


def test_letters_read_back_as_they_were(database: Database) -> None:
    """In order of their coordinates, as Python orders them; the pending ones as pending."""

    @settings(max_examples=EXAMPLES[type(database)], deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(LETTERS, max_size=8, unique_by=lambda letter: letter.coordinates))
    def hold(letters: list[DeadLetter]) -> None:
        database.clear()
        expected = sorted(letters, key=lambda letter: letter.coordinates)
        pending = [letter for letter in expected if letter.state is State.PENDING]
        partitions = {(letter.topic, letter.partition) for letter in letters}
        with closing(database.sink((), "a")) as sink:
            opened(sink).letters.keep(letters)
            sink.commit({})
            assert sink.letters.select(Selection(states=tuple(State)), 100) == expected
            assert sink.letters.pending(partitions, 100) == pending
            assert sink.letters.count_pending(partitions) == len(pending)

    hold()

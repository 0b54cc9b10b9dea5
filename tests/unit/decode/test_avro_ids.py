"""When an id is asked for, for how long it is waited for, and what is remembered of the answers."""

from __future__ import annotations

from collections import Counter

import pytest

from consumer.decode.avro_ids import Asked
from consumer.decode.registry import UnknownIdError
from consumer.errors import DecodeError, FatalError, UnavailableError

PATIENCE = 300.0


class Books:
    """A registry without HTTP. `known`: an answer by id; what is raised for another is `otherwise`."""

    def __init__(self, **known: str) -> None:
        self.known = {int(name[1:]): schema for name, schema in known.items()}
        self.otherwise: Exception | None = None
        self.asked: Counter[int] = Counter()
        self.now = 0.0
        self.seconds = 0.0  # that an answer takes

    def __call__(self, schema_id: int) -> str:
        self.asked[schema_id] += 1
        self.now += self.seconds
        if schema_id in self.known:
            return self.known[schema_id]
        raise self.otherwise or UnknownIdError(f"schema id {schema_id} is not known")

    def schemas(self) -> Asked[str]:
        return Asked(self, PATIENCE, lambda: self.now)


def waited_for(schemas: Asked[str], *ids: int) -> str:
    """Why the ids are waited for."""
    with pytest.raises(UnavailableError) as error:
        schemas.of(ids)
    return str(error.value)


def test_an_id_is_asked_for_once() -> None:
    """And then known for good, without asking."""
    books = Books(_1="one", _2="two")
    schemas = books.schemas()
    assert schemas.get(1) is None
    assert schemas.of([1, 2]) == schemas.of([1, 2]) == {1: "one", 2: "two"}
    assert schemas.get(1) == "one"
    assert books.asked == {1: 1, 2: 1}


def test_an_outage_is_passed_on_and_nothing_is_remembered_of_it() -> None:
    """The next call asks again, and goes on where it works."""
    books = Books(_1="one")
    books.otherwise = UnavailableError("schema registry: HTTP 503", 7.0)
    schemas = books.schemas()
    assert waited_for(schemas, 1, 2) == "schema registry: HTTP 503"
    books.known[2] = "two"
    assert schemas.of([1, 2]) == {1: "one", 2: "two"}
    assert books.asked == {1: 1, 2: 2}


def test_an_outage_does_not_count_towards_the_time_of_an_id() -> None:
    """It begins with the first answer, not with the first question."""
    books = Books()
    schemas = books.schemas()
    books.otherwise = UnavailableError("schema registry: HTTP 503")
    waited_for(schemas, 1)
    books.now, books.otherwise = PATIENCE + 1, None
    assert "does not know schema id 1;" in waited_for(schemas, 1)


def test_an_unknown_id_is_waited_for_and_then_its_records_are_at_fault() -> None:
    """Every call asks until the time is over; the sentence tells how long that is."""
    books = Books(_2="two")
    schemas = books.schemas()
    told = waited_for(schemas, 1, 2)
    assert told.startswith("schema registry: it does not know schema id 1; records become dead letters when")
    assert told.endswith("300 s (40403)")
    books.now = PATIENCE - 1
    waited_for(schemas, 1, 2)
    books.now = PATIENCE
    assert schemas.of([1, 2]) == {1: "schema id 1 is not known", 2: "two"}
    assert books.asked == {1: 3, 2: 1}


def test_the_times_of_several_unknown_ids_run_together() -> None:
    """All of a batch are asked for, though the first is waited for already."""
    books = Books()
    schemas = books.schemas()
    assert "schema id 1, nor 2 others" in waited_for(schemas, 1, 2, 3)
    books.now = PATIENCE
    assert schemas.of([1, 2, 3]).keys() == {1, 2, 3}


def test_an_id_that_comes_later_has_its_own_time() -> None:
    """The first one's is over, and the second one is waited for."""
    books = Books()
    schemas = books.schemas()
    waited_for(schemas, 1)
    books.now = PATIENCE - 10
    waited_for(schemas, 2)
    books.now = PATIENCE
    assert "schema id 2;" in waited_for(schemas, 1, 2)


def test_an_id_that_comes_to_be_known_in_time_harms_nothing() -> None:
    """A replica has caught up."""
    books = Books()
    schemas = books.schemas()
    waited_for(schemas, 1)
    books.known[1] = "one"
    assert schemas.of([1]) == {1: "one"}


@pytest.mark.parametrize("wrong", [DecodeError("is no Avro"), UnknownIdError("is not known")])
def test_an_id_at_fault_is_asked_for_every_30_seconds(wrong: Exception) -> None:
    """However many records it has; and not as if it were new, with time to wait."""
    books = Books()
    books.otherwise = wrong
    schemas = books.schemas()
    if isinstance(wrong, UnknownIdError):
        waited_for(schemas, 1)
    books.now = PATIENCE
    before = books.asked[1]
    for second in range(61):
        books.now = PATIENCE + second
        assert schemas.of([1]) == {1: str(wrong)}
    assert books.asked[1] - before == 3


def test_when_an_id_at_fault_comes_to_be_known_the_batch_is_judged_anew() -> None:
    """Else its records could be refused together and taken alone."""
    books = Books()
    books.otherwise = DecodeError("is no Avro")
    schemas = books.schemas()
    schemas.of([1])
    books.now, books.known[1] = 30.0, "one"
    with pytest.raises(UnavailableError, match="can be read from now on") as error:
        schemas.of([1])
    assert error.value.retry_after == 0
    assert schemas.of([1]) == {1: "one"}


def test_what_stops_the_daemon_stops_it() -> None:
    """The registry refuses us."""
    books = Books()
    books.otherwise = FatalError("it refuses us", "Correct the token.")
    with pytest.raises(FatalError, match="refuses us"):
        books.schemas().of([1])


def test_as_many_schemas_are_kept_as_memory_allows() -> None:
    """The last 1,000; another one is asked for again."""
    books = Books(**{f"_{number}": str(number) for number in range(1, 1002)})
    schemas = books.schemas()
    assert len(schemas.of(range(1, 1002))) == 1001
    assert (schemas.get(1), schemas.get(2)) == (None, "2")
    assert schemas.of([1]) == {1: "1"}
    assert books.asked[1] == 2


def test_a_batch_of_too_many_ids_is_halved() -> None:
    """Until one of them can be asked for in time; what has been answered is known then."""
    books = Books(**{f"_{number}": str(number) for number in range(1, 101)})
    books.seconds = 1.0
    schemas = books.schemas()
    for tries in range(1, 5):
        with pytest.raises(UnavailableError) as error:
            schemas.of(range(1, 101))
        assert (error.value.smaller, books.asked.total()) == (True, 21 * tries)
    assert len(schemas.of(range(1, 101))) == books.asked.total() == 100

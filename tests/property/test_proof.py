"""What isolation in PostgreSQL proves, guesses and tries, against rows that come one by one, on tables of any rules."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from consumer.errors import RejectedError
from consumer.table import Target
from tests.place import Place, Row, content, group, one_by_one, ordinals

_FUNCTION = "create function {} returns trigger language plpgsql as $$ begin {} return new; end $$;"
SETTING = "; ".join([
    "create table one (id int primary key); insert into one values (1), (2)",
    "create function fine(int) returns boolean immutable language sql as 'select $1 = 2'",
    _FUNCTION.format("mend()", "new.number := abs(new.number);"),
    _FUNCTION.format("leave()", "if new.number < 0 then return null; end if;"),
    _FUNCTION.format("refuse()", "if new.number = 0 then raise 'no'; end if;"),
])  # fmt: skip
WORDS = ("text", "varchar(2)", "char(2)", 'text collate "C"', "varchar(2)")
EXACTS = ("numeric", "numeric(2, 1)")
_PATTERNS = "create unique index on item (word text_pattern_ops)"
RULES = (
    "alter table item add check (number > 0)",
    "alter table item add check (number <> id)",
    "alter table item add check (number > 0 or fine(id))",
    "alter table item add check (1 / number < 2)",
    "alter table item add check (number is not null or id = 1)",
    "alter table item add check (word <> 'b')",
    "alter table item add check (word < 'b' or id = 1)",
    "alter table item add check (length(word) < 2)",
    "alter table item add check (exact < 1.3)",
    "alter table item add unique (id)",
    "alter table item add unique (number, word)",
    "alter table item add unique (exact)",
    "alter table item add unique (word) deferrable initially deferred",
    "alter table item add exclude (number with =)",
    "alter table item add foreign key (number) references one",
    "alter table item add foreign key (number) references one deferrable initially deferred",
    "create unique index on item (number) where id > 1",
    "create unique index on item (id, lower(word))",
    _PATTERNS,
    "create trigger mend before insert on item for each row execute function mend()",
    "create trigger leave before insert on item for each row when (new.id = 1) execute function leave()",
    "create trigger refuse after insert on item for each row execute function refuse()",
)
COLUMNS = "id number word exact"
ROWS = st.tuples(
    st.sampled_from([None, 1, 2, 3, 4, 5]),
    st.sampled_from([None, -1, 0, 1, 1, 2, 2, 3]),
    st.sampled_from([None, "a", "a ", "A", "b", "bb", "b  ", "bbb"]),
    st.sampled_from(["1", "1.2", "1.24", "1.26", "1.3", "2", "70"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.tuples(st.sampled_from(WORDS), st.sampled_from(EXACTS)),
    st.lists(st.sampled_from(RULES), min_size=1, max_size=4, unique=True),
    st.lists(ROWS, max_size=3),
    st.lists(ROWS, max_size=40),
)
def judged(dsn: str, types: tuple[str, str], rules: list[str], held: Sequence[Row], rows: Sequence[Row]) -> None:
    assume(_PATTERNS not in rules or "char(2)" not in types)  # of which no such index can be
    with closing(Place(dsn)) as place:
        place.run(f"{SETTING}; create table item (id int, number int, word {types[0]}, exact {types[1]})")
        place.run("; ".join(rules))
        bad, expected = one_by_one(place, [*held, *rows])
        there = [row for number, row in enumerate(held) if number not in bad]
        sink = place.open(Target("item"))
        sink.apply([group("item", COLUMNS, there)])
        place.commit(sink)
        place.begin(sink)
        found = place.write(sink, group("item", COLUMNS, rows))
        place.commit(sink)
        refused = {number - len(held): error for number, error in bad.items() if number >= len(held)}
        assert ordinals(found) == list(refused)
        assert content(place) == expected
        for failure in found.failures if len(rules) == 1 and types == ("text", "numeric") else ():
            assert isinstance(failure.error, RejectedError)
            alone = refused[failure.ordinal]
            assert (failure.error.sqlstate, failure.error.constraint) == (alone.sqlstate, alone.diag.constraint_name)


def test_it_is_as_if_rows_came_one_by_one(dsn: str) -> None:
    """The same rows are refused, the same are there; and where only one rule may refuse them, it is told."""
    judged(dsn)

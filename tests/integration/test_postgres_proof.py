"""What the catalogue proves to be refused is not tried; what it leaves open is, whatever it looks like."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest

from consumer.errors import RejectedError
from consumer.table import Target
from tests.place import Place, group, ordinals

COUNT = 200
BAD = (-1, "bad")
# Every row that is tried takes a number of the sequence, be it refused or not.
TABLE = """create sequence tries; create table item (
  id int, number int, word text, tried bigint default nextval('tries')); """
NOOP = """create function noop() returns trigger language plpgsql as $$ begin return new; end $$;
create trigger noop {} on item for each row execute function noop()"""
CHECK = "alter table item add check (number > 0)"
HELD = "; insert into item (id, number, word) values (0, -1, 'bad')"
KEY = """create table one (number int primary key); insert into one select generate_series(1, 200);
    alter table item add foreign key (number) references one"""
PROVEN = {
    "CHECK": CHECK,
    "CHECK of two columns": "alter table item add check (number > 0 or length(word) > 3)",
    "CHECK of a list": "alter table item add check (word in ('good', 'better'))",
    "unique": f"create unique index once on item (word, number) include (id){HELD}",
    "primary key": f"alter table item add primary key (number, word){HELD}",
    "foreign key": KEY,
    "foreign key that waits": f"{KEY} deferrable initially deferred",
    "foreign key of two columns": """create table one (a text, b int, primary key (a, b));
        insert into one select 'good', generate_series(1, 200);
        alter table item add foreign key (word, number) references one""",
}
OPEN = {
    "a trigger that may change the row": f"{CHECK}; {NOOP.format('before insert')}",
    "a trigger that may change others": f"{CHECK}; {NOOP.format('after insert')}",
    "a function of the user's": """create function fine(int) returns boolean immutable language sql as 'select $1 > 0';
        alter table item add check (fine(number))""",
    "an operator of the user's": """create function above(int, int) returns boolean immutable language sql
        as 'select $1 > $2'; create operator >>> (leftarg = int, rightarg = int, function = above);
        alter table item add check (number >>> 0)""",
    "a function of time": "alter table item add check (number > 0 or now() < '2000-01-01')",
    "a function of chance": "alter table item add check (number > 0 or random() > 2)",
    "a column of a length": "alter table item alter word type varchar(9), add check (word <> 'bad')",
    "a domain": "create domain label as text; alter table item alter word type label, add check (word <> 'bad')",
    "an enumeration": """create type mood as enum ('good', 'bad');
        alter table item alter word type mood using null, add check (word <> 'bad')""",
    "another order of text": """alter table item alter word type text collate "C", add check (word <> 'bad')""",
    "a column that is not given": "alter table item add more int default -1, add check (number > 0 or more > 0)",
    "a whole row": "alter table item add check (number > 0 or item is null)",
    "a partition": f"""{CHECK}; alter table item rename to part; create table whole (like part) partition by list (id);
        alter table whole attach partition part default; alter table part rename to item""",
    "a partitioned table": """drop table item; create table item (id int, number int, word text,
        tried bigint default nextval('tries'), check (number > 0)) partition by list (id);
        create table part partition of item default""",
    "a key of some rows": f"create unique index once on item (number) where number < 0{HELD}",
    "a key of an expression": f"create unique index once on item (word, abs(number)){HELD}",
    "a key in another order": f"create unique index once on item (word text_pattern_ops, number){HELD}",
    "a key in another order of text": f"""create unique index once on item (word collate "C", number){HELD}""",
    "a key that may wait": f"alter table item add unique (number, word) deferrable{HELD}",
    "a foreign key of another type": """create table one (id bigint primary key); alter table item
        add foreign key (number) references one; insert into one select generate_series(1, 200)""",
    "a foreign key to partitions": """create table one (id int primary key) partition by list (id);
        create table part partition of one default; insert into one select generate_series(1, 200);
        alter table item add foreign key (number) references one""",
    "a foreign key beside a trigger": f"{KEY}; {NOOP.format('after insert')}",
}


@pytest.fixture
def place(dsn: str) -> Iterator[Place]:
    place = Place(dsn)
    yield place
    place.close()


def tries(place: Place) -> int:
    """How many rows isolation tries of those of which every second is bad; it must find these."""
    sink = place.open(Target("item"))
    rows = [(i, *(BAD if i % 2 == 0 else (i, "good"))) for i in range(COUNT)]
    batch = group("item", "id number word", rows)
    with pytest.raises(RejectedError):
        sink.apply([batch])
    before = place.run("select last_value from tries")[0][0]
    found = sink.isolate([batch])
    assert ordinals(found) == list(range(0, COUNT, 2))
    assert len({failure.error.reason for failure in found.failures}) == 1
    place.commit(sink)
    assert place.run("select count(*)::int from item where id % 2 = 1") == [(COUNT // 2,)]
    return int(place.run("select last_value from tries")[0][0] - before)


@pytest.mark.parametrize("name", PROVEN)
def test_what_is_proven_is_not_tried(place: Place, name: str) -> None:
    """But for the first, whose evidence is that of all."""
    place.run(TABLE + PROVEN[name])
    assert tries(place) == COUNT // 2 + 1


@pytest.mark.parametrize("name", OPEN)
def test_what_is_left_open_is_tried(place: Place, name: str) -> None:
    """Each such row alone, though it is refused in the end."""
    place.run(TABLE + OPEN[name])
    assert tries(place) >= COUNT


def test_a_key_that_only_a_child_of_the_table_has_is_free(place: Place) -> None:
    """Rows of a table that inherits from it are seen in the table, but not by its keys."""
    place.run("""create table item (id int unique, word text); create table child () inherits (item);
        insert into child values (7)""")
    sink = place.open(Target("item"))
    rows = [(1, "a"), (1, "b"), (1, "c"), (7, "d"), *((i, "e") for i in range(10, 30)), (1, "f")]
    assert ordinals(place.write(sink, group("item", "id word", rows))) == [1, 2, 24]


def test_a_value_counts_as_it_is_stored(place: Place) -> None:
    """Blanks that a column cuts off, and digits that it rounds, are not what its constraints see."""
    place.run("""create table item (id int, word varchar(3) check (word = 'abc' or id < 0),
        exact numeric(2, 1) check (exact < 1.1))""")
    sink = place.open(Target("item"))
    rows = [(1, "abd", 1), (2, "abd", 1), (3, "abc  ", 1), (4, "abc", 1.04), (5, "abc", 1.05), (6, "abc  ", 1.06)]
    rows += [(i, "abc", 1) for i in range(10, 30)]
    assert ordinals(place.write(sink, group("item", "id word exact", rows))) == [0, 1, 4, 5]


def test_too_long_is_what_more_than_blanks_are_cut_off_from(place: Place) -> None:
    """Of each column for itself, and told of that."""
    place.run("create table item (id int, word varchar(3), code char(2), small varchar(1)[])")
    sink = place.open(Target("item"))
    rows = [("abcd", "a", ["a"]), ("abcd", "abc", ["a"]), ("abc   ", "a    ", ["a  "]), (" abc", "a  b", ["a"])]
    rows += [("a b ", "a  b", ["a"]), ("a b  c", "a", ["a"]), ("äöü", "ß", ["ab"]), ("abc", "ab", ["a", "bc"])]
    rows += [("äöüß", None, None), (None, "äöüß", None), ("    ", "     ", None), ("a", "abc", ["ab"])]
    batch = group("item", "id word code small", [(i, *row) for i, row in enumerate(rows * 4)])
    found = place.write(sink, batch)
    columns = ["word", "word", None, "word", "code", "word", "small", "small", "word", "code", None, "code"] * 4
    told = {failure.ordinal: failure.error for failure in found.failures}
    assert all(isinstance(error, RejectedError) and error.sqlstate == "22001" for error in told.values())
    assert [getattr(told.get(i), "column", None) for i in range(len(columns))] == columns


def test_what_is_proven_is_told_by_its_own_condition(place: Place) -> None:
    """Not by that of the row before it."""
    place.run("create table item (id int, number int check (number > 0), word text check (word <> 'bad'))")
    sink = place.open(Target("item"))
    bad = {0: (-1, "good"), 2: (1, "bad")}
    rows = [(i, *bad.get(i % 4, (1, "good"))) for i in range(COUNT)]
    found = place.write(sink, group("item", "id number word", rows))
    told = [getattr(failure.error, "constraint", None) for failure in found.failures]
    assert ordinals(found) == list(range(0, COUNT, 2))
    assert told == ["item_number_check", "item_word_check"] * (COUNT // 4)


def test_a_state_that_is_no_records_fault_is_not_proven(place: Place) -> None:
    """What the user calls an outage is one, also where the catalogue proves it."""
    place.run("create table item (id int unique, number int check (number > 0)); insert into item values (1, 1)")
    sink = place.open(Target("item"), verdicts={"23505": "retry"})
    rows = [(i, -1) for i in range(10, 30)] + [(1, 1)] * 10
    with pytest.raises(Exception, match="23505"):
        place.write(sink, group("item", "id number", rows))


def test_who_may_not_see_the_table_may_write_it(place: Place) -> None:
    """Without the right to read it nothing can be proven of its keys: all are tried, and the same are found."""
    place.run("create table item (id int unique, word text)")
    with role(place, "grant insert on item to {0}") as dsn:
        sink = place.open(Target("item"), dsn=dsn)
        rows = [(i // 2, "a") for i in range(40)]
        assert ordinals(place.write(sink, group("item", "id word", rows))) == list(range(1, 40, 2))
        place.commit(sink)


@pytest.mark.parametrize("seen", ["", "grant select on one to {0}; alter table one enable row level security"])
def test_a_row_that_a_policy_hides_may_be_referred_to(place: Place, seen: str) -> None:
    """Nor one that may not be read: the server looks for it as the table's owner, who sees all."""
    place.run(f"create table item (id int, number int, word text); {KEY}")
    with role(place, "; ".join(["grant insert on item to {0}", *filter(None, [seen])])) as dsn:
        sink = place.open(Target("item"), dsn=dsn)
        rows = [(i, 0 if i % 4 == 0 else i, "a") for i in range(40)]
        assert ordinals(place.write(sink, group("item", "id number word", rows))) == list(range(0, 40, 4))
        place.commit(sink)


@contextmanager
def role(place: Place, grants: str) -> Iterator[str]:
    """The DSN of a user who may do this alone."""
    (name,) = place.run("select 'r' || pg_backend_pid()")[0]
    place.run(f"create role {name} login")
    try:
        place.run(f"do $$ begin execute format('grant all on schema %I to {name}', current_schema); end $$")
        place.run(grants.format(name))
        yield psycopg.conninfo.make_conninfo(place.dsn, user=name)
    finally:
        place.run(f"drop owned by {name} cascade; drop role {name}")

"""What isolation finds on a real PostgreSQL: exactly the records at fault, with the evidence, and all others are in."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import msgspec
import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from consumer.errors import FatalError, RejectedError, UnavailableError
from consumer.sinks.postgres import PostgresSink
from consumer.table import Mode, TableRows, Target
from tests.place import Place, content, group, one_by_one, ordinals


@pytest.fixture
def place(dsn: str) -> Iterator[Place]:
    place = Place(dsn)
    yield place
    place.close()


def refused(sink: PostgresSink, rows: TableRows) -> bool:
    try:
        sink.apply([rows])
    except RejectedError:
        return True
    return False


def evidence(error: Exception) -> tuple[Any, ...]:
    assert isinstance(error, RejectedError)
    return error.sqlstate, error.table, error.column, error.constraint


@dataclass(frozen=True)
class Fault:
    """A way to be refused: what the table has for it, the column, a good and a bad value, and the evidence."""

    more: str
    column: str
    good: Any
    bad: Any
    told: tuple[Any, ...]


TRIGGER = """; create function refuse() returns trigger language plpgsql as $$ begin
  if new.number < 0 then raise 'no %', new.number; end if; return new; end $$;
create trigger refuse {} on item for each row execute function refuse()"""
FAULTS = {
    "check": Fault(
        "alter table item add constraint positive check (number > 0)",
        "number",
        1,
        -1,
        ("23514", "item", None, "positive"),
    ),
    "null": Fault("alter table item alter number set not null", "number", 1, None, (None, "item", "number", None)),
    "foreign key": Fault(
        "alter table item add constraint key foreign key (number) references one",
        "number",
        1,
        2,
        ("23503", "item", None, "key"),
    ),
    "deferred": Fault(
        "alter table item add constraint key foreign key (number) references one deferrable initially deferred",
        "number",
        1,
        2,
        ("23503", "item", None, "key"),
    ),
    "unique": Fault(
        "create unique index once on item (number) where number = 7; insert into item (id, number) values (-1, 7)",
        "number",
        1,
        7,
        ("23505", "item", None, "once"),
    ),
    "before trigger": Fault(
        "select 1" + TRIGGER.format("before insert or update"), "number", 1, -1, ("P0001", "item", None, None)
    ),
    "after trigger": Fault(
        "select 1" + TRIGGER.format("after insert or update"), "number", 1, -1, ("P0001", "item", None, None)
    ),
    "assertion": Fault(
        "select 1" + TRIGGER.format("before insert").replace("raise 'no %', new.number", "assert false"),
        "number",
        1,
        -1,
        ("P0004", "item", None, None),
    ),
    "too long": Fault(
        "alter table item alter word type varchar(3)", "word", "abc  ", "abcd", ("22001", "item", "word", None)
    ),
    "characters": Fault(
        "alter table item alter word type char(3)", "word", "abc", "abcd", ("22001", "item", "word", None)
    ),
    "too large": Fault(
        "alter table item alter exact type numeric(4, 2)", "exact", 1.005, 100, ("22003", "item", "exact", None)
    ),
    "domain": Fault(
        "create domain small as varchar(5) check (value <> 'no'); alter table item alter word type small",
        "word",
        "yes",
        "no",
        ("23514", "item", "word", "small_check"),
    ),
    "json": Fault("select 1", "json", {"a": "b"}, {"a": "\0"}, ("22P05", "item", "json", None)),
    "json array": Fault(
        "alter table item alter json type jsonb[] using null",
        "json",
        [{"a": "b"}],
        [{"a": "\0"}],
        ("22P05", "item", "json", None),
    ),
    "NUL": Fault("select 1", "word", "abc", "a\0c", (None, "item", "word", None)),
    "surrogate": Fault("select 1", "word", "abc", "a\ud800c", (None, "item", "word", None)),
    "NUL in an array": Fault(
        "alter table item add words text[]", "words", ["a", "b"], ["a", "\0"], (None, "item", "words", None)
    ),
    "range": Fault("select 1", "number", 1, 2**40, (None, "item", "number", None)),
    "type": Fault("select 1", "number", 1, "one", (None, "item", "number", None)),
}
TABLES = """create table one (id int primary key); insert into one values (1);
create table item (id bigint primary key, number int, word text, exact numeric, json jsonb, version bigint)"""
MODES = {
    "insert": Target("item"),
    "upsert": Target("item", Mode.UPSERT, version="id"),
    "increment": Target("item", Mode.INCREMENT, add=("version",)),
}
BAD = {
    "first": {0},
    "last": {39},
    "one": {17},
    "some": {3, 4, 5, 20, 38},
    "many": set(range(0, 40, 2)),
    "all": set(range(40)),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", FAULTS)
def test_exactly_the_bad_records_leave(place: Place, name: str, mode: str) -> None:
    """Wherever they are and however many, with the same evidence that each has alone."""
    fault = FAULTS[name]
    place.run(f"{TABLES}; {fault.more}")
    sink = place.open(MODES[mode])
    for bad in BAD.values():
        rows = group("item", f"id {fault.column}", [(i, fault.bad if i in bad else fault.good) for i in range(40)])
        found = place.write(sink, rows)
        assert ordinals(found) == sorted(bad)
        assert found.finished
        # Text that no database can hold is found before it is sent, or after it; nothing else may differ.
        told = {evidence(failure.error) for failure in found.failures} - {("22021", *fault.told[1:])}
        assert told in ({fault.told}, set()) if fault.bad == "a\0c" else told == {fault.told}
        place.commit(sink)
        assert [row[0] for row in place.run("select id from item where id >= 0 order by id")] == [
            i for i in range(40) if i not in bad
        ]
        place.run("delete from item where id >= 0")
        place.begin(sink)


@pytest.mark.parametrize("name", ["check", "foreign key", "too long", "NUL", "json array"])
def test_no_value_is_told(place: Place, name: str) -> None:
    """What the server says of a row holds its values; what isolation says does not."""
    fault = FAULTS[name]
    place.run(f"{TABLES}; {fault.more}")
    sink = place.open(MODES["upsert"])
    found = place.write(sink, group("item", f"id {fault.column}", [(987654321, fault.bad), (2, fault.good)]))
    assert "987654321" not in found.failures[0].error.reason


def test_a_record_is_in_with_all_its_rows_or_with_none(place: Place) -> None:
    """Its rows in other tables leave with the one that is refused, whatever the tables' modes."""
    place.run(
        "create table a (id int, n int check (n > 0)); create table b (id int primary key, total int check (total < 9))"
    )
    sink = place.open(Target("b", Mode.INCREMENT, add=("total",)), Target("a"))
    bad_a, bad_b = {5, 6, 30}, {6, 17}
    a = [(i, -1 if i in bad_a and half else 1) for i in range(40) for half in (False, True)]
    b = [(i, 9 if i in bad_b else 1) for i in range(40)]
    found = place.write(
        sink, group("a", "id n", a, [i for i in range(40) for _ in range(2)]), group("b", "id total", b)
    )
    place.commit(sink)
    assert ordinals(found) == sorted(bad_a | bad_b)
    assert [failure.error.table for failure in found.failures] == ["a", "b", "b", "a"]
    left = [i for i in range(40) if i not in bad_a | bad_b]
    assert place.run("select id, count(*)::int from a group by id order by id") == [(i, 2) for i in left]
    assert place.run("select id, total from b order by id") == [(i, 1) for i in left]


def test_only_the_summand_at_fault_leaves(place: Place) -> None:
    """A sum is refused because of one of its records: the others of the same key are in it."""
    place.run("create table item (id int primary key, total int check (total <= 100))")
    sink = place.open(Target("item", Mode.INCREMENT, add=("total",)))
    rows = [(i % 2, 200 if i == 13 else 1) for i in range(60)]
    assert ordinals(place.write(sink, group("item", "id total", rows))) == [13]
    place.commit(sink)
    assert place.run("select id, total from item order by id") == [(0, 30), (1, 29)]


def test_a_rejected_version_does_not_count(place: Place) -> None:
    """The row that would have won its key, but is refused, leaves the key to the one before it."""
    place.run("create table item (id int primary key, total int check (total > 0), version int)")
    sink = place.open(Target("item", Mode.UPSERT, version="version"))
    rows = [(i % 5, -1 if i in (18, 19) else i + 1, i) for i in range(20)]
    assert ordinals(place.write(sink, group("item", "id total version", rows))) == [18, 19]
    place.commit(sink)
    assert place.run("select id, total from item order by id") == [(0, 16), (1, 17), (2, 18), (3, 14), (4, 15)]


def test_deletes_keep_their_place(place: Place) -> None:
    """Deletes and rows of one key happen in their order, without the refused ones; with a version also in rounds."""
    place.run("create table item (id int primary key, total int check (total > 0), version int)")
    for target in (Target("item", Mode.UPSERT), Target("item", Mode.UPSERT, version="version")):
        sink = place.open(target)
        rows = [
            (0, 1, 9),
            (1, 1, 1),
            (0, None, 9),
            (0, 5, 9),
            (1, -1, 2),
            (2, 1, 1),
            (2, None, 2),
            (1, 7, 3),
            (1, -1, 4),
        ]
        batch = group("item", "id total version", rows)
        batch.deletes = [False, False, True, False, False, False, True, False, False]
        assert ordinals(place.write(sink, batch)) == [8]
        place.commit(sink)
        assert place.run("select id, total from item order by id") == [(0, 5), (1, 7)]
        place.run("delete from item")


@pytest.mark.parametrize(("patience", "finished"), [(0, False), (9, False), (10, True), (None, True)])
def test_patience(place: Place, patience: int | None, finished: bool) -> None:
    """It gives up when more in a row are at fault than it is to bear; what the client finds counts with the rest."""
    place.run("create table item (id int check (id > 0), word text)")
    sink = place.open(Target("item"))
    rows = [(-1 if 10 <= i < 20 else 1, "\0" if i in (12, 15) else "a") for i in range(500)]
    found = place.write(sink, group("item", "id word", rows), patience=patience)
    assert found.finished is finished
    assert not finished or ordinals(found) == list(range(10, 20))
    sink.rollback()
    assert place.run("select from item") == []


def test_the_transaction_goes_on(place: Place) -> None:
    """After isolation more is applied, isolated and committed; what was refused meanwhile takes nothing else along."""
    place.run(
        "create table item (id int check (id > 0)); create table late (id int unique deferrable initially deferred)"
    )
    sink = place.open(Target("item"), Target("late"))
    for start in (0, 100):
        found = place.write(
            sink,
            group("item", "id", [(-1 if i in (40, 41) else start + i + 1,) for i in range(50)]),
            group("late", "id", [(start + i,) for i in range(50)]),
        )
        assert ordinals(found) == [40, 41]
        sink.apply([group("late", "id", [(start + 60,)])])
        with pytest.raises(RejectedError):
            sink.apply([group("late", "id", [(start + 60,)])])
    place.commit(sink)
    assert place.run("select (select count(*)::int from item), (select count(*)::int from late)") == [(96, 98)]


def test_rules_are_followed_as_by_copy(place: Place) -> None:
    """COPY does not follow a table's rules, and so isolation does not where it was COPY that was refused."""
    place.run("create table item (id int check (id > 0)); create table other (id int)")
    place.run("create rule away as on insert to item do instead insert into other values (new.id)")
    sink = place.open(Target("item"))
    bad = [0, 1, 2, 13, 14, 30]
    assert ordinals(place.write(sink, group("item", "id", [(-1 if i in bad else 1,) for i in range(40)]))) == bad
    place.commit(sink)
    assert place.run("select (select count(*)::int from item), (select count(*)::int from other)") == [(34, 0)]


def test_a_constraint_that_speaks_only_at_commit(place: Place) -> None:
    """Deferred, and on a table that only a trigger writes: the COMMIT is refused, the next try finds the record."""
    place.run("""create table item (id int); create table one (id int primary key); insert into one values (1);
        create table log (id int references one deferrable initially deferred);
        create function log() returns trigger language plpgsql as $$ begin
          insert into log values (new.id); return new; end $$;
        create trigger log before insert on item for each row execute function log()""")
    sink = place.open(Target("item"))
    batch = group("item", "id", [(2 if i in (7, 30) else 1,) for i in range(40)])
    sink.apply([batch])
    with pytest.raises(UnavailableError, match="COMMIT"):
        place.commit(sink)
    place.begin(sink)
    found = place.write(sink, batch)
    assert ordinals(found) == [7, 30]
    assert {evidence(failure.error) for failure in found.failures} == {("23503", "log", None, "log_id_fkey")}
    place.commit(sink)
    assert place.run("select count(*)::int from item") == [(38,)]


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("40001", UnavailableError),
        ("57014", UnavailableError),
        ("53100", UnavailableError),
        ("42501", FatalError),
        ("XX000", UnavailableError),
    ],
)
def test_what_is_no_records_fault_rejects_none(place: Place, state: str, error: type[Exception]) -> None:
    """An outage or a wrong set-up that shows itself during isolation ends the transaction; nobody is blamed."""
    place.run(f"""create table item (id int primary key check (id > 0));
        create function refuse() returns trigger language plpgsql as $$ begin
        if new.id = 30 then raise 'no' using errcode = '{state}'; end if; return new; end $$;
        create trigger refuse before insert on item for each row execute function refuse()""")
    for target in (Target("item"), Target("item", Mode.UPSERT)):
        sink = place.open(target)
        with pytest.raises(error) as raised:
            place.write(sink, group("item", "id", [(-1 if i in (3, 9) else i + 1,) for i in range(40)]))
        assert getattr(raised.value, "smaller", False) is (state == "57014")
        sink.rollback()


def test_verdicts_of_the_user(place: Place) -> None:
    """A state that the user calls an outage is one, and what is a record's fault to the user is isolated."""
    place.run("create table one (id int primary key); create table item (id int, one int references one)")
    place.run("""create function refuse() returns trigger language plpgsql as $$ begin
        if new.id < 0 then raise 'no' using errcode = '0A000'; end if; return new; end $$;
        create trigger refuse before insert on item for each row execute function refuse()""")
    rows = [(-1 if i in (5, 6) else 1, None) for i in range(20)]
    sink = place.open(Target("item"), verdicts={"23503": "retry", "0A": "reject"})
    assert ordinals(place.write(sink, group("item", "id one", rows))) == [5, 6]
    with pytest.raises(UnavailableError, match="23503"):
        place.write(sink, group("item", "id one", [(1, 1)]))


@pytest.mark.parametrize(
    "column",
    ["found", "sqlstate", "sqlerrm", "new", "old", "t", "staged", "d", "excluded", "#at", "order", 'a"b', "a%s{}$$"],
)
@pytest.mark.parametrize("mode", MODES)
def test_any_column_name(place: Place, mode: str, column: str) -> None:
    """Names that mean something in PL/pgSQL, or in our own statements, are names."""
    name = sql.Identifier(column).as_string()
    place.run(f"create table item (id int primary key, {name} int check ({name} > 0), version int)")
    sink = place.open(MODES[mode])
    rows = TableRows("item", ("id", column), [(i, -1 if i in (5, 20) else 1) for i in range(30)], list(range(30)))
    assert ordinals(place.write(sink, rows)) == [5, 20]
    place.commit(sink)
    assert place.run("select count(*)::int from item") == [(28,)]


@pytest.fixture
def bare(place: Place, dsn: str) -> Iterator[Callable[[str], str]]:
    """The DSN of a role in a database of its own, from which something is taken away there."""
    name = f"bare_{uuid.uuid4().hex}"
    place.run(f"create database {name}")
    place.run(f"create role {name} login")
    owner = make_conninfo(dsn, dbname=name)

    def take(statement: str) -> str:
        with psycopg.connect(owner, autocommit=True) as admin:
            admin.execute(
                f"create table item (id int check (id > 0)); "
                f"grant all on schema public to {name}; grant all on item to {name}".encode()
            )
            admin.execute(statement.format(name).encode())
        return make_conninfo(owner, user=name)

    yield take
    for sink in place._sinks:
        sink.close()
    place.run(f"drop database {name} with (force)")
    place.run(f"drop role {name}")


@pytest.mark.parametrize(
    "missing",
    [
        "drop extension plpgsql",
        "revoke usage on language plpgsql from public",
        "revoke temporary on database {} from public",
    ],
)
def test_without_what_the_block_needs(place: Place, bare: Callable[[str], str], missing: str) -> None:
    """No PL/pgSQL, or no temporary tables: the client halves, and finds the same."""
    sink = place.open(Target("item"), dsn=bare(missing))
    bad = [5, 6, 7, 8, 30]
    found = place.write(sink, group("item", "id", [(-1 if i in bad else 1,) for i in range(40)]))
    place.commit(sink)
    assert ordinals(found) == bad
    assert {evidence(failure.error)[0] for failure in found.failures} == {"23514"}


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("mode", ["insert", "upsert"])
def test_as_if_one_by_one(place: Place, mode: str, seed: int) -> None:
    """Whatever is wrong with a batch: the same records are found, and the same rows in, as by writing each alone."""
    dice = random.Random(seed)
    place.run(f"""{TABLES}; alter table item alter word type varchar(3), add check (number <> 3);
        create table exacts (id numeric primary key); insert into exacts values (1), (2);
        alter table item add foreign key (exact) references exacts deferrable initially deferred""")
    share = dice.choice([0.01, 0.1, 0.5, 0.9])

    def pick(good: Any, *bad: Any) -> Any:
        return dice.choice(bad) if dice.random() < share else good

    rows = [
        (dice.randrange(400), pick(1, 3, 2**33), pick("a", "abcd", "\0"), pick(1, 7), pick({}, {"a": "\0"}))
        for _ in range(dice.randrange(1, 120))
    ]
    batch = group("item", "id number word exact json", rows)
    sink = place.open(MODES[mode])
    expected = [i for i in range(len(rows)) if refused(sink, batch.only({i: i}))]
    place.commit(sink)
    wanted = place.run("select id, number, word, exact from item order by id")
    place.run("delete from item")
    place.begin(sink)
    assert ordinals(place.write(sink, batch)) == expected
    place.commit(sink)
    assert place.run("select id, number, word, exact from item order by id") == wanted


def test_json_as_it_came(place: Place) -> None:
    """Text of JSON that the server does not take as such is the record's fault, and named."""
    place.run(TABLES)
    sink = place.open(Target("item"))
    rows = [(i, msgspec.Raw(b'{"a": 1e200000}' if i in (2, 9) else b'{"a": 1}')) for i in range(20)]
    found = place.write(sink, group("item", "id json", rows))
    assert ordinals(found) == [2, 9]
    assert {evidence(failure.error) for failure in found.failures} == {("22003", "item", "json", None)}


GUESSED = {
    "CHECK, which a trigger may mend": """create table item (id int, number int check (number > 0), word text);
        create function mend() returns trigger language plpgsql as $$ begin
        if new.word = 'b' then new.number := abs(new.number); end if; return new; end $$;
        create trigger mend before insert on item for each row execute function mend()""",
    "a key that is free when its first row is refused": """create table item (
        id int unique, number int check (number > 0), word text)""",
    "a key that is free when a trigger drops its first row": """create table item (id int, number int, word text);
        create unique index once on item (id, word);
        create function drop() returns trigger language plpgsql as $$ begin
        if new.number < 0 then return null; end if; return new; end $$;
        create trigger drop before insert on item for each row execute function drop()""",
    "a key with a condition, and one of an expression": """create table item (id int, number int, word text);
        create unique index once on item (id) where number > 0; create unique index on item (lower(word), id)""",
    "two columns that refer": """create table one (a int, "B" text, primary key ("B", a));
        insert into one values (1, 'a'), (2, 'b');
        create table item (id int, number int, word text, foreign key (number, word) references one (a, "B"))""",
    "much at once": """create table item (id int unique, number int check (number > 0) check (number <> 3),
        word varchar(1), check (word <> 'b' or id < 4))""",
    "partitions": """create table item (id int check (id > 1), number int, word text) partition by list (number);
        create table item_1 partition of item for values in (1); create table item_2 partition of item default;
        alter table item_2 add check (word <> 'b')""",
}


@pytest.mark.parametrize("name", GUESSED)
def test_no_guess_decides(place: Place, name: str) -> None:
    """Whoever the catalogue makes look as if they were at fault: it is as if the rows had come one by one."""
    place.run(GUESSED[name])
    sink = place.open(Target("item"))
    for seed in range(12):
        dice, most = random.Random(seed), seed % 3 + 4
        cells = [(range(1, most), range(-1, most), ("a", "b", "B", "cc")[: most - 2]) for _ in range(30)]
        rows = [tuple(dice.choice([None, *column, *column]) for column in row) for row in cells]
        bad, expected = one_by_one(place, rows)
        found = place.write(sink, group("item", "id number word", rows))
        place.commit(sink)
        assert ordinals(found) == list(bad)
        assert content(place) == expected
        place.run("delete from item")
        place.begin(sink)


def test_who_was_guessed_to_be_at_fault_and_is_not_is_written_in_its_place(place: Place) -> None:
    """A trigger sees to what it looks as if it broke: no row that comes later is there before it."""
    place.run("""create table item (place bigserial, id int, number int check (number > 0));
        create function mend() returns trigger language plpgsql as $$ begin
        new.number := abs(new.number); return new; end $$;
        create trigger mend before insert on item for each row when (new.id = 20) execute function mend()""")
    sink = place.open(Target("item"))
    rows = [(i, -1 if i in {0, 20} else 1) for i in range(40)]
    assert ordinals(place.write(sink, group("item", "id number", rows))) == [0]
    place.commit(sink)
    assert place.run("select id from item order by place") == [(i,) for i in range(1, 40)]


def test_the_first_of_a_key_stays_whatever_is_guessed_of_it(place: Place) -> None:
    """It looks as if it broke a CHECK, which a trigger sees to: the later row of its key is the one at fault."""
    place.run("""create table item (id int unique, number int check (number > 0));
        create function mend() returns trigger language plpgsql as $$ begin
        new.number := abs(new.number); return new; end $$;
        create trigger mend before insert on item for each row when (new.id > 9) execute function mend()""")
    sink = place.open(Target("item"))
    rows = [(1, -1), (10, -1), (2, 1), (3, 1), (10, 1), (4, 1), (5, 1)]
    assert ordinals(place.write(sink, group("item", "id number", rows))) == [0, 4]


_REFUSING = """create function refuse() returns trigger language plpgsql as $$ begin
        if {} then raise 'no'; end if; return new; end $$;
        create trigger refuse {} insert on item for each row execute function refuse()"""
_ITEM = "create table item (id int, number int, word text)"
STOPPED = {
    "where it refuses": f"{_ITEM}; {_REFUSING.format('new.number < 0', 'before')}",
    "when all are in": f"{_ITEM}; {_REFUSING.format('new.number < 0', 'after')}",
    "at the end": f"{_ITEM}; "
    + _REFUSING.format("new.number < 0", "after")
    .replace("create trigger", "create constraint trigger")
    .replace("for each row", "deferrable initially deferred for each row"),
    "for one that came before": f"{_ITEM}; alter table item add exclude (abs(number) with =) where (number < 0)",
    "for those before": f"{_ITEM}; "
    + _REFUSING.format("new.number < 0 and exists (select from item where id >= new.id - 2)", "before"),
    "with more rows than came": f"""{_ITEM}; {_REFUSING.format("new.number < 0", "before")};
        create function add() returns trigger language plpgsql as $$ begin
        if pg_trigger_depth() = 1 then insert into item values (new.id, 1, 'more'); end if; return new; end $$;
        create trigger add before insert on item for each row execute function add()""",
    "with fewer rows than came": f"""{_ITEM}; {_REFUSING.format("new.number < 0", "before")};
        create function less() returns trigger language plpgsql as $$ begin return null; end $$;
        create trigger less before insert on item for each row when (new.id % 3 = 0) execute function less()""",
    "in partitions": f"""{_ITEM} partition by list (number); create table item_1 partition of item default;
        {_REFUSING.format("new.number < 0", "before")}""",
}


@pytest.mark.parametrize("counted", ["on", "off"])
@pytest.mark.parametrize("name", STOPPED)
def test_how_far_the_server_got_is_but_a_hint(place: Place, name: str, counted: str) -> None:
    """Whatever it counted, or if it counts nothing: it is as if the rows had come one by one, up to too many bad."""
    place.run(STOPPED[name])
    options = f"-csearch_path={place.schema} -ctrack_counts={counted}"
    sink = place.open(Target("item"), dsn=make_conninfo(place.dsn, options=options))
    for seed, share in enumerate([0.005, 0.02, 0.05, 0.1, 0.5, 1]):
        dice = random.Random(seed)
        rows = [(i, -1 if dice.random() < share else 1, "a") for i in range(300)]
        bad, expected = one_by_one(place, rows)
        runs = [len(list(run)) for refused, run in groupby(i in bad for i in range(len(rows))) if refused]
        patience = max(runs, default=0)
        batch = group("item", "id number word", rows)
        assert not bad or not place.write(sink, batch, patience=patience - 1).finished
        sink.rollback()
        place.begin(sink)
        found = place.write(sink, batch, patience=dice.choice([patience, None]))
        place.commit(sink)
        assert found.finished
        assert ordinals(found) == list(bad)
        assert content(place) == expected
        place.run("delete from item")
        place.begin(sink)

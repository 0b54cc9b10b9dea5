"""`microbatch dlq` on real databases and a real Kafka."""

from __future__ import annotations

import datetime
import json
import signal
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from psycopg.conninfo import make_conninfo

from consumer.config import load
from consumer.deadletter import DeadLetterTopic
from consumer.dlq.commands import Way, run_replay
from consumer.dlq.replay import Report
from consumer.letter import DeadLetter, Evidence, State
from consumer.sinks import Position, Selection
from consumer.sinks.opening import open_sink
from tests.command import ended, microbatch, start
from tests.coordinator import require_coordinator
from tests.faults.waiting import until

LATELY = int(time.time() * 1000) - 3_600_000  # young enough that no broker deletes it
WHEN = datetime.datetime(2026, 1, 31, 8, tzinfo=datetime.UTC)
CHECK = Evidence("write", "RejectedError", "Check violation of stock_check", "23514", "stock", None, "stock_check", 2)
DECODE = Evidence("decode", "DecodeError", "not JSON")
ALL = Selection(tuple(State))
FIXES = """
def fix(record):
    if isinstance(record.value, bytes):
        raise KeyError("secret")
    return record.value | {"n": abs(record.value["n"])}
"""


def letter(offset: int, n: int | None, topic: str = "stock", **more: Any) -> DeadLetter:
    value = b"{broken" if n is None else b'{"id": %d, "n": %d}' % (offset, n)
    known: dict[str, Any] = {"key": b"k%d" % offset, "headers": [("h", b"\xff")], "timestamp": (1, LATELY)}
    known |= {"evidence": DECODE if n is None else CHECK, "first_failed_at": WHEN, "state": State.KEPT, "partition": 0}
    return DeadLetter(topic, offset=offset, value=value, **known | more)


@dataclass
class Shop:
    """A database with the tables `stock` and `price`, and a configuration file for it."""

    folder: Path
    dsn: str
    execute: Callable[[str], list[Any]]

    def config(self, more: str = "", *, tables: str = "", kafka: str = "none:1", topics: str = "stock, price") -> Path:
        file = self.folder / f"{uuid.uuid4().hex[:8]}.yaml"
        tables = tables and f", tables: {tables}"
        file.write_text(
            f"kafka: {{bootstrap.servers: '{kafka}', group.id: shop}}\ntopics: [{topics}]\nformat: json\n"
            f'sink: {{dsn: "{self.dsn}"{tables}}}\nadmin: {{enabled: false}}\n{more}'
        )
        return file

    def keep(self, *letters: DeadLetter) -> None:
        """As the daemon does."""
        with closing(open_sink(load(self.config()), "test")) as sink:
            sink.claim({("stock", 0): Position(0, "cluster", "topic")})
            sink.begin({})
            sink.letters.keep(letters)
            sink.commit({})

    def letters(self) -> dict[tuple[str, int], DeadLetter]:
        with closing(open_sink(load(self.config()), "test")) as sink:
            return {(one.topic, one.offset): one for one in sink.letters.select(ALL, 10_000)}

    def states(self) -> list[State]:
        return [one.state for one in self.letters().values()]

    def rows(self, table: str = "stock") -> list[tuple[int, int]]:
        return [tuple(row) for row in self.execute(f"select id, n from {table} order by id, n")]


@pytest.fixture(params=["postgres", "sqlite"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    """In either database."""
    tables = [f"create table {name} (id bigint, n bigint check (n >= 0))" for name in ("stock", "price")]
    (tmp_path / "fixes.py").write_text(FIXES)
    if request.param == "sqlite":
        with closing(sqlite3.connect(tmp_path / "shop.db", isolation_level=None)) as lite:
            for statement in tables:
                lite.execute(statement)
            yield Shop(tmp_path, f"sqlite:///{tmp_path / 'shop.db'}", lambda text: lite.execute(text).fetchall())
        return
    schema = f"dlq_{uuid.uuid4().hex[:8]}"
    dsn = make_conninfo(request.getfixturevalue("dsn"), options=f"-csearch_path={schema}")
    with psycopg.connect(dsn, autocommit=True) as server:

        def execute(text: str) -> list[Any]:
            cursor = server.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

        for statement in [f"create schema {schema}", *tables]:
            execute(statement)
        yield Shop(tmp_path, dsn, execute)
        execute(f"drop schema {schema} cascade")


def dlq(command: str, config: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    done = microbatch("dlq", command, config, *arguments, PYTHONPATH=str(config.parent))
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_list_says_how_many_of_which_kind_then_which(shop: Shop) -> None:
    """Filters choose; JSON says the same; a database that has none says so."""
    config = shop.config()
    assert dlq("list", config).stdout == "0 dead letters\n"
    shop.keep(*(letter(offset, -1) for offset in range(30)), letter(30, None), letter(5, -1, "price"))
    told = dlq("list", config, "--limit", "2").stdout.splitlines()
    assert told[0] == "32 dead letters: 31 check constraint stock_check, 1 not decodable"
    assert [line.split()[0] for line in told[1:]] == ["coordinates", "price/0/5", "stock/0/0"]
    found = json.loads(dlq("list", config, "--json", "--stage", "decode").stdout)
    assert [one["count"] for one in found["tallies"]] == [1]
    assert [one["offset"] for one in found["dead_letters"]] == [30]
    for option in (["--constraint", "x"], ["--since", "2026-02-01T00:00:00Z"], ["--state", "replayed"]):
        assert dlq("list", config, *option).stdout == "0 dead letters\n"


def test_show_prints_the_value_only_when_asked(shop: Shop) -> None:
    """Evidence always; the value decoded, or its bytes; what is not there is said."""
    shop.keep(letter(1, -7), letter(2, None))
    config = shop.config()
    told = dlq("show", config, "stock/0/1").stdout
    assert "sqlstate: 23514\n" in told
    assert "-7" not in told
    told = dlq("show", config, "stock/0/1", "--value").stdout
    assert '"n": -7' in told
    assert "header h: b'\\xff'" in told
    assert "value: b'{broken'" in dlq("show", config, "stock/0/2", "--value").stdout
    done = dlq("show", config, "stock/0/3")
    assert (done.returncode, "no dead letter" in done.stderr) == (2, True)
    assert dlq("show", config, "stock-0-3").returncode == 2


def test_replay_in_the_life_of_an_operator(shop: Shop) -> None:
    """Dry run, a fix, what fails again, the schema mended, and a second replay that does nothing."""
    shop.keep(letter(1, -5), letter(2, None), letter(3, -6), letter(4, 4, "price"))
    config = shop.config()
    done = dlq("replay", config, "--dry-run")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == ["1 would be replayed", "3 would fail again:"]
    assert (shop.rows(), shop.rows("price")) == ([], [])
    done = dlq("replay", config)
    assert (done.returncode, "nothing was changed" in done.stderr) == (2, True)
    assert "4 dead letters: " in done.stdout
    done = dlq("replay", config, "--fix", "fixes:fix", "--yes", "stock/0/1", "stock/0/2")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "1 replayed")
    assert "1 map: the fix function raised KeyError in line 4 (first: stock/0/2)" in done.stdout
    assert (shop.rows(), shop.letters()["stock", 1].value) == ([(1, 5)], b'{"id": 1, "n": -5}')
    kept = shop.letters()["stock", 2]
    assert (kept.state, kept.evidence.attempts, kept.replay_count) == (State.KEPT, 2, 1)
    shop.execute("drop table stock")
    shop.execute("create table stock (id bigint, n bigint)")
    done = dlq("replay", config, "--sqlstate", "23514", "--yes")
    assert (done.returncode, done.stdout) == (0, "2 replayed\n")
    assert (shop.rows(), shop.rows("price")) == ([(3, -6)], [(4, 4)])
    done = dlq("replay", config, "--sqlstate", "23514", "--yes")
    assert (done.returncode, done.stdout) == (0, "0 replayed\n")
    assert (shop.rows(), shop.rows("price")) == ([(3, -6)], [(4, 4)])
    assert dlq("discard", config).returncode == 2
    assert dlq("discard", config, "--yes").stdout == "1 discarded\n"
    assert shop.letters()["stock", 2].state is State.DISCARDED
    assert dlq("list", config).stdout == "0 dead letters\n"


def test_a_table_that_is_gone_keeps_its_letters(shop: Shop) -> None:
    """Each is told with the table and what to do; the rest is written."""
    shop.keep(letter(1, 1), letter(2, 2, "price"), letter(3, 3))
    shop.execute("drop table stock")
    done = dlq("replay", shop.config(), "--yes")
    assert done.returncode == 1
    assert done.stdout.splitlines()[:2] == ["1 replayed", "2 left as they were:"]
    assert "stock" in done.stdout.splitlines()[2]
    assert shop.rows("price") == [(2, 2)]
    assert [one.state for one in shop.letters().values()] == [State.REPLAYED, State.KEPT, State.KEPT]


def test_an_old_record_never_overwrites_a_newer_row(shop: Shop) -> None:
    """Without a version it refuses, and says what to do; with one the newer row stays."""
    shop.execute("create unique index stock_key on stock (id)")
    shop.keep(letter(1, 1))
    shop.execute("insert into stock values (1, 9)")
    plain = shop.config(tables="{stock: {mode: upsert, key: [id]}}", topics="stock")
    done = dlq("replay", plain, "--yes")
    assert (done.returncode, "sink.tables.stock.version" in done.stderr) == (2, True)
    assert (shop.rows(), shop.states()) == ([(1, 9)], [State.KEPT])
    guarded = shop.config(tables="{stock: {mode: upsert, key: [id], version: n}}", topics="stock")
    assert dlq("replay", guarded, "--yes").stdout == "1 replayed\n"
    assert (shop.rows(), shop.states()) == ([(1, 9)], [State.REPLAYED])


def test_many_letters_go_in_lots_and_two_replays_at_once_do_not_double(shop: Shop) -> None:
    """Each lot is a transaction; whoever comes second finds it done."""
    shop.keep(*(letter(offset, offset % 10 - 1) for offset in range(2500)))
    settings = load(shop.config())
    reports = [Report(), Report()]
    threads = [
        Thread(target=run_replay, args=[settings, Selection(), Way(), report], daemon=True) for report in reports
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sum(report.replayed for report in reports) == 2250
    assert [id for id, _ in shop.rows()] == [offset for offset in range(2500) if offset % 10]
    assert shop.states().count(State.KEPT) == 250


# With Kafka


class Topic:
    """A source topic with two partitions, and its topic of dead letters."""

    def __init__(self, kafka: str) -> None:
        self.kafka, self.name = kafka, f"stock_{uuid.uuid4().hex[:8]}"
        self._admin = AdminClient({"bootstrap.servers": kafka})
        self.create(self.name, 2)
        self.create(f"{self.name}.dlq", 1)

    def create(self, name: str, partitions: int) -> None:
        self._admin.create_topics([NewTopic(name, partitions, 1)])[name].result()

    def publish(self, letters: Sequence[DeadLetter], group: str = "shop", **more: Any) -> None:
        outbox = DeadLetterTopic({"bootstrap.servers": self.kafka}, group=group, **more)
        outbox.send(letters)
        outbox.wait(30)
        assert [receipt.error for receipt in outbox.receipts()] == [None] * len(letters)
        outbox.close()

    def produce(self, *headers: list[tuple[str, bytes]] | None) -> None:
        """Records of somebody else among the dead letters."""
        producer = Producer({"bootstrap.servers": self.kafka, "message.max.bytes": 20_000_000})
        for one in headers:
            producer.produce(f"{self.name}.dlq", b"{}", headers=[*one] if one else None)
        assert producer.flush(30) == 0

    def read(self, name: str) -> list[Any]:
        """All that is there."""
        reader = Consumer({"bootstrap.servers": self.kafka, "group.id": "reader", "enable.partition.eof": True})
        partitions = len(self._admin.list_topics(name).topics[name].partitions)
        reader.assign([TopicPartition(name, number, 0) for number in range(partitions)])
        found, ends = [], 0
        while ends < partitions:
            message = reader.poll(30)
            assert message is not None
            if message.error():
                ends += 1
            else:
                found.append(message)
        reader.close()
        return sorted(found, key=lambda message: (message.partition(), message.offset()))


@pytest.fixture
def topic(kafka: str, shop: Shop) -> Topic:
    """With a table of its name."""
    made = Topic(kafka)
    require_coordinator(kafka, "shop.dlq", made.name)
    shop.execute(f"create table {made.name} (id bigint, n bigint check (n >= 0))")
    return made


def test_back_into_the_source_topic_byte_by_byte(shop: Shop, topic: Topic) -> None:
    """Key, value, partition and its own headers, at the time of now, so that no retention deletes it unread."""
    own = [("h", b"\xff"), ("microbatch.stage", b"write"), ("__dlq.errors.topic", b"x"), ("n", None)]
    first = letter(1, -1, topic.name, partition=1, headers=own)
    shop.keep(first, letter(2, None, topic.name, headers=None, key=None))
    config = shop.config(kafka=topic.kafka, topics=topic.name)
    assert dlq("replay", config, "--to-topic", "--dry-run").stdout == "2 would be replayed\n"
    assert topic.read(topic.name) == []
    assert dlq("replay", config, "--to-topic", "--yes").stdout == "2 replayed\n"
    found = topic.read(topic.name)
    assert [(m.partition(), m.key(), m.value(), m.headers()) for m in found] == [
        (0, None, b"{broken", None),
        (1, b"k1", b'{"id": 1, "n": -1}', [("h", b"\xff"), ("n", None)]),
    ]
    assert all(m.timestamp()[1] > LATELY for m in found)
    assert dlq("replay", config, "--to-topic", "--yes").stdout == "0 replayed\n"
    assert len(topic.read(topic.name)) == 2
    assert shop.states() == [State.REPLAYED] * 2
    shop.keep(letter(3, 3, "nowhere"))
    done = dlq("replay", config, "--to-topic", "--yes")
    assert (done.returncode, "'nowhere'" in done.stderr, "--to-topic" in done.stderr) == (2, True, True)


def test_from_the_topic_what_the_table_forgot(shop: Shop, topic: Topic) -> None:
    """The payload comes from the topic, and the table still sees to it that nothing is written twice."""
    letters = [letter(offset, offset, topic.name) for offset in range(3)]
    topic.publish(letters)
    topic.publish(letters)
    emptied = {"key": None, "value": None, "headers": None, "state": State.PUBLISHED}
    shop.keep(*(replace(one, **emptied) for one in letters[:2]))  # type: ignore[arg-type]
    config = shop.config(kafka=topic.kafka, topics=topic.name)
    assert "3 dead letters" in dlq("list", config, "--from-topic").stdout
    done = dlq("replay", config, "--yes")
    assert (done.returncode, "keep_payload: false" in done.stdout) == (1, True)
    done = dlq("replay", config, "--from-topic", "--yes")
    assert done.stdout == "2 replayed\n1 were not open (any longer) when their turn came\n"
    assert shop.rows(topic.name) == [(0, 0), (1, 1)]
    dlq("replay", config, "--from-topic", "--yes")
    assert shop.rows(topic.name) == [(0, 0), (1, 1)]


HOSTILE: list[list[tuple[str, bytes]] | None] = [
    None,
    [("__dlq.errors.topic", b"else"), ("__dlq.errors.partition", b"0"), ("__dlq.errors.offset", b"1")],
    [("__dlq.errors.topic", b"\xff\x1b"), ("__dlq.errors.partition", b"-1"), ("__dlq.errors.offset", b"9" * 40)],
    [("kafka_dlt-original-topic", b"t"), ("kafka_dlt-original-partition", b"\0")],
    [("__dlq.errors.topic", b"x" * 900_000)],
]


def test_what_is_no_dead_letter_is_told_and_the_rest_goes_on(shop: Shop, topic: Topic) -> None:
    """Nothing, another product's, another topic's and hostile headers: one clear line each, no value printed."""
    topic.produce(*HOSTILE)
    topic.publish([letter(1, 1, topic.name)])
    shop.keep(letter(1, 1, topic.name))
    done = dlq("replay", shop.config(kafka=topic.kafka, topics=topic.name), "--from-topic", "--yes")
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[0], lines[1]) == (1, "1 replayed", "5 left as they were:")
    assert [f"{topic.name}.dlq/0/{number}" in done.stdout for number in range(5)] == [True] * 5
    assert "\x1b" not in done.stdout
    assert len(done.stdout) < 3000
    assert shop.rows(topic.name) == [(1, 1)]


def test_without_a_table_the_topic_is_the_place(shop: Shop, topic: Topic) -> None:
    """At least once: what is done is remembered by offset, what fails again is appended with new evidence."""
    topic.publish([letter(1, 1, topic.name), letter(2, -2, topic.name), letter(3, 3, topic.name)])
    topic.publish([letter(9, 9, topic.name)], group="another")
    config = shop.config("delivery: at_least_once\n", kafka=topic.kafka, topics=topic.name)
    assert "3 dead letters" in dlq("list", config).stdout
    assert dlq("replay", config, "--dry-run").stdout.startswith("2 would be replayed")
    assert dlq("replay", config, f"{topic.name}/0/3", "--yes").stdout == "1 replayed\n"
    done = dlq("replay", config, "--yes")
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, "2 replayed")
    assert shop.rows(topic.name) == [(1, 1), (3, 3), (3, 3)]
    told = dlq("show", config, f"{topic.name}/0/2", "--value").stdout
    assert "attempts: 3\n" in told
    assert "replay count: 1\n" in told
    assert '"n": -2' in told
    assert dlq("replay", config, "--yes").stdout.splitlines()[0] == "0 replayed"
    assert shop.rows(topic.name) == [(1, 1), (3, 3), (3, 3)]
    assert dlq("discard", config, "--topic", topic.name, "--yes").returncode == 2
    assert dlq("discard", config, "--yes").stdout == "1 discarded\n"
    assert dlq("list", config).stdout == "0 dead letters\n"


def test_from_the_daemon_to_the_replay(shop: Shop, topic: Topic) -> None:
    """A bad record is listed while the daemon runs, replayed with a fix, and verified."""
    producer = Producer({"bootstrap.servers": topic.kafka})
    for number, value in enumerate([1, 2, -3, 4]):
        producer.produce(topic.name, json.dumps({"id": number, "n": value}).encode(), partition=0)
    assert producer.flush(30) == 0
    config = shop.config(kafka=topic.kafka, topics=topic.name)
    process = start("run", config)
    try:
        until(lambda: len(shop.rows(topic.name)) == 3, "the good ones are written")
        until(lambda: shop.states() == [State.PUBLISHED], "the bad one is published")
        listed = json.loads(dlq("list", config, "--json").stdout)
        assert [(one["offset"], one["evidence"]["table"]) for one in listed["dead_letters"]] == [(2, topic.name)]
        assert dlq("replay", config, "--fix", "fixes:fix", "--yes").stdout == "1 replayed\n"
        assert shop.rows(topic.name) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    finally:
        process.send_signal(signal.SIGTERM)
        done = ended(process)
    assert done.returncode == 0, done.stderr
    verified = microbatch("verify", config)
    assert (verified.returncode, "dead letters: 1 replayed" in verified.stdout) == (0, True), verified
    assert len(topic.read(f"{topic.name}.dlq")) == 1

"""The command `microbatch demo` as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from consumer.demo.database import schema
from consumer.demo.feed import TOPIC, Broker, Feed
from tests.command import ROOT, microbatch

ORDERS = 20_000
SPOILT = 4
PROVED = (
    "\nproved: transactions, inventory, offsets and dead letters are what was produced: 20,000 orders, 4 of them spoilt"
)
DEAD = "\ndead letters 4: 2 refused by transactions_quantity_check, 1 not decodable, 1 not mappable\n"
LOSE_ONE_LINE = """create trigger harm before insert on transactions when new.order_id = 19000 and new.line = 1
                   begin select raise(ignore); end"""
COUNT_TOO_MANY = """create trigger harm after update on inventory when new.item_id = 7
                    begin update inventory set sold = new.sold + 1 where item_id = 7; end"""

LOSE_DEAD_LETTERS = """create trigger harm after insert on transactions when new.order_id = 19000 and new.line = 1
                       begin delete from microbatch_dead_letters; end"""


def start(folder: Path, records: int) -> subprocess.Popen[str]:
    arguments = ["demo", "--records", str(records), "--database", str(folder / "orders.db")]
    return subprocess.Popen(
        [sys.executable, "-m", "consumer", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(folder)},
    )


def wait_for_inventory(file: Path, deadline: float = 30) -> None:
    """The table that the demo makes last is there."""
    end = time.monotonic() + deadline
    while True:
        assert time.monotonic() < end, "the demo has not made its tables"
        if file.exists():
            with closing(sqlite3.connect(file)) as connection:
                if connection.execute("select 1 from sqlite_schema where name = 'inventory'").fetchone():
                    return


def test_it_proves_that_every_order_is_in_sqlite(tmp_path: Path) -> None:
    """It ends with 0 and the proof, says that its broker is no Kafka, and leaves the file for a look.

    The orders that were spoilt are its dead letters, which the command that it names lists afterwards.
    """
    file = tmp_path / "orders.db"
    ended = microbatch("demo", "--records", ORDERS, "--database", file, TMPDIR=str(tmp_path))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "an embedded test broker, not Kafka" in ended.stdout
    assert PROVED in ended.stdout
    assert DEAD in ended.stdout
    with closing(sqlite3.connect(file)) as connection:
        (good,) = connection.execute("select count(distinct order_id) from transactions").fetchone()
    assert good == ORDERS - SPOILT
    named = re.search(r"^  microbatch (dlq list .+)$", ended.stdout, re.MULTILINE)
    assert named, ended.stdout
    listed = microbatch(*named[1].split())
    assert listed.stdout.startswith("4 dead letters: "), listed.stdout + listed.stderr


def test_it_proves_that_every_order_is_in_postgresql() -> None:
    """`--postgres` needs no server that is there already, and ends with the same proof."""
    ended = microbatch("demo", "--records", ORDERS, "--postgres")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert PROVED in ended.stdout
    assert DEAD in ended.stdout


@pytest.mark.parametrize(
    ("harm", "table"),
    [
        (LOSE_ONE_LINE, "transactions"),
        (COUNT_TOO_MANY, "inventory"),
        (LOSE_DEAD_LETTERS, "microbatch_dead_letters"),
    ],
)
def test_it_fails_when_the_database_holds_something_else(tmp_path: Path, harm: str, table: str) -> None:
    """A line lost, a piece too many, or dead letters lost: it ends with 1 and names the table, and no other."""
    file = tmp_path / "orders.db"
    demo = start(tmp_path, ORDERS)
    wait_for_inventory(file)
    with closing(sqlite3.connect(file, timeout=30)) as connection:
        connection.execute(harm)
    shown, complaints = demo.communicate(timeout=60)
    wrong = {line.split(": ")[1] for line in shown.splitlines() if line.startswith("not proved: ")}
    assert (demo.returncode, wrong) == (1, {table}), shown + complaints
    assert "\nproved:" not in shown


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    """It writes what was read, says how many orders that is, claims no proof, and shows no traceback."""
    demo = start(tmp_path, 10 * ORDERS)
    assert demo.stdout
    assert any(line.startswith("orders: ") and " of 200,000" in line for line in demo.stdout)
    demo.send_signal(signal.SIGINT)
    shown, complaints = demo.communicate(timeout=60)
    assert demo.returncode == 130, shown + complaints
    with closing(sqlite3.connect(tmp_path / "orders.db")) as connection:
        (good,) = connection.execute("select count(distinct order_id) from transactions").fetchone()
        (dead,) = connection.execute("select count(*) from microbatch_dead_letters").fetchone()
    assert f"stopped: {good + dead:,} of 200,000 orders are written" in shown
    assert "proved" not in shown
    assert "Traceback" not in complaints


def test_it_overwrites_no_file(tmp_path: Path) -> None:
    """A file that is there already is a wrong setting: exit 2, and not a byte of it changes."""
    file = tmp_path / "precious.db"
    file.write_text("precious")
    ended = microbatch("demo", "--database", file, TMPDIR=str(tmp_path))
    assert (ended.returncode, file.read_text()) == (2, "precious")
    assert "--database" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_orders_wait_for_those_that_are_not_written_yet() -> None:
    """While nothing is written the broker still holds each partition's first order; in the end the feed gives up."""
    broker, done = Broker(), threading.Event()
    feed = Feed(broker, schema("order.avsc"), 10 * ORDERS, done, patience=1)
    feed.run()
    assert done.is_set()
    assert str(feed.failure) == "nothing was written for 1 s; 0 of 200,000 are"
    assert ORDERS < feed.ledger.orders < 5 * ORDERS
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    asked = {TopicPartition(TOPIC, number): OffsetSpec.earliest() for number in broker.partitions}
    assert {future.result().offset for future in admin.list_offsets(asked).values()} == {0}
    asked = {TopicPartition(TOPIC, number): OffsetSpec.latest() for number in broker.partitions}
    assert sum(future.result().offset for future in admin.list_offsets(asked).values()) == feed.ledger.orders

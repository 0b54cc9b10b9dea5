"""Mixes of good and bad records, by the real mapper, writer and sink: the dead letters are the bad ones, exactly."""

from __future__ import annotations

import gc
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from consumer.batch import BatchPolicy, Collector
from consumer.breaker import Breaker
from consumer.config import load
from consumer.mapping.opening import open_mapper
from consumer.sinks import Position
from consumer.sinks.postgres import PostgresSink
from consumer.table import Target
from consumer.writer import Writer
from tests.fake_kafka import MemoryMessage
from tests.faults.rounds import LONG, Rounds

P = ("mix", 0)
TABLES = ("plain", "late")  # only the one has no constraint that is checked at COMMIT
SCHEMA = """
create table parent (id bigint primary key);
insert into parent values (1);
create function refuse() returns trigger language plpgsql as
  $$ begin if new.pad = tg_argv[0] then raise exception 'no'; end if; return new; end $$;
"""
TABLE = """
create table {table} (place bigserial, seq bigint, amount int check (amount >= 0), once text unique,
                      parent bigint references parent, pad text);
create trigger refuse before insert on {table} for each row execute function refuse('raise');
"""
LATE = """
create constraint trigger late after insert on late deferrable initially deferred
for each row execute function refuse('at commit')
"""
FAULTS: dict[str, dict[str, Any]] = {
    "decode": {},  # its last byte is missing
    "type": {"amount": "canary"},
    "range": {"amount": 1 << 40},
    "NUL": {"pad": "\0"},
    "check": {"amount": -1},
    "unique": {"once": "taken"},
    "foreign key": {"parent": 2},
    "trigger": {"pad": "raise"},
    "at commit": {"pad": "at commit"},
}
MOST = 10_000
pytestmark = pytest.mark.timeout(0 if LONG else 120)


def value(seq: int, fault: str | None) -> bytes:
    row = {"seq": seq, "amount": seq % 100, "once": None, "parent": 1, "pad": "x" * (seq % 50)}
    row |= FAULTS[fault] if fault else {}
    return json.dumps(row).encode()[: -1 if fault == "decode" else None]


class Mix:
    """Records, of which about a `share` is bad, alone or in runs, to be read in batches of `batch`."""

    def __init__(self, random_: random.Random, table: str) -> None:
        self.batch = round(10 ** random_.uniform(0, 4))
        self.share = random_.choice([10 ** random_.uniform(-4, 0), random_.random(), 1.0])
        self.kinds = random_.sample([kind for kind in FAULTS if table == "late" or kind != "at commit"], 3)
        run = random_.choice([1, 1, 10, 100])
        records = max(self.batch, min(300 * self.batch, 1500))
        self.records = list[str | None]()
        while len(self.records) < records:
            bad = random_.random() < self.share
            for _ in range(min(run, records - len(self.records))):
                self.records.append(random_.choice(self.kinds) if bad else None)

    def __str__(self) -> str:
        return f"{len(self.records)} records in batches of {self.batch}, {self.share:.2%} with {self.kinds}"


class Mill:
    """Writes mixes into tables of its own."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self._dsn, self._folder = dsn, folder
        self._admin = psycopg.connect(dsn, autocommit=True)
        self._admin.execute("create schema if not exists poison; set search_path = poison")
        self._admin.execute(SCHEMA + "".join(TABLE.format(table=table) for table in TABLES) + LATE)

    def close(self) -> None:
        self._admin.execute("drop schema poison cascade")
        self._admin.close()

    def write(self, mix: Mix, table: str) -> list[str]:
        """Returns what is not as it must be."""
        dsn = f"{self._dsn} options=-csearch_path=poison"
        config = self._folder / f"{table}.yaml"
        settings = {"kafka": {"bootstrap.servers": "none:1", "group.id": "g"}, "topics": ["mix"], "format": "json"}
        config.write_text(json.dumps(settings | {"sink": {"dsn": dsn, "tables": {table: {}}}}))
        sink = PostgresSink(dsn, [Target(table)], "g", "a")
        self._admin.execute(f"truncate {table}; drop table if exists microbatch_offsets, microbatch_dead_letters")
        self._admin.execute(f"insert into {table} (place, once) values (0, 'taken')")
        writer = Writer(sink, open_mapper(load(config), sink.describe), Breaker(MOST, 1.0))
        collector = Collector(BatchPolicy(mix.batch, 1 << 40))
        writer.claim({P: Position(0, "c", "i")})
        collector.start({P: 0})
        values = [value(seq, fault) for seq, fault in enumerate(mix.records)]
        collector.add([MemoryMessage(*P, seq, each) for seq, each in enumerate(values)], 0)
        collector.close("drain")
        while batch := collector.take(0):
            writer.write(batch)
        sink.close()
        return list(self._differences(mix, values, table))

    def _differences(self, mix: Mix, values: list[bytes], table: str) -> Iterator[str]:
        rows = self._admin.execute(f"select seq from {table} where place > 0 order by place").fetchall()
        letters = self._admin.execute('select "offset", value from microbatch_dead_letters order by 1').fetchall()
        good = [seq for seq, fault in enumerate(mix.records) if fault is None]
        bad = [(seq, values[seq]) for seq, fault in enumerate(mix.records) if fault]
        if [seq for (seq,) in rows] != good:
            yield f"{mix}: {len(rows)} rows, not the {len(good)} good ones in order"
        if letters != bad:
            yield f"{mix}: {len(letters)} dead letters, not the {len(bad)} bad ones"


@pytest.fixture
def mill(dsn: str, tmp_path: Path) -> Iterator[Mill]:
    mill = Mill(dsn, tmp_path)
    yield mill
    mill.close()


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_no_record_outlives_its_batch(mill: Mill, fault: str | None) -> None:
    """Nothing of a batch waits for the garbage collector, which has been told not to hurry."""
    mix = Mix(random.Random(1), "late")
    mix.batch, mix.records = 20, [fault if seq % 10 == 5 else None for seq in range(100)]
    gc.collect()
    gc.disable()
    try:
        assert mill.write(mix, "late") == []
        assert not any(isinstance(each, MemoryMessage) for each in gc.get_objects())
    finally:
        gc.enable()


def test_poison_mixes(mill: Mill) -> None:
    """From one bad record in 10,000 to all, in batches of 1 to 10,000: good ones are rows, once and in order."""
    for round_ in Rounds("poison", 40, 500):
        with round_.told():
            for table in round_.kinds(TABLES):
                mix = Mix(round_.random, table)
                assert mill.write(mix, table) == []
                amount = "all" if all(mix.records) else "some" if any(mix.records) else "none"
                round_.counts[f"{amount} bad, {table}"] += 1

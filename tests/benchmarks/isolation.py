"""`python -m tests.benchmarks.isolation`: what bad records cost, as ratios to a clean batch; see `--help`."""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.console import Console
from rich.table import Table

from consumer.errors import RejectedError, TopicPartition
from consumer.memory import settle
from consumer.sinks import Fence, Position
from consumer.sinks.postgres import PostgresSink
from consumer.table import Mode, TableRows, Target
from tests.benchmarks import orders
from tests.benchmarks.lab import BATCH, DURABLE
from tests.benchmarks.results import ROOT, circumstances, save
from tests.services.postgres import Postgres
from tests.services.proxy import Proxy

P = ("orders", 0)
COLUMNS = tuple(orders.COLUMNS)
ROUND_TRIPS = {"local": 0.0, "2.5 ms": 0.00125}  # to the delay of each direction, in seconds
SHARES = {"1 record": 1 / BATCH, "1 %": 0.01, "10 %": 0.1, "50 %": 0.5, "all": 1.0}
STREAMS = {"stream 0.01 %": 0.0001, "stream 1 %": 0.01}  # these are rates, of a clean stream's
PATIENCE = 500
_SINGLES = 250  # so many records the baseline does one by one; its time is taken for a whole batch
Row = tuple[Any, ...]
Fences, Ends = Mapping[TopicPartition, Fence], Mapping[TopicPartition, int]
# A whole transaction; answers how many records were refused.
Way = Callable[[PostgresSink, Fences, TableRows, Ends], int | None]


@dataclass(frozen=True)
class Kind:
    """One way to be refused: what the table has for it, and how a row is made bad."""

    more: str
    spoil: Callable[[Row], Row]
    mode: Mode = Mode.INSERT


def _with(name: str, value: Any) -> Callable[[Row], Row]:
    place = COLUMNS.index(name)
    return lambda row: (*row[:place], value, *row[place + 1 :])


_TRIGGER = """; create function refuse() returns trigger language plpgsql as $$ begin
if new.quantity < 0 then raise 'negative'; end if; return new; end $$;
create trigger refuse before insert on orders for each row execute function refuse()"""
_KEY = "alter table orders add foreign key (country) references country (code)"
KINDS = {
    "check": Kind("alter table orders add check (quantity > 0)", _with("quantity", -1)),
    "foreign key": Kind(_KEY, _with("country", "XX")),
    "unique": Kind(
        "alter table orders add unique (order_id); insert into orders (order_id) values (1)", _with("order_id", 1)
    ),
    "trigger": Kind("select" + _TRIGGER, _with("quantity", -1)),
    "deferred": Kind(f"{_KEY} deferrable initially deferred", _with("country", "XX")),
    "too long": Kind("alter table orders alter sku type varchar(12)", _with("sku", "x" * 20)),
    "NUL": Kind("select", _with("sku", "x\0y")),
    "surrogate": Kind("select", _with("sku", "x\ud800y")),
    "upsert, check": Kind(
        "alter table orders add primary key (order_id), add check (quantity > 0)", _with("quantity", -1), Mode.UPSERT
    ),
    "upsert, too long": Kind(
        "alter table orders add primary key (order_id), alter sku type varchar(12)", _with("sku", "x" * 20), Mode.UPSERT
    ),
    "increment, check": Kind(
        "alter table orders add primary key (order_id), add check (quantity > 0)", _with("quantity", -1), Mode.INCREMENT
    ),
}
_DROP = (
    "drop table if exists orders, country, microbatch_offsets, microbatch_dead_letters; drop function if exists refuse"
)
_COUNTRIES = (
    "create table country (code text primary key); insert into country values ('DE'), ('FR'), ('US'), ('JP'), ('BR')"
)


class Bench:
    """One table and one sink."""

    def __init__(self, admin: psycopg.Connection[Any], dsn: str, kind: Kind) -> None:
        admin.execute(f"{_DROP}; {_COUNTRIES}; {orders.TABLE}; {kind.more}".encode())
        add = ("quantity", "amount") if kind.mode is Mode.INCREMENT else ()
        self._admin, self._kind = admin, kind
        self._sink = PostgresSink(dsn, [Target("orders", kind.mode, add=add)], "bench", "bench")
        claim = self._sink.claim({P: Position(0, "c", "i")})[P]
        self._epoch, self._offset = claim.epoch, 0
        self._rows = [msgspec.structs.astuple(orders.order(number)) for number in range(BATCH)]

    def rows(self, bad: Collection[int]) -> TableRows:
        """A batch in which these are bad."""
        rows = [self._kind.spoil(row) if i in bad else row for i, row in enumerate(self._rows)]
        return TableRows("orders", COLUMNS, rows, list(range(BATCH)))

    def time(self, write: Way, rows: TableRows, good: int | None = None) -> float:
        """Seconds of a whole transaction; `good`: how many rows there must be then, if that is to be looked at."""
        self._admin.execute("delete from orders where order_id > 1")
        self._admin.execute("vacuum orders")
        fences, ends = {P: Fence(self._epoch, self._offset)}, {P: self._offset + BATCH}
        self._sink.prepare([rows])
        began = time.perf_counter()
        refused = write(self._sink, fences, rows, ends)
        seconds = time.perf_counter() - began
        if refused is None:
            return seconds
        self._offset += BATCH
        ((found,),) = self._admin.execute("select count(*) from orders where order_id > 1").fetchall()
        if good is not None and (found, refused) != (good, BATCH - good):
            raise RuntimeError(f"{found} rows and {refused} refusals, {good} rows were expected")
        return seconds

    def close(self) -> None:
        self._sink.close()


def isolating(
    sink: PostgresSink, fences: Fences, rows: TableRows, ends: Ends, patience: int | None = None
) -> int | None:
    """As the writer does it. None: it lost its patience."""
    try:
        sink.transact(fences, [rows], ends, lambda: None)
    except RejectedError:
        found = sink.isolate([rows], patience)
        if not found.finished:
            sink.rollback()
            return None
        sink.commit(ends)
        return len(found.failures)
    return 0


def refuses(sink: PostgresSink, rows: TableRows) -> bool:
    """Whether it does, with nothing written then."""
    try:
        sink.apply([rows])
    except RejectedError:
        return True
    return False


def bisecting(sink: PostgresSink, fences: Fences, rows: TableRows, ends: Ends) -> int:
    """Halving from the client."""
    sink.begin(fences)
    left, refused = [rows], 0
    while left:
        part = left.pop()
        if refuses(sink, part):
            half = len(part.rows) // 2
            refused += not half
            left += [_slice(part, half, len(part.rows)), _slice(part, 0, half)] if half else []
    sink.commit(ends)
    return refused


def one_by_one(sink: PostgresSink, fences: Fences, rows: TableRows, ends: Ends) -> int:
    """Some of the records, each alone."""
    sink.begin(fences)
    refused = sum(refuses(sink, _slice(rows, i, i + 1)) for i in range(_SINGLES))
    sink.commit(ends)
    return refused


def _slice(rows: TableRows, low: int, high: int) -> TableRows:
    return TableRows(rows.table, rows.columns, rows.rows[low:high], rows.ordinals[low:high])


@contextmanager
def reached(dsn: str, delay: float) -> Iterator[str]:
    """A DSN that takes so long."""
    if not delay:
        yield dsn
        return
    parts = conninfo_to_dict(dsn)
    proxy = Proxy(str(parts["host"]), int(parts["port"]), delay)
    yield make_conninfo(dsn, port=proxy.port)
    proxy.close()


def failing(bench: Bench, rounds: int, most: float) -> dict[str, dict[str, float]]:
    """Failing batches to clean ones, by way and share: the medians of the rounds.

    The baselines are done in the first round, up to the share `most`: they take too long.
    """
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    clean, dice = bench.rows([]), random.Random(4)
    for turn, (name, share) in itertools.product(range(rounds), SHARES.items()):
        count = round(share * BATCH)
        rows, good = bench.rows(set(dice.sample(range(BATCH), count))), BATCH - count
        base = bench.time(isolating, clean, BATCH)
        found["isolation"][name].append(bench.time(isolating, rows, good) / base)
        limit = bench.time(partial(isolating, patience=PATIENCE), rows)
        found[f"isolation, at most {PATIENCE} in a row"][name].append(limit / base)
        if turn == 0 and share <= most:
            found["bisection"][name].append(bench.time(bisecting, rows, good) / base)
            singles = (bench.time(one_by_one, rows) - bench.time(one_by_one, _slice(clean, 0, 0))) * BATCH / _SINGLES
            found["one by one"][name].append(singles / base + 1)
    return {way: {name: statistics.median(ratios) for name, ratios in by.items()} for way, by in found.items()}


def streaming(bench: Bench, share: float, batches: int) -> float:
    """The rate of a stream of which this share is bad, to that of a clean one; batch by batch in turn."""
    dice, taken, base = random.Random(5), 0.0, 0.0
    for _ in range(batches):
        bad = {i for i in range(BATCH) if dice.random() < share}
        taken += bench.time(isolating, bench.rows(bad), BATCH - len(bad))
        base += bench.time(isolating, bench.rows([]), BATCH)
    return base / taken


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.isolation", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="these kinds of errors")
    parser.add_argument(
        "--baselines", nargs="*", choices=KINDS, default=["check"], help="kinds that are done the old ways too"
    )
    parser.add_argument("--batches", type=int, default=40, help="of each stream; default %(default)s")
    parser.add_argument("--dsn", help="an existing server")
    return parser.parse_args()


def main() -> None:
    """Measure, show, save."""
    arguments, console = _arguments(), Console()
    settle()  # as the daemon does
    title = f"A batch of {BATCH} rows with bad ones takes so many times as long as a clean one"
    table = Table("round trip", "error", "way", *SHARES, *STREAMS, title=title)
    with ExitStack() as stack:
        dsn = arguments.dsn
        if not dsn:
            server = Postgres(DURABLE)
            server.start()
            stack.callback(server.stop)
            dsn = server.dsn
        found: dict[str, Any] = circumstances(dsn) | {"ratios": {}}
        admin = stack.enter_context(psycopg.connect(dsn, autocommit=True))
        for trip, delay in ROUND_TRIPS.items():
            for name in arguments.only:
                most = 0.01 if delay else 1
                with reached(dsn, delay) as near:
                    bench = Bench(admin, near, KINDS[name])
                    bench.time(isolating, bench.rows([]))
                    ratios = failing(bench, arguments.rounds, most if name in arguments.baselines else 0)
                    streams = {text: streaming(bench, share, arguments.batches) for text, share in STREAMS.items()}
                    bench.close()
                ratios["isolation"] |= streams
                found["ratios"].setdefault(trip, {})[name] = ratios
                for way, by in ratios.items():
                    cells = (f"{by[name]:.2f}" if name in by else "" for name in (*SHARES, *STREAMS))
                    table.add_row(trip, name, way, *cells)
    console.print(table)
    console.print(f"Full results: {save('isolation', found).relative_to(ROOT)}")


if __name__ == "__main__":
    main()

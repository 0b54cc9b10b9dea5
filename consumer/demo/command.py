"""The command `microbatch demo`, put together."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from consumer.config import load
from consumer.demo.database import Database, embedded_postgres, schema, sqlite_file
from consumer.demo.feed import TOPIC, Broker, Feed
from consumer.display import progress
from consumer.errors import ConfigError
from consumer.run import run_daemon, until_signalled
from consumer.telemetry import Progress

_CONFIG = """\
kafka: {{bootstrap.servers: "{bootstrap}", group.id: demo}}
topics: [{topic}]
format: {{type: avro, schema: order.avsc}}
transform: consumer.demo.orders:explode_order   # one order: a row for each of its lines, and for each item sold
sink:
  dsn: {dsn}
  tables:
    transactions: {{mode: insert}}
    inventory: {{mode: increment, key: [item_id], add: [sold, revenue_cents]}}
dead_letter: {{topic: null}}                      # they stay in the table: the test broker has little room
admin: {{port: 0}}                                # metrics on any free port
"""
_BEST = "select item_id, sold, revenue_cents from inventory order by sold desc, item_id limit 3"
_DEAD = """
select stage, coalesce(evidence->>'constraint', evidence->>'table'), count(*)
from microbatch_dead_letters group by 1, 2 order by 3 desc, 1
"""
_FAULTS = {"decode": "not decodable", "map": "not mappable"}


@dataclass(slots=True)
class _Run:
    """What the daemon told while it ran; times are monotonic seconds."""

    started: float = field(default_factory=time.monotonic)
    first: float | None = None
    last: float = 0.0
    first_orders: int = 0
    triggers: Counter[str] = field(default_factory=Counter)

    def committed(self, trigger: str, orders: int) -> None:
        """A batch was; `orders` are committed in all."""
        self.last = time.monotonic()
        if self.first is None:
            self.first, self.first_orders = self.last, orders
        self.triggers[trigger] += 1


def run_demo(orders: int, *, postgres: bool = False, database: Path | None = None) -> int:
    """Run it and say what happens; the exit code: 0 proved, 1 not, 130 interrupted. Raises ConfigError, FatalError.

    `database` is where the SQLite file is to be made; None: in a new temporary folder, which stays.
    """
    if postgres and database:
        raise ConfigError("--database", str(database), "names a SQLite file; leave it out, or leave --postgres out")
    console = Console(highlight=False, markup=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="microbatch-demo-"))
    file = (database or folder / "demo.db").absolute()
    with embedded_postgres() if postgres else sqlite_file(file) as opened:
        broker = Broker()
        config = _written(folder, broker, opened)
        _introduce(console, broker, opened, config)
        code = _moved(console, broker, opened, config, orders)
        if code == 0:
            _point_on(console, opened, config, None if postgres else file)
        return code


def _written(folder: Path, broker: Broker, database: Database) -> Path:
    config = folder / "demo.yaml"
    config.write_text(_CONFIG.format(bootstrap=broker.bootstrap, topic=TOPIC, dsn=json.dumps(database.dsn)))
    (folder / "order.avsc").write_text(schema("order.avsc"))
    return config


def _introduce(console: Console, broker: Broker, database: Database, config: Path) -> None:
    console.print(
        f"broker    {broker.bootstrap}, an embedded test broker, not Kafka: librdkafka's mock in this process"
    )
    console.print(f"database  {database.name}")
    console.print(f"config    {config}:\n")
    console.print("".join(f"    {line}\n" for line in config.read_text().splitlines()))


def _moved(console: Console, broker: Broker, database: Database, config: Path, orders: int) -> int:
    """Run the daemon until all is written; then the report and the proof."""
    run = _Run()
    with ExitStack() as stack:
        stop = stack.enter_context(until_signalled())
        feed = Feed(broker, schema("order.avsc"), orders, stop)
        show = stack.enter_context(progress(console, "orders"))

        def on_progress(batch: Progress) -> None:
            feed.progressed(batch.next_offsets)
            run.committed(batch.trigger, feed.written)
            show(feed.written, orders)

        stack.callback(feed.close)
        feed.start()
        run_daemon(load(config), stop=stop, on_progress=on_progress)
    if feed.failure:
        raise feed.failure
    if feed.written < orders:
        console.print(f"\nstopped: {feed.written:,} of {orders:,} orders are written")
        return 130
    _report(console, run, feed, database)
    return _prove(console, feed, database)


def _report(console: Console, run: _Run, feed: Feed, database: Database) -> None:
    orders, first = feed.written, run.first or run.last
    rate = f"; {(orders - run.first_orders) / (run.last - first):,.0f}/s from then on" if run.last > first else ""
    ((lines,),) = database.query("select count(*) from transactions")
    ((items,),) = database.query("select count(*) from inventory")
    closed = ", ".join(f"{count} by {trigger}" for trigger, count in run.triggers.most_common())
    seconds, waited = run.last - run.started, first - run.started
    console.print(f"\norders    {orders:,} in {seconds:.1f} s, the first after {waited:.1f} s{rate}")
    console.print(f"rows      {lines:,} in transactions, {items:,} in inventory")
    console.print(f"batches   {run.triggers.total()}, closed {closed}")
    console.print(_dead_letters(database))


def _dead_letters(database: Database) -> str:
    found = database.query(_DEAD)
    kinds = ", ".join(f"{count} {_FAULTS.get(stage, f'refused by {who}')}" for stage, who, count in found)
    return f"dead letters {sum(count for *_, count in found)}" + (f": {kinds}" if kinds else "")


def _prove(console: Console, feed: Feed, database: Database) -> int:
    differences = feed.ledger.differences(database.query)
    for difference in differences:
        console.print(f"not proved: {difference}", style="bold red")
    if differences:
        return 1
    made = feed.ledger
    orders = f"{made.orders:,} orders, {len(made.spoilt)} of them spoilt"
    counted = f"{orders}, {made.lines:,} lines, {len(made.pieces):,} items"
    proved = f"proved: transactions, inventory, offsets and dead letters are what was produced: {counted}"
    console.print(proved, style="bold green")
    return 0


def _point_on(console: Console, database: Database, config: Path, file: Path | None) -> None:
    best = ", ".join(f"item {item} ({sold:,} sold)" for item, sold, _ in database.query(_BEST))
    console.print(f"\nbest sellers: {best}\nlook at next:")
    if file:
        console.print(f'  sqlite3 {file} "{_BEST}"')
        console.print(f"  microbatch dlq list {config}")
    console.print(f"  {config}: put your own Kafka and database into it, and `microbatch run` takes it")
    console.print('  README.md, "Use it"')
    if file is None:
        console.print("The PostgreSQL server ends now, its data with it.")

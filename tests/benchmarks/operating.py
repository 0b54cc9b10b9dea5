"""`python -m tests.benchmarks.operating`: what it costs to be looked at and attacked, and how soon it reacts.

Whoever looks or attacks does so from the same machine, and takes its share of the cores. What that share is shows where
the same attack goes to another daemon, which has nothing else to do. See `--help`.
"""

from __future__ import annotations

import http.client
import json
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Protocol

import psycopg
from confluent_kafka import Producer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.table import Table

from consumer.admin import CONTROL_HEADER
from tests.benchmarks import daemon, orders, report
from tests.benchmarks.command import parser, starting, wide
from tests.benchmarks.daemon import Daemon
from tests.benchmarks.lab import BATCH, PARTITIONS, Lab, topic_of
from tests.benchmarks.measuring import Measured
from tests.benchmarks.report import Ratio
from tests.benchmarks.results import circumstances, spread
from tests.faults.waiting import until
from tests.services.proxy import Proxy

OUTAGES = (1, 10, 40)  # seconds
_FORM = "json"
_TOPIC = topic_of(_FORM)
_TOKEN = "of-the-benchmark-alone"
_SLOW = 600  # connections that say a byte now and then: more than there is room for
_AGAIN = 100  # of those that were cut off, each time
_HANGING = 20  # scrapes that nobody reads
_WRONG = 5  # tokens at a time
_BODY = b"x" * 10_000_000
_FEED, _FEED_SECONDS = 50, 0.1
_LONGEST_SECONDS = 90


def ask(port: int, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> tuple[int, bytes]:
    """Status and answer. Raises OSError or HTTPException."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
        connection.request(method, path, body or None, {name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()


class Visitor(Protocol):
    """Somebody at the admin port."""

    def turn(self, port: int) -> None:
        """What is done each time."""

    def close(self) -> None:
        """The end."""


class Watcher:
    """Prometheus, and a status page that is open."""

    def turn(self, port: int) -> None:
        """See Visitor.turn."""
        for path in ("/metrics", "/status", "/history"):
            ask(port, path)

    def close(self) -> None:
        """See Visitor.close."""


class Attacker:
    """All at once: slow connections, scrapes that are not read, wrong tokens and large bodies."""

    def __init__(self) -> None:
        self._slow: list[socket.socket] = []
        self._hanging: list[socket.socket] = []

    def turn(self, port: int) -> None:
        """See Visitor.turn."""
        self._more(self._slow, port, _SLOW, b"POST /set HTTP/1.1\r\nX: ")
        self._more(self._hanging, port, _HANGING, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        self._slow, self._hanging = [each for each in self._slow if self._says(each)], self._hanging[-_HANGING:]
        for _ in range(_WRONG):
            ask(port, "/status", Authorization="Bearer wrong-wrong-wrong")
        with suppress(OSError):  # refused before all of it is sent
            ask(port, "/set", "POST", _BODY, Authorization="Bearer wrong-wrong-wrong")

    def close(self) -> None:
        """See Visitor.close."""
        for each in (*self._slow, *self._hanging):
            each.close()

    def _more(self, there: list[socket.socket], port: int, most: int, start: bytes) -> None:
        for _ in range(min(_AGAIN if there else most, most - len(there))):
            there.append(socket.create_connection(("127.0.0.1", port), timeout=5))
            there[-1].sendall(start)

    def _says(self, each: socket.socket) -> bool:
        try:
            each.sendall(b"x")
        except OSError:
            each.close()
            return False
        return True


@dataclass(frozen=True)
class Candidate:
    """A daemon with these settings of `admin`, and whom it is visited by each second; `turns`: how often, by run.

    `elsewhere`: the visits are another daemon's, on the same machine.
    """

    admin: dict[str, Any]
    visitor: Callable[[], Visitor] | None = None
    elsewhere: bool = False
    turns: list[int] = field(default_factory=list)

    def run(self, lab: Lab) -> Measured:
        """The whole topic into PostgreSQL."""
        if self.visitor is None:
            return daemon.into_postgres(lab, _FORM, admin=self.admin)
        if not self.elsewhere:
            return daemon.into_postgres(lab, _FORM, admin=self.admin, beside=self._visited)
        with _idle(lab, self.admin) as other:
            return daemon.into_postgres(lab, _FORM, admin=self.admin, beside=lambda _: self._visited(other))

    @contextmanager
    def _visited(self, running: Daemon) -> Iterator[None]:
        assert self.visitor
        ended, visitor, turns = threading.Event(), self.visitor(), [0]

        def come() -> None:
            while not ended.wait(1):
                with suppress(OSError, http.client.HTTPException):  # it does not listen yet, or refuses
                    visitor.turn(running.port)
                    turns[0] += 1

        thread = threading.Thread(target=come)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            visitor.close()
            self.turns.extend(turns)


CANDIDATES = {
    "without admin port": Candidate({"enabled": False}),
    "watched": Candidate({}, Watcher),
    "left alone": Candidate({"token": _TOKEN}),
    "another attacked": Candidate({"token": _TOKEN}, Attacker, elsewhere=True),
    "attacked": Candidate({"token": _TOKEN}, Attacker),
}
_COSTS = (
    ("a scrape and the status page each second / without admin port", "watched", "without admin port", 0.98),
    ("admin port attacked / that of another daemon beside it", "attacked", "another attacked", 0.97),
)
RATIOS = (
    *(Ratio(text, over, under, goal) for text, over, under, goal in _COSTS),
    Ratio("admin port attacked / left alone", "attacked", "left alone"),
    *(Ratio(f"{text}, by processor time", over, under, None, "efficiency") for text, over, under, _ in _COSTS),
)
NOTES = ("Where others are at work as well, go by processor time: what the same records took of it.",)


@contextmanager
def _idle(lab: Lab, admin: dict[str, Any]) -> Iterator[Daemon]:
    """A daemon that is ready, and for which nothing comes."""
    topic, path = f"bench-{lab.new_group()}", lab.folder / "idle.db"
    lab.create(topic, PARTITIONS)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(orders.TABLE.replace("create table orders", "create table if not exists orders"))
    config = daemon.configuration(lab, topic, f"sqlite:///{path}", admin=admin)
    with daemon.running(lab, config, "idle") as running:
        until(lambda: running.assigned() == PARTITIONS, "the other daemon is ready")
        yield running


@contextmanager
def fed(lab: Lab, topic: str) -> Iterator[None]:
    """Some hundred orders a second."""
    ended, producer = threading.Event(), Producer({"bootstrap.servers": lab.bootstrap, "linger.ms": 5})
    values = list(orders.as_json(range(_FEED)))

    def feed() -> None:
        while not ended.wait(_FEED_SECONDS):
            for number, value in enumerate(values):
                producer.produce(topic, value, partition=number % PARTITIONS)
            producer.poll(0)
        producer.flush(30)

    thread = threading.Thread(target=feed)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def outages(lab: Lab, rounds: int, lengths: Sequence[float] = OUTAGES) -> dict[str, list[float]]:
    """Seconds until /readyz tells of an outage of the database, and of its end, by how many seconds it lasted."""
    lab.empty()
    parts = conninfo_to_dict(lab.dsn)
    proxy = Proxy(str(parts["host"]), int(parts["port"]))
    topic = f"bench-{lab.new_group()}"
    lab.create(topic, PARTITIONS)
    config = daemon.configuration(lab, topic, make_conninfo(lab.dsn, port=proxy.port))
    found: dict[str, list[float]] = {}
    with closing(proxy), daemon.running(lab, config) as running, fed(lab, topic):
        _ready(running, True)
        for _ in range(rounds):
            for away in lengths:
                proxy.refuse()
                proxy.cut()
                found.setdefault("seconds until it is not ready", []).append(_ready(running, False))
                time.sleep(away)
                proxy.accept()
                found.setdefault(f"seconds until it is ready, after {away} s", []).append(_ready(running, True))
    return found


def pauses(lab: Lab, rounds: int) -> dict[str, list[float]]:
    """How much of a partition is written after a pause was answered, under full load."""
    found: dict[str, list[float]] = {"seconds until a pause is answered": [], "records of it written after that": []}
    for _ in range(rounds):
        lab.empty()
        config = daemon.configuration(lab, _TOPIC, lab.dsn)
        with psycopg.connect(lab.dsn, autocommit=True) as connection, daemon.running(lab, config) as running:
            written = partial(_written, connection, config["kafka"]["group.id"])
            until(lambda: written() > 0, "it writes")  # noqa: B023 - called in this very turn
            began = time.perf_counter()
            status, said = ask(running.port, f"/pause?target={_TOPIC}/0", "POST", **{CONTROL_HEADER: "1"})
            if status != http.client.ACCEPTED:
                raise RuntimeError(f"the pause was refused: {said!r}")
            found["seconds until a pause is answered"].append(time.perf_counter() - began)
            before = written()
            until(lambda: _phase(running) == "paused", "it is paused")
            found["records of it written after that"].append(written() - before)
    return found


def _written(connection: psycopg.Connection, group: str) -> int:
    """The next offset of partition 0."""
    query = "select coalesce(sum(next_offset), 0) from microbatch_offsets where group_id = %s and partition = 0"
    return int(connection.execute(query, [group]).fetchone()[0])


def _phase(running: Daemon) -> str:
    """Of partition 0."""
    told = json.loads(ask(running.port, "/status")[1])["partitions"]
    return str(told.get(f"{_TOPIC}/0", {}).get("phase"))


def _ready(running: Daemon, wanted: bool) -> float:
    """Seconds until /readyz says so."""
    began = time.monotonic()

    def says() -> bool:
        running.program.check()
        with suppress(OSError):  # it does not listen yet
            return (ask(running.port, "/readyz")[0] == http.client.OK) is wanted
        return False

    until(says, f"ready is {wanted}", _LONGEST_SECONDS)
    return time.monotonic() - began


def candidates(lab: Lab) -> dict[str, Callable[[], Measured]]:
    """All of CANDIDATES in this lab."""
    return {name: partial(candidate.run, lab) for name, candidate in CANDIDATES.items()}


def reacted(reactions: dict[str, list[float]]) -> Table:
    """How soon."""
    table = Table("reaction", "median", "smallest .. largest", title=f"How soon it reacts (a batch: {BATCH})")
    for text, values in reactions.items():
        seen = spread(values)
        table.add_row(text, f"{seen.median:,.3g}", f"{seen.low:,.3g} .. {seen.high:,.3g}")
    return table


def main() -> None:
    """Measure, show, save."""
    options = parser("tests.benchmarks.operating", __doc__)
    options.add_argument("--reactions", type=int, default=3, help="rounds of reactions; default %(default)s")
    options.add_argument("--only", nargs="+", choices=CANDIDATES, default=list(CANDIDATES), help="these candidates")
    arguments, console = options.parse_args(), wide()
    with starting(console, arguments.records, [_FORM]) as lab:
        before = circumstances(lab.dsn)
        chosen = {name: run for name, run in candidates(lab).items() if name in arguments.only}
        rounds = report.in_turn(arguments.rounds, chosen, console)
        with console.status("reactions"):
            reactions = pauses(lab, arguments.reactions) | outages(lab, arguments.reactions)
    visits = {name: candidate.turns for name, candidate in CANDIDATES.items() if candidate.turns}
    found = before | report.results(rounds, RATIOS)
    found |= {"records": arguments.records, "visits": visits}
    reactions = {text: values for text, values in reactions.items() if values}
    found |= {"reactions": {text: asdict(spread(values)) for text, values in reactions.items()}}
    if reactions:
        console.print(reacted(reactions))
    console.print(f"Visits in each round: {visits}")
    report.present(console, "operating", found, NOTES)


if __name__ == "__main__":
    main()

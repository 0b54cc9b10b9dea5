"""`python -m tests.benchmarks.operating`: what it costs to be looked at and attacked, and how soon it reacts.

Whoever looks or attacks does so from the same machine, and takes its share of the cores. See `--help`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Protocol

import psycopg
from confluent_kafka import Producer
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from rich.console import Console
from rich.table import Table

from consumer.admin import CONTROL_HEADER
from tests.benchmarks import daemon, orders, report
from tests.benchmarks.__main__ import laboratory
from tests.benchmarks.daemon import Daemon, Measured
from tests.benchmarks.lab import BATCH, PARTITIONS, Lab, topic_of
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
_TICK = 0.01  # of the system's clock: a few records take no time that it knows of


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
    """A daemon with these settings of `admin`, and whom it is visited by each second; `turns`: how often, by run."""

    admin: dict[str, Any]
    visitor: Callable[[], Visitor] | None = None
    turns: list[int] = field(default_factory=list)

    def run(self, lab: Lab) -> Measured:
        """The whole topic into PostgreSQL."""
        if self.visitor is None:
            return daemon.into_postgres(lab, _FORM, admin=self.admin)
        return daemon.into_postgres(lab, _FORM, admin=self.admin, beside=self._visited)

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
    "attacked": Candidate({"token": _TOKEN}, Attacker),
}
RATIOS = {  # over, under and goal
    "a scrape and the status page each second / without admin port": ("watched", "without admin port", 0.98),
    "admin port attacked / left alone": ("attacked", "left alone", 0.97),
}


@contextmanager
def fed(lab: Lab) -> Iterator[None]:
    """Some hundred orders a second."""
    ended, producer = threading.Event(), Producer({"bootstrap.servers": lab.bootstrap, "linger.ms": 5})
    values = list(orders.as_json(range(_FEED)))

    def feed() -> None:
        while not ended.wait(_FEED_SECONDS):
            for number, value in enumerate(values):
                producer.produce(_TOPIC, value, partition=number % PARTITIONS)
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
    config = daemon.configuration(lab, _FORM, make_conninfo(lab.dsn, port=proxy.port)) | {"start": "latest"}
    found: dict[str, list[float]] = {}
    with closing(proxy), daemon.running(config, lab.folder) as running, fed(lab):
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
        config = daemon.configuration(lab, _FORM, lab.dsn)
        with psycopg.connect(lab.dsn, autocommit=True) as connection, daemon.running(config, lab.folder) as running:
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
        running.check()
        with suppress(OSError):  # it does not listen yet
            return (ask(running.port, "/readyz")[0] == http.client.OK) is wanted
        return False

    until(says, f"ready is {wanted}", _LONGEST_SECONDS)
    return time.monotonic() - began


def throughput(lab: Lab, rounds: int) -> list[dict[str, Measured]]:
    """Every candidate in every round; the order turns round each time."""
    names, found = list(CANDIDATES), []
    for number in range(rounds):
        results = {name: CANDIDATES[name].run(lab) for name in (names if number % 2 == 0 else reversed(names))}
        found.append({name: results[name] for name in names})
    return found


def show(console: Console, rounds: Sequence[dict[str, Measured]], reactions: dict[str, list[float]]) -> dict[str, Any]:
    """As tables; returns what is in them."""
    ratios = {}
    table = Table("ratio, of a round", "median", "smallest .. largest", "goal", title="What it costs")
    for text, (over, under, goal) in RATIOS.items():
        rates = report.spread([found[over].rate / found[under].rate for found in rounds])
        ratios[text] = rates
        table.add_row(text, f"{rates.median:.3f}", f"{rates.low:.3f} .. {rates.high:.3f}", f"{goal:g}")
        spent = report.spread([max(found[under].cpu, _TICK) / max(found[over].cpu, _TICK) for found in rounds])
        ratios[f"{text}, by processor time"] = spent
        table.add_row("- by processor time", f"{spent.median:.3f}", f"{spent.low:.3f} .. {spent.high:.3f}")
    console.print(table, "Where others are at work as well, go by processor time: what the same records took of it.")
    table = Table("candidate", "records/s", "smallest .. largest", "CPU s / M records", "peak RSS MB", "visits")
    for name in CANDIDATES:
        rates, runs = report.spread([found[name].rate for found in rounds]), [found[name] for found in rounds]
        cpu, memory = statistics.median(run.cpu for run in runs), max(run.memory for run in runs)
        spread = f"{rates.low:,.0f} .. {rates.high:,.0f}"
        visits = f"{statistics.median(turns):g}" if (turns := CANDIDATES[name].turns) else ""
        table.add_row(name, f"{rates.median:,.0f}", spread, f"{cpu:.1f}", f"{memory:.0f}", visits)
    console.print(table)
    table = Table("reaction", "median", "smallest .. largest", title=f"How soon it reacts (a batch: {BATCH})")
    for text, values in reactions.items():
        spread = report.spread(values)
        table.add_row(text, f"{spread.median:,.3g}", f"{spread.low:,.3g} .. {spread.high:,.3g}")
    console.print(table)
    return {"ratios": {text: asdict(spread) for text, spread in ratios.items()}, "reactions": reactions}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.operating", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="of each run; default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="of rates; default %(default)s")
    parser.add_argument("--reactions", type=int, default=3, help="rounds of reactions; default %(default)s")
    return parser.parse_args()


def main() -> None:
    """Measure, show, save."""
    arguments, console = _arguments(), Console()
    found: dict[str, Any] = {"machine": report.machine(), "records": arguments.records}
    with ExitStack() as stack, console.status("starting Kafka and PostgreSQL, producing records") as status:
        lab = stack.enter_context(laboratory(arguments.records, _FORM))
        status.update("rates")
        rounds = throughput(lab, arguments.rounds)
        status.update("reactions")
        reactions = pauses(lab, arguments.reactions) | outages(lab, arguments.reactions)
        found |= {"versions": report.versions(lab.dsn)}
    found |= show(console, rounds, reactions) | {"load_1_minute_after": report.machine()["load_1_minute"]}
    found["rounds"] = [{name: asdict(run) for name, run in each.items()} for each in rounds]
    console.print(f"Full results: {report.save('operating', found).relative_to(report.ROOT)}")


if __name__ == "__main__":
    main()

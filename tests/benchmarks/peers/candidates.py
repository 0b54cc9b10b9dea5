"""The peers: how each is had and run, and the ratios of the daemon to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.benchmarks import daemon, orders
from tests.benchmarks.candidates import LIMITS, Candidate
from tests.benchmarks.lab import Lab, topic_of
from tests.benchmarks.measuring import Measured, watch
from tests.benchmarks.peers import connect
from tests.benchmarks.peers.environments import interpreter
from tests.benchmarks.programs import started
from tests.benchmarks.report import Ratio, RefusedError

_PROGRAMS = Path(__file__).parent / "programs"
_LOOK_SECONDS = 1.0
Peer = Callable[[], Candidate]  # raises MissingPeerError where it cannot be had


def _python(program: str, name: str, *more: str) -> Peer:
    """A program over a topic of ours, by its own interpreter."""

    def obtain() -> Candidate:
        command = [interpreter(program), _PROGRAMS / f"{program}.py"]
        return lambda lab: drained(
            lab, name, [*command, lab.bootstrap, topic_of(name), lab.new_group(), lab.dsn, *more]
        )

    return obtain


def _debezium(*, unnest: bool) -> Peer:
    def obtain() -> Candidate:
        folder, name = connect.installed(), "json-schema"
        return lambda lab: drained(lab, name, connect.command(lab, folder, topic_of(name), unnest=unnest))

    return obtain


PEERS: dict[str, Peer] = {
    "naive loop": _python("naive", "avro-part", json.dumps(orders.SCHEMA)),
    "Quix Streams": _python("quix", "json-part"),
    "FastStream and COPY": _python("faststream_copy", "json-part"),
    "arroyo and COPY": _python("arroyo_copy", "json-part"),
    "Debezium": _debezium(unnest=False),
    "Debezium, unnest": _debezium(unnest=True),
}
OURS: dict[str, Candidate] = LIMITS | {
    "daemon json": lambda lab: daemon.into_postgres(lab, "json"),
    "daemon avro": lambda lab: daemon.into_postgres(lab, "avro"),
}
TOPICS = ("json", "avro", "json-part", "avro-part", "json-schema")
NOTES = (
    "All rates, and the processor time, are of the last half of a candidate's records: by then a JVM is warm. Fetching"
    " ahead of that, some 100,000 records, is not counted: so take a million. The naive loop, Quix Streams, FastStream"
    " and arroyo are given a fifth of the records.",
    "Debezium's records hold their schema, as Kafka Connect's JsonConverter wants it: four times as many bytes.",
    "A candidate's rows are held against what was produced, each value summed; it is no figure unless all are there"
    " once.",
)
RATIOS = (
    Ratio("JSON, daemon / Lc", "daemon json", "Lc json", 0.8),
    Ratio("Avro, daemon / Lc", "daemon avro", "Lc avro", 0.9),
    Ratio("Avro, daemon / naive loop (AvroDeserializer, executemany)", "daemon avro", "naive loop", 10),
    Ratio("JSON, daemon / Quix Streams' PostgreSQL sink", "daemon json", "Quix Streams", 10),
    Ratio("JSON, daemon / FastStream and COPY", "daemon json", "FastStream and COPY", 5),
    Ratio("JSON, daemon / arroyo and COPY", "daemon json", "arroyo and COPY", 5),
    Ratio("JSON, daemon / Debezium", "daemon json", "Debezium", 3),
    Ratio("JSON, daemon / Debezium with unnest", "daemon json", "Debezium, unnest", 3),
    Ratio("the same, records for a second of the client's processor time", "daemon json", "Debezium", 5, "efficiency"),
)


def drained(lab: Lab, name: str, command: list[str | Path]) -> Measured:
    """The whole topic, by a program that goes on until it is ended. Raises RefusedError unless all rows are there."""
    records = lab.count(name)
    lab.empty()
    try:
        with started(command, lab.folder / "peer.log", lab.folder) as program, _rows(lab) as rows:
            seen = watch(lab, [program], rows, records, _LOOK_SECONDS)
            memory = program.memory("VmHWM")
        lab.verify(records)
        return Measured(lab.rate(records), seen.cpu, memory)
    except RuntimeError as error:
        raise RefusedError(str(error)) from error


@contextmanager
def _rows(lab: Lab) -> Iterator[Callable[[], int]]:
    """How many rows there are; counted by one process, so that it takes little from who is measured."""
    with psycopg.connect(lab.dsn, autocommit=True) as connection:
        connection.execute("set max_parallel_workers_per_gather = 0")
        yield lambda: int(connection.execute("select count(*) from orders").fetchone()[0])

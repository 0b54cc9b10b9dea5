"""Records produced all the while, and the ledger of those that Kafka has acknowledged."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from types import TracebackType

import psycopg
from confluent_kafka import KafkaError, Message, Producer
from psycopg import sql

_TICK_SECONDS = 0.02
_PAD = "x" * 400  # a batch is then several times what the driver sends at once: there is a middle of COPY
_FIRST = 20


@dataclass
class Ledger:
    """What was acknowledged: (partition, sequence number in it, id), each once."""

    entries: list[tuple[int, int, int]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def ends(self) -> dict[int, int]:
        """The next offset after the last record of each partition: sequence numbers are offsets."""
        ends: dict[int, int] = {}
        for partition, seq, _ in self.entries:
            ends[partition] = max(ends.get(partition, 0), seq + 1)
        return ends

    def differences(self, dsn: str, table: str) -> list[str]:
        """What of `table` is not as it must be, a sentence a kind: nothing if every record is there once, in order."""
        name = sql.Identifier(table)
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("create temp table ledger (partition int, seq bigint, id bigint)")
            with connection.cursor() as cursor, cursor.copy("copy ledger from stdin") as copy:
                for entry in self.entries:
                    copy.write_row(entry)
            found = [f"{len(self.failed)} records were not acknowledged: {self.failed[:3]}"] if self.failed else []
            for kind, query in _DIFFERENCES.items():
                rows = connection.execute(sql.SQL(query).format(name)).fetchall()
                if rows:
                    found.append(f"{kind}: {len(rows)}, first (partition, seq, id) {rows[:_FIRST]}")
        return found


_DIFFERENCES = {
    "missing": "select partition, seq, id from ledger except select partition, seq, id from {} order by 1, 2",
    "strange": "select partition, seq, id from {} except select partition, seq, id from ledger order by 1, 2",
    "doubled": "select partition, seq, id from {} group by 1, 2, 3 having count(*) > 1 order by 1, 2",
    # `place` comes from a sequence while the partition's offset is locked: within a partition it rises as commits do.
    "out of order": """
        select partition, seq, id from
          (select *, lag(seq) over (partition by partition order by place) as before from {}) rows
        where seq < before order by 1, 2""",
}


class Load:
    """Produces into every partition of a topic, at `rate` records per second, from entering it until `stop`."""

    def __init__(self, bootstrap: str, topic: str, partitions: int, rate: int) -> None:
        self.ledger = Ledger()
        self._topic, self._rate = topic, rate
        # A record is not given up as long as its broker may come back.
        settings = {"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5, "log_level": 0}
        self._producer = Producer(settings)
        self._next = [0] * partitions
        self._count = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load")

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Return when all that was produced is acknowledged; safe to call twice."""
        self._stopping.set()
        self._thread.join()

    def produce(self, count: int) -> None:
        """Send so many records, in turn to each partition."""
        for _ in range(count):
            partition = self._count % len(self._next)
            entry = partition, self._next[partition], self._count
            value = json.dumps({"id": entry[2], "partition": partition, "seq": entry[1], "pad": _PAD})
            self._producer.produce(self._topic, value, partition=partition, on_delivery=self._delivered(entry))
            self._count += 1
            self._next[partition] += 1

    def flush(self) -> None:
        """Return when all that was produced is acknowledged."""
        assert self._producer.flush(60) == 0, "Kafka does not acknowledge"

    def _run(self) -> None:
        while not self._stopping.wait(_TICK_SECONDS):
            self.produce(max(1, int(self._rate * _TICK_SECONDS)))
            self._producer.poll(0)
        self.flush()

    def _delivered(self, entry: tuple[int, int, int]):
        def note(error: KafkaError | None, message: Message) -> None:
            if error is None and message.offset() == entry[1]:
                self.ledger.entries.append(entry)
            else:
                self.ledger.failed.append(f"{entry}: {error or message.offset()}")

        return note

"""A member of a group that dies or stops where a test tells it to: the real daemon, a saboteur around its sink."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

from consumer import assignment, cluster, logs, presence
from consumer.config import load
from consumer.decode import avro
from consumer.errors import TopicPartition
from consumer.metrics import Metrics
from consumer.notify import open_notifier
from consumer.run import run_daemon
from consumer.sinks import Claim, Fence, Isolated, Position, Sink
from consumer.sinks.postgres.script import Script
from consumer.sinks.transaction import in_steps
from tests.faults.defects import DEFECTS, Around

CLAIM_POINTS = ("before_claim", "after_claim")
BATCH_POINTS = (
    "before_begin",  # before the fence
    "after_begin",  # the offsets are locked
    "in_copy",  # some rows are with the server, the end of COPY is not
    "before_isolation",  # the rows are refused
    "after_apply",
    "after_keep",  # the dead letters are in, their rows' transaction is not committed
    "before_commit",
    "around_commit",  # before, while or after the server commits: nobody knows
    "around_transaction",  # anywhere in one that is a single query
    "after_commit",
    "before_kafka_commit",
    "before_mark",  # the topic has dead letters, the table does not know
)
_COMMIT_SECONDS = 0.002
_TRANSACTION_SECONDS = 0.01


class Orders:
    """`POINT SIGNAL` in a file, obeyed once: at that point the process sends itself the signal."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def reach(self, point: str) -> None:
        """This point is reached: obey, if that is the order."""
        if number := self._taken(point):
            # Sent to the process, another thread may take it, and this one goes on meanwhile.
            signal.pthread_kill(threading.get_ident(), number)

    def pass_by(self, point: str, seconds: float) -> None:
        """This point is somewhere in the next `seconds`."""
        if number := self._taken(point):
            threading.Timer(random.uniform(0, seconds), os.kill, (os.getpid(), number)).start()

    def _taken(self, point: str) -> signal.Signals | None:
        try:
            ordered, name = self._path.read_text().split()
        except FileNotFoundError:
            return None
        if ordered != point:
            return None
        self._path.unlink()
        return signal.Signals[name]


class LetterSaboteur(Around):
    """The sink's dead letters, with the crash points around them."""

    def __init__(self, letters: Any, orders: Orders) -> None:
        super().__init__(letters)
        self._orders = orders

    def keep(self, letters: Any) -> None:
        self._sink.keep(letters)
        self._orders.reach("after_keep")

    def published(self, coordinates: Any, **options: Any) -> None:
        self._orders.reach("before_mark")
        self._sink.published(coordinates, **options)


class Saboteur(Around):
    """A sink that reaches the crash points around each call."""

    def __init__(self, sink: Any, orders: Orders) -> None:
        super().__init__(sink)
        self._orders = orders
        self.letters = LetterSaboteur(sink.letters, orders)

    def claim(self, starts: Mapping[TopicPartition, Position]) -> dict[TopicPartition, Claim]:
        self._orders.reach("before_claim")
        claims = self._sink.claim(starts)
        self._orders.reach("after_claim")
        return claims

    def begin(self, fences: Mapping[TopicPartition, Fence]) -> None:
        self._orders.reach("before_begin")
        self._sink.begin(fences)
        self._orders.reach("after_begin")

    def apply(self, rows: Any) -> None:
        self._sink.apply(rows)
        self._orders.reach("after_apply")

    def isolate(self, *arguments: Any) -> Isolated:
        self._orders.reach("before_isolation")
        isolated: Isolated = self._sink.isolate(*arguments)
        self._orders.reach("after_apply")
        return isolated

    def commit(self, next_offsets: Mapping[TopicPartition, int]) -> None:
        self._orders.reach("before_commit")
        self._orders.pass_by("around_commit", _COMMIT_SECONDS)
        self._sink.commit(next_offsets)
        self._orders.reach("after_commit")

    def transact(
        self,
        fences: Mapping[TopicPartition, Fence],
        rows: Any,
        next_offsets: Mapping[TopicPartition, int],
        sent: Callable[[], None],
    ) -> float:
        # One in two in steps, so that there is something between them.
        if random.random() < 0.5:
            return in_steps(cast(Sink, self), fences, rows, next_offsets, sent)
        self._orders.reach("before_begin")
        self._orders.pass_by("around_transaction", _TRANSACTION_SECONDS)
        seconds: float = self._sink.transact(fences, rows, next_offsets, sent)
        self._orders.reach("after_commit")
        return seconds


def trap_copy(orders: Orders) -> None:
    """Reach `in_copy` when a part of the rows has been given to the server, and the end of COPY has not."""
    put = Script.put

    def trapped(self: Script, data: Any) -> None:
        put(self, data)
        orders.reach("in_copy")

    Script.put = trapped  # type: ignore[method-assign]


def run(config: Path, found_in: Path, log: Path, defect: str) -> None:
    """All that this process does. `found_in`: the file where orders are found; `log` gets what it says."""
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    logs.configure()
    orders = Orders(found_in)
    trap_copy(orders)
    avro._FEWEST = 1  # batches are small here, and are to go the way of large ones
    # Sessions are short here, and so is the time until a client is replaced.
    presence._SECONDS, presence._UNREACHED_SECONDS = 3.0, 15.0
    cluster._REPLACED_SECONDS, assignment.DESERTED_SECONDS = 5.0, 20.0
    settings = load(config)
    metrics = Metrics(str(settings.kafka["group.id"]))
    open_notifier(settings, metrics, "member")
    run_daemon(
        settings,
        metrics=metrics,
        on_progress=lambda _: orders.reach("before_kafka_commit"),
        wrap=lambda sink: Saboteur(DEFECTS[defect](sink), orders),
    )

"""The daemon put together: settings in, parts built, run until told to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import structlog

from consumer.admin import AdminServer
from consumer.batch import BatchPolicy
from consumer.cluster import KafkaCluster
from consumer.config import Settings
from consumer.errors import UnavailableError
from consumer.mapping.opening import open_mapper
from consumer.mapping.topics import TopicMapper
from consumer.mapping.transform import TransformMapper
from consumer.metrics import Metrics
from consumer.pipeline import Limits, Pipeline
from consumer.sinks.opening import open_sink
from consumer.source import KafkaSource
from consumer.telemetry import Progress, Telemetry
from consumer.writer import Writer

log = structlog.get_logger("microbatch")
_DEFAULT_SESSION_MS = 45_000  # librdkafka's default of session.timeout.ms


def run_daemon(
    settings: Settings,
    *,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    wrap: Callable[[Any], Any] = lambda sink: sink,
) -> None:
    """Move records until `stop` is set; without a `stop`, until SIGTERM or SIGINT (a second one leaves at once).

    `on_progress` is called after each batch. `wrap` may put something around the sink. Raises ConfigError, FatalError.
    """
    owner = owner_name()
    sink = wrap(open_sink(settings, owner))
    mapper = open_mapper(settings, sink.describe)
    metrics = Metrics()
    telemetry = Telemetry(metrics, on_progress)
    kafka = dict(settings.kafka)
    pipeline = Pipeline(
        KafkaSource(kafka, settings.topics),
        KafkaCluster(kafka, str(kafka["group.id"])),
        Writer(sink, mapper),
        sink.interrupt,
        telemetry,
        policy=BatchPolicy(settings.batch.max_records, settings.batch.max_bytes, settings.batch.max_wait_ms),
        start=settings.start,
        exactly_once=settings.delivery == "exactly_once",
        limits=limits_of(settings),
    )
    with contextlib.ExitStack() as stack:
        stack.callback(sink.close)
        if settings.admin.enabled:
            stack.enter_context(_serving(settings, metrics, telemetry))
        _open_tables(mapper, settings)
        stop = stop or stack.enter_context(_until_signalled())
        log.info("started", owner=owner, group=kafka["group.id"], topics=settings.topics)
        pipeline.run(stop)
    log.info("stopped")


def _open_tables(mapper: TopicMapper | TransformMapper, settings: Settings) -> None:
    """Find out now what is wrong with tables, not when the first record comes; an outage is waited for later."""
    if isinstance(mapper, TopicMapper):
        try:
            mapper.open([topic for topic in settings.topics if not topic.startswith("^")])
        except UnavailableError as error:
            log.warning("database_unavailable", reason=str(error))


def owner_name() -> str:
    """This instance, told apart from every other: what the offset table and the database's sessions show."""
    return f"{socket.gethostname()[:20]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def limits_of(settings: Settings) -> Limits:
    """How long things may take; a revoke waits at most half a session, so that the group does not give us up."""
    session = float(settings.kafka.get("session.timeout.ms", _DEFAULT_SESSION_MS)) / 1000
    return Limits(
        write_deadline=settings.sink.write_deadline_ms / 1000,
        shutdown_grace=settings.shutdown_grace_ms / 1000,
        revoke_wait=min(10.0, session / 2),
    )


@contextlib.contextmanager
def _serving(settings: Settings, metrics: Metrics, telemetry: Telemetry) -> Iterator[None]:
    server = AdminServer(settings.admin.host, settings.admin.port, metrics.registry, telemetry.health)
    server.start()
    log.info("serving", url=f"http://{settings.admin.host}:{server.port}/metrics")
    try:
        yield
    finally:
        server.stop()


@contextlib.contextmanager
def _until_signalled() -> Iterator[threading.Event]:
    stop = threading.Event()

    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""The daemon put together: settings in, parts built, run until told to stop."""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Any

from consumer import __version__, logs, memory
from consumer.admin import AdminServer
from consumer.breaker import Breaker
from consumer.cluster import KafkaCluster
from consumer.config import Settings
from consumer.config.rules import feeds_itself, subscribes
from consumer.deadletter.opening import open_outbox
from consumer.errors import ConfigError, FatalError, UnavailableError
from consumer.events import Event, tell
from consumer.goal import Goal
from consumer.limits import Limits, Tolerance
from consumer.mapping.opening import open_mapper
from consumer.mapping.topics import TopicMapper
from consumer.mapping.transform import TransformMapper
from consumer.metrics import Metrics
from consumer.operations import Operations, policy_of
from consumer.outbox import dead_letter_topic
from consumer.pipeline import Pipeline
from consumer.sinks import Sink
from consumer.sinks.opening import open_sink, targets_of
from consumer.source import KafkaSource, verify
from consumer.steering import Steering
from consumer.systemd import ServiceManager
from consumer.table import Mode, Table, Target
from consumer.telemetry import Observer, Progress, Telemetry
from consumer.writer import Writer

_START_SECONDS = 10.0
_DEFAULT_SESSION_MS = 45_000  # librdkafka's default of session.timeout.ms


def run_daemon(
    settings: Settings,
    *,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    wrap: Callable[[Any], Any] = lambda sink: sink,
    reload: Callable[[], Settings] | None = None,
    metrics: Metrics | None = None,
    observer: Observer | None = None,
    aim: Callable[[KafkaCluster], Goal] | None = None,
) -> None:
    """Move records until `stop` is set; without a `stop`, until SIGTERM or SIGINT (a second one leaves at once).

    `on_progress` is called after each batch. `wrap` may put something around the sink. `reload` reads the settings
    again: at SIGHUP, where signals are listened to. `aim` gives the goal at which to end; asked once Kafka answers.
    Raises ConfigError, FatalError, and what `aim` does.
    """
    verify(settings.kafka)
    memory.settle()
    owner = owner_name()
    logs.bind(group=str(settings.kafka["group.id"]), instance=owner)
    sink = wrap(open_sink(settings, owner))
    mapper = open_mapper(settings, sink.describe, waits=True)
    metrics = metrics or Metrics(str(settings.kafka["group.id"]))
    manager = ServiceManager(os.environ.get("NOTIFY_SOCKET", ""))
    telemetry = Telemetry(metrics, on_progress, manager=manager, observer=observer)
    kafka = dict(settings.kafka)
    cluster = KafkaCluster(kafka, str(kafka["group.id"]))
    limits = settings.dead_letter
    writer = Writer(
        sink,
        mapper,
        Breaker(limits.max_consecutive, limits.max_ratio),
        open_outbox(settings, table=settings.delivery == "exactly_once"),
        keep_payload=limits.keep_payload,
    )
    steering = Steering(policy_of(settings.batch))
    pipeline = Pipeline(
        KafkaSource(kafka, settings.topics, ends=aim is not None),
        cluster,
        writer,
        sink.interrupt,
        telemetry,
        steering=steering,
        start=settings.start,
        exactly_once=settings.delivery == "exactly_once",
        limits=limits_of(settings),
        tolerance=Tolerance(limits.on_limit == "stop", limits.retry_after_ms / 1000, limits.max_pending),
    )
    operations = Operations(settings, steering, telemetry, lambda accept: pipeline.resume(accept=accept))
    with contextlib.ExitStack() as stack:
        # First of all: as process 1 of a container a signal without a handler is ignored.
        if stop is None:
            stop = stack.enter_context(until_signalled())
            if reload:
                stack.enter_context(at_hangup(functools.partial(operations.reload, reload)))
        stack.callback(sink.close)
        if settings.admin.enabled:
            stack.enter_context(_serving(settings, metrics, telemetry, operations, owner))
        _require_kafka(cluster, settings)
        _open_tables(mapper, sink, settings)
        tell(Event.STARTED, version=__version__, topics=settings.topics)
        pipeline.run(stop, aim(cluster) if aim else None)
    tell(Event.STOPPED)


def _require_kafka(cluster: KafkaCluster, settings: Settings) -> None:
    """A wrong address looks like an outage for ever; so an outage at the start is an error, and a later one is not."""
    try:
        names = cluster.topics(_START_SECONDS)
    except UnavailableError as error:
        servers = settings.kafka["bootstrap.servers"]
        hint = "Correct kafka.bootstrap.servers and security.*, or start Kafka."
        raise FatalError(
            f"kafka.bootstrap.servers {servers}: no answer within {_START_SECONDS:g} s ({error})", hint
        ) from None
    _require_dead_ends(settings, names)


def _require_dead_ends(settings: Settings, names: Collection[str]) -> None:
    """Dead letters must not come back as records; and where they go should be there before they do."""
    template = settings.dead_letter.topic
    if template is None:
        return
    if overlap := feeds_itself(settings.topics, template, names):
        raise ConfigError("topics", overlap[0], "is read, and takes dead letters as well; change dead_letter.topic")
    topics = [name for name in names if any(subscribes(topic, name) for topic in settings.topics)]
    if missing := sorted({dead_letter_topic(template, topic) for topic in topics} - set(names)):
        where = (
            "no record that is at fault can be passed"
            if settings.delivery == "at_least_once"
            else "they stay in the table"
        )
        tell(Event.DEAD_LETTER_TOPICS_MISSING, topics=missing, reason=f"until they are created, {where}")


def _open_tables(mapper: TopicMapper | TransformMapper, sink: Sink, settings: Settings) -> None:
    """Find out now what is wrong with tables, not when the first record comes; an outage is waited for later."""
    try:
        for target in targets_of(settings):
            _require_key(sink.describe(target.table), target)
        if isinstance(mapper, TopicMapper):
            mapper.open([topic for topic in settings.topics if not topic.startswith("^")])
    except UnavailableError as error:
        tell(Event.DATABASE_UNAVAILABLE, reason=str(error))


def _require_key(table: Table, target: Target) -> None:
    if target.mode is Mode.INSERT:
        return
    key = target.key or next(iter(table.keys), ())
    if not key:
        hint = "Give it a primary key, or name columns that are unique together as its `key`."
        raise FatalError(f"table {table.name} has no key, which mode {target.mode} needs", hint)
    if set(key) not in map(set, table.keys):
        hint = "Create such an index, or configure another key."
        raise FatalError(f"table {table.name}: no unique index is on exactly the key ({', '.join(key)})", hint)


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
        longest_delay=settings.retry.max_delay_ms / 1000,
        give_up=None if settings.retry.give_up_after_ms is None else settings.retry.give_up_after_ms / 1000,
    )


@contextlib.contextmanager
def _serving(
    settings: Settings, metrics: Metrics, telemetry: Telemetry, operations: Operations, owner: str
) -> Iterator[None]:
    about = {"version": __version__, "group": settings.kafka["group.id"], "instance": owner}
    admin = settings.admin
    server = AdminServer(
        admin.host,
        admin.port,
        metrics.registry,
        telemetry.health,
        {"/status": lambda: about | telemetry.status() | operations.status(), "/history": telemetry.history},
        {"/pause": operations.pause, "/resume": operations.resume, "/set": operations.change},
        admin.token.get_secret_value() if admin.token else "",
    )
    server.start()
    tell(Event.SERVING, url=f"http://{admin.host}:{server.port}/metrics", page="/")
    try:
        yield
    finally:
        server.stop()


@contextlib.contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """An event that SIGTERM or SIGINT sets; when one comes after it is set, the process ends at once."""
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


@contextlib.contextmanager
def at_hangup(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` after each SIGHUP, in a thread of its own: what it does must not hold up the loop."""
    wanted: queue.SimpleQueue[bool] = queue.SimpleQueue()  # the one that a signal's handler may use

    def serve() -> None:
        while wanted.get():
            act()

    thread = threading.Thread(target=serve, name="reload", daemon=True)
    before = signal.signal(signal.SIGHUP, lambda _number, _frame: wanted.put(True))
    thread.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        wanted.put(False)
        thread.join(5)

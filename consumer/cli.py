"""The command line: builds the parts and hands plain values down."""

from __future__ import annotations

import datetime
import os
import signal
import socket
import sys
import threading
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import structlog
import typer

from consumer import __version__
from consumer.batch import BatchPolicy
from consumer.config import Settings, load
from consumer.errors import ConfigError, FatalError
from consumer.pipeline import Pipeline
from consumer.sinks.postgres import PostgresSink
from consumer.source import KafkaSource

app = typer.Typer(no_args_is_help=True, add_completion=False)
_JSON_TYPES: dict[str, type] = {
    "smallint": int,
    "integer": int,
    "bigint": int,
    "double precision": float,
    "real": float,
    "numeric": Decimal,
    "boolean": bool,
    "text": str,
    "character varying": str,
    "timestamp with time zone": datetime.datetime,
    "date": datetime.date,
    "uuid": uuid.UUID,
}


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


@app.command()
def run(config: Annotated[Path, typer.Argument(help="the YAML file")]) -> None:
    """Move records until told to stop (SIGTERM writes what was read; a second one leaves at once)."""
    settings = load(config)
    if not sys.stderr.isatty():
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso"),
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )
    _run(settings, _stop_on_signals())


def _run(settings: Settings, stop: threading.Event) -> None:
    topic = settings.topics[0]
    table = settings.sink.table or topic
    owner = f"{socket.gethostname()[:20]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    sink = PostgresSink(settings.sink.dsn, table, str(settings.kafka["group.id"]), owner)
    columns = sink.columns()
    types = {name: _JSON_TYPES[kind] for name, kind in columns.items() if kind in _JSON_TYPES}
    if unknown := columns.keys() - types.keys():
        raise FatalError(f"no JSON type for the columns {sorted(unknown)} of {table}", "Change their types.")
    policy = BatchPolicy(settings.batch.max_records, settings.batch.max_bytes, settings.batch.max_wait_ms)
    pipeline = Pipeline(sink, list(columns), types, policy)

    def open_source(pipeline: Pipeline) -> KafkaSource:
        return KafkaSource(dict(settings.kafka), settings.topics, pipeline.assigned, pipeline.revoked)

    pipeline.run(open_source, stop)


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()

    def handle(_number: int, _frame: object) -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)
    return stop


def main() -> None:
    """The command `microbatch`: exit 0 done, 1 failed, 2 usage or configuration."""
    try:
        app()
    except ConfigError as error:
        sys.exit(_report(f"error: {error}", 2))
    except FatalError as error:
        sys.exit(_report(f"error: {error}\nhint: {error.hint}", 1))


def _report(text: str, code: int) -> int:
    typer.echo(text, err=True)
    return code

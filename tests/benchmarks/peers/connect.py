"""Debezium's JDBC sink on Kafka Connect, one standalone worker with one task; jars by Maven."""

from __future__ import annotations

import subprocess
import tarfile
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from tests.benchmarks.lab import BATCH, Lab
from tests.benchmarks.peers.environments import CACHE, MissingPeerError
from tests.services.kafka import fetch, free_ports

_POM = Path(__file__).parent / "pom.xml"
# What bin/connect-standalone.sh and bin/kafka-run-class.sh of Apache Kafka give Java unless they are told otherwise:
# https://github.com/apache/kafka/tree/trunk/bin. The heap is a bound, and what it takes of it is its own doing.
_JAVA = (
    *("-Xms256M", "-Xmx2G", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"),
    *("-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"),
)
_WORKER = """
bootstrap.servers={bootstrap}
listeners=http://127.0.0.1:{port}
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
value.converter.schemas.enable=true
offset.storage.file.filename={folder}/connect.offsets
plugin.path={plugins}
connector.client.config.override.policy=All
"""
_SINK = """
name={group}
connector.class=io.debezium.connector.jdbc.JdbcSinkConnector
tasks.max=1
topics={topic}
connection.url=jdbc:postgresql://{host}:{server_port}/{database}?reWriteBatchedInserts=true
connection.username={user}
connection.password=
insert.mode=insert
primary.key.mode=none
collection.name.format=orders
schema.evolution=none
batch.size={batch}
consumer.override.max.poll.records={batch}
consumer.override.auto.offset.reset=earliest
dialect.postgres.unnest.insert.enabled={unnest}
"""


def installed() -> Path:
    """The folder with `libs` and `plugins`, fetched once. Raises MissingPeerError without Java or Maven's packages."""
    folder = CACHE / "connect"
    try:
        libs = fetch(_POM, folder / "libs")
    except (RuntimeError, subprocess.CalledProcessError) as error:
        raise MissingPeerError(str(error)) from None
    if not (folder / "plugins").exists():
        (plugin,) = libs.glob("*-plugin.tar.gz")
        with tarfile.open(plugin) as archive:
            archive.extractall(folder / "plugins.part", filter="data")
        (folder / "plugins.part").rename(folder / "plugins")
    return folder


def command(lab: Lab, folder: Path, topic: str, *, unnest: bool) -> list[str | Path]:
    """How to run it over a topic whose records hold their schema, with Java as Kafka Connect's own scripts start it."""
    server, group = conninfo_to_dict(lab.dsn), lab.new_group()
    values = {
        "bootstrap": lab.bootstrap,
        "port": free_ports(1)[0],
        "folder": lab.folder,
        "plugins": folder / "plugins",
        "group": group,
        "topic": topic,
        "host": server["host"],
        "server_port": server["port"],
        "database": server["dbname"],
        "user": server["user"],
        "batch": BATCH,
        "unnest": str(unnest).lower(),
    }
    worker, sink = lab.folder / f"{group}-worker.properties", lab.folder / f"{group}-sink.properties"
    worker.write_text(_WORKER.format(**values))
    sink.write_text(_SINK.format(**values))
    log = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    main = "org.apache.kafka.connect.cli.ConnectStandalone"
    return ["java", *_JAVA, log, "-cp", f"{folder / 'libs'}/*", main, worker, sink]

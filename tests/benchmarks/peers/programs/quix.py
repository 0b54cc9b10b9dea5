"""Quix Streams: JSON into its PostgreSQLSink, a checkpoint for each 5,000 records."""

from __future__ import annotations

import sys

from psycopg2.extensions import parse_dsn
from quixstreams import Application
from quixstreams.sinks.community.postgresql import PostgreSQLSink

bootstrap, topic, group, dsn = sys.argv[1:]
server = parse_dsn(dsn)
sink = PostgreSQLSink(
    host=server["host"],
    port=int(server["port"]),
    dbname=server["dbname"],
    user=server["user"],
    password="",
    table_name="orders",
    schema_auto_update=False,
    include_metadata=False,
)
app = Application(
    broker_address=bootstrap,
    consumer_group=group,
    auto_offset_reset="earliest",
    auto_create_topics=False,
    commit_every=5000,
    consumer_extra_config={"fetch.queue.backoff.ms": 50},
)
app.dataframe(app.topic(topic, value_deserializer="json")).sink(sink)
app.run()

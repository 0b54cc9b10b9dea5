"""The obvious loop: poll, confluent's AvroDeserializer, executemany for each 5,000 records, both commits."""

from __future__ import annotations

import json
import sys

import psycopg
from confluent_kafka import Consumer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

BATCH = 5000
bootstrap, topic, group, dsn, schema = sys.argv[1:]
registry = SchemaRegistryClient.new_client({"url": "mock://bench"})
registry.register_schema(f"{topic}-value", Schema(schema, "AVRO"))
deserialize = AvroDeserializer(registry)
context = SerializationContext(topic, MessageField.VALUE)
columns = [field["name"] for field in json.loads(schema)["fields"]]
insert = f"insert into orders ({', '.join(columns)}) values ({', '.join(['%s'] * len(columns))})"
properties = {"bootstrap.servers": bootstrap, "group.id": group, "fetch.queue.backoff.ms": 50}
consumer = Consumer(properties | {"auto.offset.reset": "earliest", "enable.auto.commit": False})
consumer.subscribe([topic])
with psycopg.connect(dsn) as connection:
    rows = []
    while True:
        message = consumer.poll(1)
        if message is None:
            continue
        value = deserialize(message.value(), context)
        rows.append([value[column] for column in columns])
        if len(rows) == BATCH:
            connection.cursor().executemany(insert, rows)
            connection.commit()
            consumer.commit(asynchronous=False)
            rows = []

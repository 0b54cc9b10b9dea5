"""librdkafka's mock cluster, with the switches that confluent_kafka does not show: for errors that no real broker gives
on demand. It is no Kafka: what is promised is tested on a real one."""

from __future__ import annotations

import ctypes
from pathlib import Path

import confluent_kafka
from confluent_kafka import Producer

PRODUCE, INIT_PRODUCER_ID = 0, 22  # Kafka's numbers of these requests
_LIBRARIES = Path(confluent_kafka.__file__).parents[1] / "confluent_kafka.libs"


def _library() -> ctypes.CDLL:
    (path,) = _LIBRARIES.glob("librdkafka-*.so*")
    library = ctypes.CDLL(str(path))
    library.rd_kafka_handle_mock_cluster.restype = ctypes.c_void_p
    library.rd_kafka_handle_mock_cluster.argtypes = [ctypes.c_void_p]
    errors = [ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int)]
    library.rd_kafka_mock_push_request_errors_array.argtypes = errors
    library.rd_kafka_mock_clear_request_errors.argtypes = [ctypes.c_void_p, ctypes.c_int16]
    library.rd_kafka_mock_topic_set_error.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
    for name in ("rd_kafka_mock_broker_set_down", "rd_kafka_mock_broker_set_up"):
        getattr(library, name).argtypes = [ctypes.c_void_p, ctypes.c_int32]
    return library


class MockKafka:
    """One broker in this process, alive as long as this object."""

    def __init__(self) -> None:
        self._producer = Producer({"test.mock.num.brokers": 1, "log_level": 0})
        (broker,) = self._producer.list_topics(timeout=10).brokers.values()
        self.bootstrap = f"{broker.host}:{broker.port}"
        self._library = _library()
        # The C struct of a client: Python's own head of two words, then librdkafka's handle.
        handle = ctypes.c_void_p.from_address(id(self._producer) + 2 * ctypes.sizeof(ctypes.c_void_p))
        self._cluster = self._library.rd_kafka_handle_mock_cluster(handle)

    def create(self, topic: str) -> None:
        """A topic of four partitions."""
        self._producer.list_topics(topic, timeout=10)

    def fail(self, *codes: int, request: int = PRODUCE) -> None:
        """Answer the next requests of this kind with these errors, one each."""
        self._library.rd_kafka_mock_push_request_errors_array(
            self._cluster, request, len(codes), (ctypes.c_int * len(codes))(*codes)
        )

    def mend(self, request: int = PRODUCE) -> None:
        """Forget the errors that `fail` has left."""
        self._library.rd_kafka_mock_clear_request_errors(self._cluster, request)

    def topic_error(self, topic: str, code: int) -> None:
        """What metadata say of this topic; 0: that all is well."""
        self._library.rd_kafka_mock_topic_set_error(self._cluster, topic.encode(), code)

    def down(self) -> None:
        """Cut all connections, and take no new ones."""
        self._library.rd_kafka_mock_broker_set_down(self._cluster, 1)

    def up(self) -> None:
        """The end of `down`."""
        self._library.rd_kafka_mock_broker_set_up(self._cluster, 1)

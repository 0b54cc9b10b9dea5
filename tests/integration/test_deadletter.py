"""Dead letters published to a real Kafka and read again; and to librdkafka's mock, for what no Kafka does on demand."""

from __future__ import annotations

import datetime
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from consumer import deadletter
from consumer.deadletter import DeadLetterTopic, NoDeadLetterError, Style, letter_of_dead_letter
from consumer.letter import DeadLetter, Evidence, State
from consumer.outbox import Receipt
from consumer.record import Headers
from tests.services.kafka import Kafka
from tests.services.mock_kafka import INIT_PRODUCER_ID, MockKafka

NOW = datetime.datetime(2026, 1, 31, 8, 30, tzinfo=datetime.UTC)
TIME = (1, 1_700_000_000_123)
SMALL = 20_000  # max.message.bytes of a small topic


class World:
    """A topic of its own on a real Kafka, whose dead-letter topic is made by `create`."""

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap
        self.topic = f"orders-{uuid.uuid4().hex[:8]}"
        self.dlq = f"{self.topic}.dlq"
        self._admin = AdminClient({"bootstrap.servers": bootstrap})
        self._boxes: list[DeadLetterTopic] = []

    def create(self, partitions: int = 1, **config: object) -> World:
        # Records have the times of their originals: with a retention, Kafka deletes old ones at once.
        settings = {"retention.ms": "-1"} | {name.replace("_", "."): str(value) for name, value in config.items()}
        self._admin.create_topics([NewTopic(self.dlq, partitions, 1, config=settings)])[self.dlq].result()
        return self

    def set(self, name: str, value: str) -> None:
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, self.dlq, incremental_configs=[entry])
        self._admin.incremental_alter_configs([resource])[resource].result()

    def outbox(self, kafka: dict[str, Any] | None = None, **settings: Any) -> DeadLetterTopic:
        properties = {"bootstrap.servers": self.bootstrap, "group.id": "shop", "session.timeout.ms": 6000} | (
            kafka or {}
        )
        box = DeadLetterTopic(properties, group="shop", **settings)
        self._boxes.append(box)
        return box

    def letter(self, offset: int = 0, value: bytes | None = b"value", **changes: Any) -> DeadLetter:
        evidence = Evidence("write", "RejectedError", "check constraint", "23514", "stock")
        letter = DeadLetter(self.topic, 0, offset, b"key", value, None, TIME, evidence, NOW, State.PUBLISHED)
        return replace(letter, **changes)

    def read(self, count: int) -> list[Message]:
        """All that the dead-letter topic holds, which must be this many."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "reader", "enable.auto.commit": False})
        partitions = [TopicPartition(self.dlq, number, 0) for number in range(self._partitions())]
        ends = [consumer.get_watermark_offsets(partition)[1] for partition in partitions]
        assert sum(ends) == count
        consumer.assign(partitions)
        found: list[Message] = []
        end = time.monotonic() + 30
        while len(found) < count:
            assert time.monotonic() < end, f"only {len(found)} of {count} came"
            found += [message for message in consumer.consume(count - len(found), 1) if message.error() is None]
        consumer.close()
        return found

    def lost(self) -> int:
        """How many records of the first partition Kafka has deleted."""
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "reader"})
        low, _ = consumer.get_watermark_offsets(TopicPartition(self.dlq, 0), timeout=10)
        consumer.close()
        return low

    def close(self) -> None:
        for box in self._boxes:
            box.close()

    def _partitions(self) -> int:
        return len(self._admin.list_topics(self.dlq, timeout=10).topics[self.dlq].partitions)


@pytest.fixture
def world(kafka: str) -> Iterator[World]:
    made = World(kafka)
    yield made
    made.close()


def delivered(box: DeadLetterTopic, letters: list[DeadLetter], seconds: float = 30) -> list[Receipt]:
    """Their receipts, by offset."""
    box.send(letters)
    assert box.in_flight == len(letters)
    box.wait(seconds)
    assert box.in_flight == 0
    return sorted(box.receipts(), key=lambda receipt: receipt.coordinates)


def receipts(letters: list[DeadLetter], *, whole: bool = True) -> list[Receipt]:
    return [Receipt(letter.coordinates, whole=whole) for letter in letters]


def again_until(box: DeadLetterTopic, letter: DeadLetter, wanted: Callable[[Receipt], bool]) -> Receipt:
    """Send it until its receipt is as wanted."""
    end = time.monotonic() + 30
    while True:
        (receipt,) = delivered(box, [letter])
        if wanted(receipt):
            return receipt
        assert time.monotonic() < end, receipt


PAYLOADS: list[tuple[bytes | None, bytes | None, Headers | None]] = [
    (None, None, None),
    (b"", b"", None),
    (b"\0\xff", bytes(range(256)) * 10, [("a", b"1"), ("b", b"2"), ("a", b"\0\xff")]),
    (b"key", None, [("null", None), ("empty", b""), ("", b"no name"), ("\u00e9\u4e16", b"name")]),
    (None, b"v", [("__connect.errors.topic", b"theirs"), ("kafka_dlt-original-topic", b"theirs")]),
]


@pytest.mark.parametrize("style", ["kip-1191", "connect", "spring"])
def test_a_published_record_has_the_same_bytes(world: World, style: Style) -> None:
    """Key, value, headers in their order, and time; and the letter is read back from it."""
    box = world.create(partitions=3).outbox(headers=style)
    sent = [
        world.letter(number, value, key=key, headers=headers) for number, (key, value, headers) in enumerate(PAYLOADS)
    ]
    assert delivered(box, sent) == receipts(sent)
    found = {letter_of_dead_letter(message).offset: message for message in world.read(len(sent))}
    for letter in sent:
        message = found[letter.offset]
        assert (message.key(), message.value(), message.timestamp()) == (letter.key, letter.value, TIME)
        prefix = {"kip-1191": "__dlq.", "connect": "__connect.", "spring": "kafka_dlt-"}[style]
        theirs = [header for header in letter.headers or [] if not header[0].startswith(prefix)]
        assert (message.headers() or [])[: len(theirs)] == theirs
        assert letter_of_dead_letter(message) == replace(letter, headers=theirs or None)


@pytest.mark.parametrize("timestamp", [(0, 0), (1, 1), (2, 1_700_000_000_000), (1, 0), (1, 1 << 61), (1, -5)])
def test_the_time_of_a_record_is_never_lost(world: World, timestamp: tuple[int, int]) -> None:
    """Even where the topic does not take it: far in the future, none, or the first millisecond of 1970."""
    box = world.create().outbox()
    letter = world.letter(timestamp=timestamp)
    assert delivered(box, [letter]) == receipts([letter])
    (message,) = world.read(1)
    assert letter_of_dead_letter(message) == letter
    if 0 < timestamp[1] < 1 << 60:
        assert message.timestamp()[1] == timestamp[1]


def test_an_old_record_survives_retention_in_a_topic_with_its_own_time(world: World, kafka: str) -> None:
    """Kafka deletes by a record's time: with LogAppendTime by when it was published; the letter has the other."""
    week = 7 * 24 * 3600 * 1000
    letter = world.create(message_timestamp_type="LogAppendTime", retention_ms=week).letter()
    other = World(kafka).create(retention_ms=week)
    for each in (world, other):
        assert delivered(each.outbox(), [letter if each is world else other.letter()])[0].error is None
        each.close()
    end = time.monotonic() + 30
    while other.lost() == 0:
        assert time.monotonic() < end, "retention did not happen"
    (message,) = world.read(1)
    assert message.timestamp()[0] == 2
    assert letter_of_dead_letter(message) == letter


def test_a_replayed_record_that_fails_again_has_its_headers_replaced(world: World) -> None:
    """Of its dead letter, published back into its own topic with all its headers, and failed again."""
    box = world.create().outbox()
    first = world.letter(0, headers=[("a", b"1")])
    assert delivered(box, [first]) == receipts([first])
    (message,) = world.read(1)
    second = world.letter(1, headers=message.headers(), replay_count=1)
    assert delivered(box, [second]) == receipts([second])
    _, message = world.read(2)
    names = [name for name, _ in message.headers() or []]
    assert len(names) == len(set(names))
    assert letter_of_dead_letter(message) == replace(second, headers=[("a", b"1")])


def test_the_evidence_of_what_is_too_large_is_published(world: World) -> None:
    """The table keeps the value, the topic says so; the small ones around it are whole, though sent in one go."""
    box = world.create(max_message_bytes=SMALL).outbox(kafka={"message.max.bytes": 1_000_000})
    sent = [world.letter(number, b"x" * (50_000 if number % 20 == 5 else 500)) for number in range(200)]
    large = [letter for letter in sent if len(letter.value or b"") > SMALL]
    found = delivered(box, sent)
    assert found == [Receipt(letter.coordinates, whole=letter not in large) for letter in sent]
    published = {letter_of_dead_letter(message, whole=False).offset: message for message in world.read(len(sent))}
    for letter in sent:
        message = published[letter.offset]
        if letter in large:
            assert (message.key(), message.value()) == (b"key", None)
            assert {("microbatch.value", b"kept"), ("microbatch.value.bytes", b"50000")} <= set(message.headers() or [])
            with pytest.raises(NoDeadLetterError, match="its value was too large for this topic"):
                letter_of_dead_letter(message)
        else:
            assert letter_of_dead_letter(message) == letter


@pytest.mark.parametrize("table", [True, False])
def test_a_value_is_cut_where_that_is_allowed(world: World, table: bool) -> None:
    """To its first 4 kB."""
    box = world.create(max_message_bytes=SMALL).outbox(too_large="cut", table=table)
    letter = world.letter(value=bytes(range(250)) * 200)
    assert delivered(box, [letter]) == receipts([letter], whole=False)
    (message,) = world.read(1)
    assert message.value() == (letter.value or b"")[:4096]
    assert {("microbatch.value", b"cut"), ("microbatch.value.bytes", b"50000")} <= set(message.headers() or [])


@pytest.mark.parametrize("too_large", ["keep", "cut"])
def test_of_a_record_with_a_huge_key_only_the_evidence_is_published(world: World, too_large: Any) -> None:
    """And of one with huge headers; the table has the rest."""
    box = world.create(max_message_bytes=SMALL).outbox(too_large=too_large)
    sent = [world.letter(0, key=b"k" * 50_000), world.letter(1, None, headers=[("h", b"x" * 50_000)])]
    assert delivered(box, sent) == receipts(sent, whole=False)
    for message in world.read(2):
        assert (message.key(), message.value()) == (None, None)
        assert {("microbatch.key", b"kept"), ("microbatch.headers", b"kept")} <= set(message.headers() or [])
        assert letter_of_dead_letter(message, whole=False).evidence == sent[0].evidence


@pytest.mark.parametrize("too_large", ["keep", "cut"])
def test_without_a_table_nothing_is_left_out_on_its_own(world: World, too_large: Any) -> None:
    """The receipt says what to do, and once it is done the record is published whole."""
    box = world.create(max_message_bytes=SMALL).outbox(too_large=too_large, table=False)
    letter = world.letter(key=b"k" * 50_000)
    (receipt,) = delivered(box, [letter])
    assert "raise the topic's max.message.bytes" in (receipt.error or "")
    world.set("max.message.bytes", "100000")
    again_until(box, letter, lambda receipt: receipt.error is None)
    assert letter_of_dead_letter(world.read(1)[0]) == letter


def test_a_record_larger_than_the_whole_queue_does_not_block_it(world: World) -> None:
    """The client's own limits count as the topic's; a queue that is merely full leaves letters for the next time."""
    box = world.create().outbox(kafka={"queue.buffering.max.kbytes": 100})
    sent = [world.letter(0, b"x" * 200_000), *(world.letter(number, b"x" * 30_000) for number in range(1, 20))]
    got: list[Receipt] = []
    rounds = 0
    while len(got) < len(sent):
        rounds += 1
        have = {receipt.coordinates for receipt in got}
        box.send([letter for letter in sent if letter.coordinates not in have])
        assert box.in_flight <= 5
        box.wait(10)
        got += box.receipts()
    assert rounds > 3
    assert sorted(got, key=lambda receipt: receipt.coordinates)[1:] == receipts(sent[1:])
    assert [receipt for receipt in got if not receipt.whole] == receipts(sent[:1], whole=False)
    world.read(len(sent))


def test_a_large_record_is_published_whole_where_the_topic_takes_it(world: World) -> None:
    """Ten million bytes, without any setting of the client."""
    box = world.create(max_message_bytes=20_000_000).outbox()
    letter = world.letter(value=b"x" * 10_000_000)
    assert delivered(box, [letter]) == receipts([letter])
    assert world.read(1)[0].value() == letter.value


def test_a_missing_topic_is_told_and_not_made(world: World) -> None:
    """Each letter gets its error; once somebody has created the topic all are published."""
    box = world.outbox(kafka={"allow.auto.create.topics": True})
    sent = [world.letter(number) for number in range(3)]
    for receipt in delivered(box, sent):
        assert (receipt.error or "").startswith(f"{world.dlq}: ")
        assert "create the topic" in (receipt.error or "")
    world.create()
    again_until(box, sent[0], lambda receipt: receipt.error is None)
    assert delivered(box, sent[1:]) == receipts(sent[1:])
    assert len(world.read(3)) == 3


def test_a_compacted_topic_and_a_record_without_a_key(world: World) -> None:
    """What the broker refuses is an error with what to do; the next letter is published all the same."""
    box = world.create(cleanup_policy="compact").outbox()
    sent = [world.letter(0, key=None), world.letter(1)]
    refused, fine = delivered(box, sent)
    assert "cleanup.policy" in (refused.error or "")
    assert fine == Receipt(sent[1].coordinates)


def test_a_broker_that_is_away(tmp_path: Path) -> None:
    """No receipt until it is back; and what is on its way is not sent twice."""
    broker = Kafka(tmp_path)
    broker.start()
    world = World(broker.bootstrap).create()
    try:
        box = world.outbox()
        before, during = world.letter(0), world.letter(1)
        assert delivered(box, [before]) == receipts([before])
        broker.kill()
        for _ in range(3):
            box.send([during])
        box.wait(1)
        assert (box.receipts(), box.in_flight) == ([], 1)
        broker.start()
        box.send([during])
        box.wait(20)
        assert box.receipts() == receipts([during])
        assert [letter_of_dead_letter(message) for message in world.read(2)] == [before, during]
    finally:
        world.close()
        broker.stop()


# From here on the mock.


@pytest.fixture
def mock() -> MockKafka:
    cluster = MockKafka()
    cluster.create("orders.dlq")
    return cluster


@pytest.fixture
def box(mock: MockKafka) -> Iterator[DeadLetterTopic]:
    made = DeadLetterTopic({"bootstrap.servers": mock.bootstrap}, group="shop")
    yield made
    made.close()


def order(offset: int = 0) -> DeadLetter:
    return DeadLetter("orders", 0, offset, b"k", b"v", None, TIME, Evidence("decode", "DecodeError", "no"), NOW)


def everything(bootstrap: str, topic: str) -> list[Message]:
    """What the topic holds now."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False})
    partitions = [TopicPartition(topic, number, 0) for number in consumer.list_topics(topic).topics[topic].partitions]
    count = sum(consumer.get_watermark_offsets(partition, timeout=10)[1] for partition in partitions)
    consumer.assign(partitions)
    found: list[Message] = []
    while len(found) < count:
        messages = consumer.consume(count - len(found), 10)
        assert messages, f"{len(found)} of {count} came"
        found += [message for message in messages if message.error() is None]
    consumer.close()
    return found


@pytest.mark.parametrize("code", ["INVALID_RECORD", "POLICY_VIOLATION", "MSG_SIZE_TOO_LARGE", "INVALID_TIMESTAMP"])
def test_records_that_were_refused_together_are_sent_each_alone(
    mock: MockKafka, box: DeadLetterTopic, code: str
) -> None:
    """Brokers refuse batches; perhaps for one record of them, which is not said."""
    sent = [order(number) for number in range(10)]
    mock.fail(getattr(KafkaError, code))
    assert sorted(delivered(box, sent), key=lambda receipt: receipt.coordinates) == receipts(sent)


@pytest.mark.parametrize("code", ["INVALID_RECORD", "POLICY_VIOLATION"])
def test_a_refusal_is_a_receipt_with_an_error_and_nothing_else(
    mock: MockKafka, box: DeadLetterTopic, code: str
) -> None:
    """For the letter that was refused alone, and not for those behind it; sent again, it is published."""
    mock.fail(*[getattr(KafkaError, code)] * 2)
    (refused,) = delivered(box, [order(0)])
    assert code in (refused.error or "")
    assert delivered(box, [order(0), order(1)]) == receipts([order(0), order(1)])


@pytest.mark.parametrize("code", ["TOPIC_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"])
def test_where_nobody_may_write_all_have_an_error(mock: MockKafka, box: DeadLetterTopic, code: str) -> None:
    """At once, because alone they would fare no better; sent again, they are published."""
    mock.fail(*[getattr(KafkaError, code)] * 2)
    for receipt in delivered(box, [order(0), order(1)]):
        assert code in (receipt.error or "")
    again_until(box, order(0), lambda receipt: receipt.error is None)


@pytest.mark.parametrize("code", ["NOT_ENOUGH_REPLICAS", "NOT_LEADER_FOR_PARTITION", "REQUEST_TIMED_OUT", "_TRANSPORT"])
def test_what_passes_by_itself_is_retried_without_a_word(mock: MockKafka, box: DeadLetterTopic, code: str) -> None:
    """Leaders move, replicas lag: the client goes on, and where the receipt says so, it is there."""
    sent = [replace(order(number), value=bytes(300_000)) for number in range(10)]  # three to a request
    mock.fail(*[getattr(KafkaError, code)] * 3)
    assert delivered(box, sent) == receipts(sent)
    assert {letter_of_dead_letter(message).offset for message in everything(mock.bootstrap, "orders.dlq")} == set(
        range(10)
    )


def test_nothing_is_delivered_before_the_broker_says_so(mock: MockKafka, box: DeadLetterTopic) -> None:
    """While the broker is down a letter has no receipt; after the time that is allowed it has an error."""
    mock.down()
    box.send([order()])
    box.wait(0.5)
    assert (box.receipts(), box.in_flight) == ([], 1)
    mock.up()
    box.wait(20)
    assert box.receipts() == receipts([order()])


def test_after_the_time_that_is_allowed_there_is_an_error(mock: MockKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is up to the caller to send it again; by another client, for the first one may be stuck."""
    monkeypatch.setitem(deadletter._FIXED, "delivery.timeout.ms", 500)
    box = DeadLetterTopic({"bootstrap.servers": mock.bootstrap}, group="shop")
    mock.down()
    box.send([order(0)])
    first = box._producers[False]
    (receipt,) = delivered(box, [order(0)], 20)
    assert "_MSG_TIMED_OUT" in (receipt.error or "")
    mock.up()
    monkeypatch.undo()
    again_until(box, order(), lambda receipt: receipt.error is None)
    assert box._producers[False] is not first
    box.close()


@pytest.mark.parametrize(
    "fatal",
    [
        lambda mock: mock.fail(KafkaError.CLUSTER_AUTHORIZATION_FAILED, request=INIT_PRODUCER_ID),
        lambda mock: mock.fail(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER),
    ],
)
def test_a_producer_that_fails_for_good_is_replaced(
    mock: MockKafka, box: DeadLetterTopic, fatal: Callable[[MockKafka], None]
) -> None:
    """What was on its way has an error, and can be sent again at once."""
    fatal(mock)
    sent = [order(number) for number in range(10)]
    found = delivered(box, sent)
    assert [receipt.coordinates for receipt in found] == [letter.coordinates for letter in sent]
    assert "the producer failed" in (found[0].error or "")
    assert delivered(box, sent) == receipts(sent)


def test_closing_is_quick_while_the_broker_is_away(mock: MockKafka, box: DeadLetterTopic) -> None:
    """What is on its way is given up, without a receipt."""
    assert delivered(box, [order(0)]) == receipts([order(0)])
    mock.down()
    box.send([order(1)])
    began = time.monotonic()
    box.close()
    assert time.monotonic() - began < 5
    assert (box.receipts(), box.in_flight) == ([], 0)


def test_nothing_is_connected_to_before_there_is_a_dead_letter() -> None:
    """Asking and closing need no producer."""
    box = DeadLetterTopic({"bootstrap.servers": "127.0.0.1:1"}, group="shop")
    box.send([])
    box.wait(1)
    assert box.receipts() == []
    box.close()

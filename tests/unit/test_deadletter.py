"""Headers of dead letters, written and read; and what a producer is given."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from consumer.deadletter import NoDeadLetterError, Style, letter_of_dead_letter, producer_properties
from consumer.deadletter.headers import with_evidence
from consumer.letter import DeadLetter, Evidence, State
from consumer.outbox import dead_letter_topic, origin_topic
from consumer.record import Headers

NOW = datetime.datetime(2026, 1, 31, 8, 30, 0, 123456, datetime.UTC)
STYLES: list[Style] = ["kip-1191", "connect", "spring"]
LETTER = DeadLetter(
    "orders",
    3,
    1 << 40,
    b"key",
    b"value",
    [("trace", b"1"), ("trace", None), ("empty", b"")],
    (2, 1_700_000_000_123),
    Evidence("write", "RejectedError", "check constraint", "23514", "stock", "n", "stock_n_check", 2, "ab12-7"),
    NOW,
    State.PUBLISHED,
    replay_count=4,
)


@dataclass
class Published:
    """A record of a dead-letter topic, as read. `headers_of` None: the client cannot read them."""

    headers_of: Headers | None
    body: bytes | None = b"value"
    time: tuple[int, int] = (1, 1_800_000_000_000)
    label: bytes | None = field(default=b"key")

    def topic(self) -> str:
        return "orders.dlq"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def key(self) -> bytes | None:
        return self.label

    def value(self) -> bytes | None:
        return self.body

    def headers(self) -> Headers | None:
        if self.headers_of is None:
            raise SystemError("header name is not UTF-8")
        return self.headers_of or None

    def timestamp(self) -> tuple[int, int]:
        return self.time

    def __len__(self) -> int:
        return len(self.body or b"")


def of(letter: DeadLetter, style: Style = "kip-1191", parts: dict[str, str] | None = None) -> Headers:
    return with_evidence(letter, style, "shop", parts)


@pytest.mark.parametrize("style", STYLES)
def test_a_letter_comes_back_as_it_was(style: Style) -> None:
    """From any style of headers, also when the topic has put its own time on it."""
    assert letter_of_dead_letter(Published(of(LETTER, style))) == LETTER


def test_that_headers_are_lost_is_not_forgotten() -> None:
    """A record without headers is another one than a record whose headers nobody could read."""
    lost = replace(LETTER, headers=None, evidence=replace(LETTER.evidence, headers_lost=True))
    assert letter_of_dead_letter(Published(of(lost))) == lost


@pytest.mark.parametrize("style", STYLES)
def test_headers_are_replaced_when_it_fails_again(style: Style) -> None:
    """A hundred replays leave as many headers as one, those of the record first and untouched."""
    once = of(LETTER, style)
    again = LETTER
    for _ in range(100):
        again = replace(again, headers=of(again, style))
    assert of(again, style) == once
    assert once[:3] == LETTER.headers
    assert len({name for name, _ in once[3:]}) == len(once) - 3


def test_headers_of_other_products_stay_unless_their_names_are_ours() -> None:
    """What Kafka Connect wrote belongs to the record, until we are told to write the same names."""
    theirs: Headers = [("__connect.errors.topic", b"source"), ("x", b"1")]
    assert of(replace(LETTER, headers=theirs))[:2] == theirs
    assert letter_of_dead_letter(Published(of(replace(LETTER, headers=theirs)))).headers == theirs
    topics = [v for k, v in of(replace(LETTER, headers=theirs), "connect") if k == "__connect.errors.topic"]
    assert topics == [b"orders"]


def test_the_names_of_each_style_are_those_of_the_product() -> None:
    """With numbers as that product writes them: Spring Kafka's are binary."""
    kip, connect, spring = (dict(of(LETTER, style)[3:]) for style in STYLES)
    assert {k: v for k, v in kip.items() if k.startswith("__dlq")} == {
        "__dlq.errors.topic": b"orders",
        "__dlq.errors.partition": b"3",
        "__dlq.errors.offset": b"1099511627776",
        "__dlq.errors.group": b"shop",
        "__dlq.errors.delivery.count": b"2",
        "__dlq.errors.message": b"check constraint",
    }
    assert connect["__connect.errors.stage"] == b"TASK_PUT"
    assert connect["__connect.errors.exception.message"] == b"check constraint"
    assert spring["kafka_dlt-original-partition"] == b"\0\0\0\3"
    assert spring["kafka_dlt-original-offset"] == (1 << 40).to_bytes(8, "big")
    assert spring["kafka_dlt-original-timestamp-type"] == b"LogAppendTime"
    assert {"microbatch.sqlstate", "microbatch.constraint", "microbatch.attempts"} <= kip.keys() & spring.keys()


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        (
            [("__connect.errors.topic", b"t"), ("__connect.errors.partition", b"1"), ("__connect.errors.offset", b"2")],
            "",
        ),
        (
            [
                ("kafka_dlt-original-topic", b"t"),
                ("kafka_dlt-original-partition", b"\0\0\0\1"),
                ("kafka_dlt-original-offset", b"\0\0\0\0\0\0\0\2"),
                ("kafka_dlt-exception-fqcn", b"java.lang.Error"),
            ],
            "java.lang.Error",
        ),
        (
            [
                ("__dlq.errors.topic", b"other"),
                ("__dlq.errors.topic", b"t"),
                ("__dlq.errors.partition", b"1"),
                ("__dlq.errors.offset", b"2"),
            ],
            "",
        ),
    ],
)
def test_dead_letters_of_other_products_are_known_by_their_origin(headers: Headers, error: str) -> None:
    """Kafka Connect's, Spring Kafka's and the broker's own, with their bytes; the last header of a name counts."""
    letter = letter_of_dead_letter(Published([("x", b"1"), *headers]))
    assert letter.coordinates == ("t", 1, 2)
    assert (letter.key, letter.value, letter.headers) == (b"key", b"value", [("x", b"1")])
    assert letter.evidence == Evidence("unknown", error, "")


def spoiled(name: str, value: bytes | None) -> Headers:
    return [*of(LETTER), (name, value)]


@pytest.mark.parametrize(
    ("headers", "words"),
    [
        ([], "is no dead letter"),
        ([("a", b"1")], "is no dead letter"),
        (None, "a header's name is not UTF-8"),
        ([("__connect.errors.topic", b"t"), ("__connect.errors.offset", b"2")], "__connect.errors.partition holds no"),
        ([("kafka_dlt-original-topic", b"t"), ("kafka_dlt-original-partition", b"1")], "original-partition holds no"),
        (spoiled("__dlq.errors.topic", b"a/b"), "its header __dlq.errors.topic holds no topic"),
        (spoiled("__dlq.errors.topic", b"\xff"), "holds no topic"),
        (spoiled("__dlq.errors.offset", None), "holds no number"),
        (spoiled("__dlq.errors.offset", b"-1"), "holds no number that can be"),
        (spoiled("__dlq.errors.offset", b"9223372036854775808"), "holds no number that can be"),
        (spoiled("__dlq.errors.offset", b"9" * 10_000_000), "holds no number"),
        (spoiled("__dlq.errors.partition", b"2147483648"), "holds no number that can be"),
        (spoiled("__dlq.errors.partition", "\u0663".encode()), "holds no number"),
        (spoiled("microbatch.style", b"other"), "is no dead letter"),
        (spoiled("microbatch.first_failed_at", b"yesterday"), "first_failed_at holds no time"),
        (spoiled("microbatch.first_failed_at", b"9999-12-31T23:59:59-14:00"), "first_failed_at holds no time"),
        (spoiled("microbatch.attempts", b"1e3"), "attempts holds no number"),
        (spoiled("microbatch.timestamp.type", b"Never"), "holds no kind of timestamp"),
        (of(LETTER, parts={"value": "kept"}), "its value was too large"),
        (of(LETTER, parts={"value": "cut"}), "its value was too large"),
    ],
)
def test_what_is_no_dead_letter_is_told_with_its_place(headers: Headers | None, words: str) -> None:
    """One short sentence with the place of the record and what is wrong, whatever the headers hold."""
    with pytest.raises(NoDeadLetterError) as caught:
        letter_of_dead_letter(Published(headers))
    assert str(caught.value).startswith("orders.dlq partition 0 offset 7: ")
    assert words in str(caught.value)
    assert len(str(caught.value)) < 200


def test_the_rest_of_a_letter_that_is_not_whole_can_be_looked_at() -> None:
    """Its evidence is all there."""
    headers = of(LETTER, parts={"value": "kept", "value.bytes": "9"})
    letter = letter_of_dead_letter(Published(headers, None), whole=False)
    assert (letter.coordinates, letter.value, letter.evidence) == (LETTER.coordinates, None, LETTER.evidence)


def test_large_headers_of_a_hostile_letter_are_cut() -> None:
    """Ten million bytes of a reason are not kept; the record's own headers are, whatever they hold."""
    headers = [*spoiled("microbatch.reason", b"\0\xff" * 5_000_000), ("mine", b"x" * 10_000_000)]
    letter = letter_of_dead_letter(Published(headers))
    assert len(letter.evidence.reason) <= 1000
    assert "\0" not in letter.evidence.reason
    assert letter.headers == [*(LETTER.headers or []), ("mine", b"x" * 10_000_000)]


def test_a_template_leads_to_a_topic_and_back() -> None:
    """And a name that does not fit leads nowhere."""
    assert dead_letter_topic("dlq.{topic}.v1", "orders") == "dlq.orders.v1"
    assert origin_topic("dlq.{topic}.v1", "dlq.orders.v1") == "orders"
    assert [origin_topic("{topic}.dlq", name) for name in ("orders", ".dlq", "dlq", "a.dlq.b")] == [None] * 4


CONSUMER: dict[str, Any] = {
    "group.id": "g",
    "group.instance.id": "i",
    "group.protocol": "classic",
    "partition.assignment.strategy": "range",
    "session.timeout.ms": 6000,
    "heartbeat.interval.ms": 300,
    "max.poll.interval.ms": 300_000,
    "coordinator.query.interval.ms": 1000,
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "enable.auto.offset.store": False,
    "queued.min.messages": 1,
    "queued.max.messages.kbytes": 1,
    "fetch.min.bytes": 1,
    "fetch.message.max.bytes": 1000,
    "max.partition.fetch.bytes": 1000,
    "offset.store.method": "broker",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "check.crcs": True,
    "consume.callback.max.messages": 0,
}
COMMON: dict[str, Any] = {
    "bootstrap.servers": "a:1",
    "client.id": "c",
    "client.rack": "r",
    "security.protocol": "SASL_SSL",
    "sasl.mechanisms": "PLAIN",
    "sasl.username": "u",
    "sasl.password": "p",
    "ssl.ca.location": "/ca",
    "enable.ssl.certificate.verification": True,
    "socket.keepalive.enable": True,
    "metadata.max.age.ms": 1000,
    "compression.type": "lz4",
    "request.timeout.ms": 1000,
    "message.max.bytes": 5,
}
UNSAFE: dict[str, Any] = {
    "acks": 0,
    "request.required.acks": 0,
    "enable.idempotence": False,
    "retries": 0,
    "message.send.max.retries": 0,
    "max.in.flight": 100,
    "max.in.flight.requests.per.connection": 100,
    "delivery.report.only.error": True,
    "delivery.timeout.ms": 1,
    "message.timeout.ms": 1,
    "linger.ms": 900_000,
    "queue.buffering.max.ms": 900_000,
    "batch.size": 1,
    "transactional.id": "t",
    "enable.gapless.guarantee": True,
}


def test_a_producer_is_given_what_is_not_only_for_consumers() -> None:
    """Addresses, TLS and SASL as they are; nothing that would weaken a delivery, under none of its names."""
    given_ = producer_properties(COMMON | CONSUMER | UNSAFE | {"allow.auto.create.topics": True})
    assert COMMON.items() <= given_.items()
    assert not CONSUMER.keys() & given_.keys()
    assert {name: given_[name] for name in UNSAFE if name in given_} == {
        "acks": "all",
        "enable.idempotence": True,
        "delivery.timeout.ms": 30_000,
        "linger.ms": 0,
        "max.in.flight": 1,
    }
    assert given_["allow.auto.create.topics"] is False

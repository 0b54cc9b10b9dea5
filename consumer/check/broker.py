"""Kafka: whether it answers, and what it has of the topics."""

from __future__ import annotations

import difflib
import re
from collections.abc import Generator, Iterable, Iterator, Mapping

from consumer.check.finding import Finding
from consumer.cluster import KafkaCluster
from consumer.config import Settings
from consumer.config.rules import feeds_itself, subscribes
from consumer.errors import UnavailableError
from consumer.outbox import dead_letter_topic

ANSWER_SECONDS = 10.0
_LOOPBACK = re.compile(r"(localhost|127\.[\d.]+|\[::1\])(:\d+)?")


def findings(settings: Settings, cluster: KafkaCluster) -> Generator[Finding, None, list[str]]:
    """Findings; returns the topics that are there."""
    servers = str(settings.kafka["bootstrap.servers"])
    listed = [topic for topic in settings.topics if not topic.startswith("^")]
    try:
        there = cluster.topics(ANSWER_SECONDS)
    except UnavailableError as error:
        yield Finding("kafka", False, f"{error}; correct kafka.bootstrap.servers ({servers}), or start Kafka")
        return listed
    yield Finding("kafka", True, f"{servers} answers{_warning(settings, servers)}")
    found = []
    for topic in settings.topics:
        matching = sorted(name for name in there if subscribes(topic, name))
        if not matching:
            yield Finding(f"topic {topic}", False, _missing(topic, there))
        for name in matching:
            if name not in found:
                found.append(name)
                yield _topic(name, there[name], cluster, topic)
    yield from _dead_letters(settings, found, there, cluster)
    return found


def _dead_letters(
    settings: Settings, topics: Iterable[str], there: Mapping[str, int], cluster: KafkaCluster
) -> Iterator[Finding]:
    """Where the dead letters of these go: nothing is lost without, but nobody is told either."""
    template = settings.dead_letter.topic
    if template is None:
        yield Finding("dead letters", True, "kept in the table microbatch_dead_letters, published nowhere")
        return
    for name in dict.fromkeys(dead_letter_topic(template, topic) for topic in topics):
        yield _dead_letter_topic(settings, name, cluster, name in there)
    if overlap := feeds_itself(settings.topics, template, there):
        reason = "is read and takes dead letters as well: change `topics` or dead_letter.topic"
        yield Finding(f"topic {overlap[0]}", False, reason, configuration=True)


def _dead_letter_topic(settings: Settings, name: str, cluster: KafkaCluster, exists: bool) -> Finding:
    if not exists:
        advice = "create it, or set `dead_letter.topic: null` to keep dead letters in the table only"
        return Finding(f"topic {name}", False, f"there is no such topic for dead letters: {advice}")
    try:
        forgets = cluster.forgets_by_record_time(name)
    except UnavailableError as error:
        return Finding(f"topic {name}", True, f"takes dead letters; its retention cannot be read: {error}")
    if not forgets:
        return Finding(f"topic {name}", True, "takes dead letters, and keeps them whatever their age")
    kept = settings.delivery == "exactly_once" and settings.dead_letter.keep_payload
    reason = "deletes dead letters of old records at once, because they have their record's time"
    advice = "set its retention.ms to -1, or its message.timestamp.type to LogAppendTime"
    return Finding(f"topic {name}", kept, f"{reason}{' (the table keeps them)' if kept else ''}: {advice}")


def _missing(topic: str, there: Mapping[str, int]) -> str:
    if topic.startswith("^"):
        return "no topic matches: correct the expression, or create one"
    close = difflib.get_close_matches(topic, there, 1)
    advice = f"did you mean {close[0]}?" if close else "create it, correct its name, or allow this user to DESCRIBE it"
    return f"there is no such topic: {advice}"


def _topic(name: str, partitions: int, cluster: KafkaCluster, asked: str) -> Finding:
    by = f" (matches {asked})" if asked != name else ""
    try:
        states = cluster.states([(name, number) for number in range(partitions)])
    except UnavailableError as error:
        advice = "give this user READ on the topic and on the group"
        return Finding(f"topic {name}", False, f"{error}; {advice}")
    held = sum(state.high - state.low for state in states.values())
    return Finding(f"topic {name}", True, f"{partitions} partitions, about {held} records{by}; the group may be read")


def _warning(settings: Settings, servers: str) -> str:
    protocol = str(settings.kafka.get("security.protocol", "plaintext")).lower()
    alone = all(_LOOPBACK.fullmatch(server.strip()) for server in servers.split(","))
    return "" if alone or "ssl" in protocol else "; warning: not encrypted, set security.protocol to ssl or sasl_ssl"

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
    yield from _dead_letters(settings, found, there)
    return found


def _dead_letters(settings: Settings, topics: Iterable[str], there: Mapping[str, int]) -> Iterator[Finding]:
    """Where the dead letters of these go: nothing is lost without, but nobody is told either."""
    template = settings.dead_letter.topic
    if template is None:
        yield Finding("dead letters", True, "kept in the table microbatch_dead_letters, published nowhere")
        return
    for name in dict.fromkeys(template.format(topic=topic) for topic in topics):
        advice = "create it, or set `dead_letter.topic: null` to keep dead letters in the table only"
        missing = f"there is no such topic for dead letters: {advice}"
        yield Finding(f"topic {name}", name in there, "takes dead letters" if name in there else missing)
    if overlap := feeds_itself(settings.topics, template, there):
        reason = "is read and takes dead letters as well: change `topics` or dead_letter.topic"
        yield Finding(f"topic {overlap[0]}", False, reason, configuration=True)


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

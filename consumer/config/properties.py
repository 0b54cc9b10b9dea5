"""Which of librdkafka's properties are refused, and why; names and values are librdkafka's own to judge."""

from __future__ import annotations

from collections.abc import Mapping

from consumer.errors import ConfigError

_OFFSETS = "offsets are committed only after the rows, by the daemon itself"
_START = "a silent reset loses or repeats records; use the setting `start`"
_CODE = "it loads or runs other code"
_FILES = "it sends the contents of a file to the token endpoint"
REFUSED = {
    "enable.auto.commit": _OFFSETS,
    "auto.commit.enable": _OFFSETS,
    "auto.commit.interval.ms": _OFFSETS,
    "enable.auto.offset.store": _OFFSETS,
    "offset.store.method": _OFFSETS,
    "offset.store.path": _OFFSETS,
    "auto.offset.reset": _START,
    "metadata.broker.list": "it is another name of `bootstrap.servers`; use that one",
    "plugin.library.paths": _CODE,
    "sasl.kerberos.kinit.cmd": _CODE,
    "ssl.engine.location": _CODE,
    "ssl.engine.id": _CODE,
    "ssl.providers": _CODE,
    "sasl.oauthbearer.assertion.file": _FILES,
    "sasl.oauthbearer.assertion.jwt.template.file": _FILES,
    "default.topic.config": "it must be a mapping in code; write its properties one by one",
}
_CALLBACKS = ("logger", "on_commit", "on_delivery", "partitioner")
# With `group.protocol: consumer` (KIP-848) these are the broker's or gone (librdkafka's INTRODUCTION.md).
_CLASSIC_ONLY = ("session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy", "group.protocol.type")
_REQUIRED = {
    "bootstrap.servers": "`host:9092`, or several with commas",
    "group.id": "the name that all instances of this pipeline share",
}
_MILLISECONDS = ("max.poll.interval.ms", "session.timeout.ms")


def check_properties(kafka: Mapping[str, str | int | float | bool]) -> None:
    """Raises ConfigError for the first property that is refused, missing, or wrong where the daemon reads it itself."""
    for name, value in kafka.items():
        if reason := _refusal(name, value, classic=is_classic(kafka)):
            raise ConfigError(f"kafka.{name}", None, f"is refused, because {reason}")
    for name, meaning in _REQUIRED.items():
        if not str(kafka.get(name, "")).strip():
            raise ConfigError(f"kafka.{name}", None, f"is required: {meaning}")
    for name in _MILLISECONDS:
        if name in kafka and not str(kafka[name]).isdecimal():
            raise ConfigError(f"kafka.{name}", kafka[name], "must be a whole number of milliseconds")


def is_classic(kafka: Mapping[str, object]) -> bool:
    """Whether the group is of the classic kind, not of KIP-848."""
    return str(kafka.get("group.protocol", "classic")).lower() != "consumer"


def _refusal(name: str, value: str | int | float | bool, *, classic: bool) -> str | None:
    if name in REFUSED:
        return f"{REFUSED[name]}: leave it out"
    if name in _CALLBACKS or name.endswith("_cb"):
        return "it is code: leave it out"
    if name in _CLASSIC_ONLY and not classic:
        return "with group.protocol=consumer the broker decides it: leave it out"
    if name == "enable.ssl.certificate.verification" and str(value).lower() in ("false", "0", "f"):
        return "anybody between could read and change records: name your CA in ssl.ca.location instead"
    return None

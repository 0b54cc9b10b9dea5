"""What may be asked of a running daemon, and what a change of the file amounts to."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from consumer.config.complaints import complaint
from consumer.config.model import BatchSettings, Settings
from consumer.config.rules import subscribes
from consumer.errors import ConfigError

CHANGEABLE = tuple(f"batch.{name}" for name in BatchSettings.model_fields)
_TARGET = re.compile(r"([A-Za-z0-9._-]{1,249})(/[0-9]{1,10})?")


class _Changeable(BaseModel):
    model_config = ConfigDict(extra="forbid")

    batch: BatchSettings


def changed(batch: BatchSettings, wanted: Mapping[str, str]) -> BatchSettings:
    """The bounds of batches with these settings, by their path and as a file would have them. Raises ConfigError."""
    for field in wanted:
        if field not in CHANGEABLE:
            close = difflib.get_close_matches(field, CHANGEABLE, 1)
            advice = f"did you mean `{close[0]}`?" if close else f"there are {', '.join(CHANGEABLE)}"
            raise ConfigError(field, None, f"cannot be changed while the daemon runs; {advice}")
    written = {"batch": batch.model_dump() | {field.removeprefix("batch."): value for field, value in wanted.items()}}
    try:
        return _Changeable.model_validate(written).batch
    except ValidationError as error:
        raise complaint(error, written) from None


def require_target(settings: Settings, name: str) -> None:
    """Raises ConfigError unless this is a topic that is read (`orders`), or a partition of one (`orders/3`)."""
    found = _TARGET.fullmatch(name)
    if not found:
        raise ConfigError("target", name[:100], "must be a topic (`orders`) or a partition (`orders/3`)")
    if not any(subscribes(topic, found[1]) for topic in settings.topics):
        raise ConfigError("target", name, f"is not read here; `topics` has {', '.join(settings.topics)}")


def differences(before: Settings, after: Settings) -> list[str]:
    """The paths of the settings that differ, in the order of the file's reference."""
    return list(_differing(before.model_dump(by_alias=True), after.model_dump(by_alias=True), ""))


def _differing(before: Any, after: Any, path: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in before | after:
            yield from _differing(before.get(name), after.get(name), f"{path}.{name}" if path else str(name))
    elif before != after:
        yield path

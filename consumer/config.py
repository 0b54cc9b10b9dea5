"""Settings from a YAML file, validated before anything starts."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from consumer.errors import ConfigError

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_UNSAFE = {"enable.auto.commit", "enable.auto.offset.store", "auto.offset.reset"}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BatchSettings(_Strict):
    """When a batch is closed."""

    max_records: int = Field(default=5000, ge=1)
    max_bytes: int = Field(default=8 * 1024 * 1024, ge=1)
    max_wait_ms: int = Field(default=500, ge=0)


class SinkSettings(_Strict):
    """Where rows go. `table` defaults to the topic's name."""

    dsn: str
    table: str | None = None


class Settings(_Strict):
    """The whole file."""

    kafka: dict[str, str | int | float | bool]
    topics: list[str] = Field(min_length=1, max_length=1)
    format: Literal["json"] = "json"
    batch: BatchSettings = BatchSettings()
    sink: SinkSettings


def load(path: Path) -> Settings:
    """Read and check a file. Raises ConfigError naming the field, its value and the reason."""
    try:
        raw = YAML(typ="safe", pure=True).load(path.read_text())
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise ConfigError("config", str(path), f"cannot be read: {error}") from None
    try:
        settings = Settings.model_validate(_filled(raw, "config"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ConfigError(".".join(map(str, first["loc"])), "...", first["msg"]) from None
    for name in _UNSAFE & settings.kafka.keys():
        raise ConfigError(f"kafka.{name}", settings.kafka[name], "microbatch sets it itself; leave it out")
    for name in ("bootstrap.servers", "group.id"):
        if name not in settings.kafka:
            raise ConfigError(f"kafka.{name}", None, "is required")
    return settings


def _filled(value: Any, where: str) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, where) for item in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ConfigError(where, match[0], f"the environment variable {match[1]} is not set")
        return os.environ[match[1]]

    return _VARIABLE.sub(fill, value)

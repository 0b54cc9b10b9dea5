"""Settings from a YAML file, validated before anything starts.

Relative paths of schemas are relative to the file's folder. `${NAME}` anywhere in a text is that environment variable.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from consumer.config.complaints import complaint, shown
from consumer.config.model import (
    AdminSettings,
    AvroFormat,
    BatchSettings,
    Constant,
    DeadLetterSettings,
    Format,
    JsonFormat,
    KeepIn,
    KeyFormat,
    NotifySettings,
    RawFormat,
    RegistrySettings,
    RetrySettings,
    RunsSettings,
    Settings,
    SinkSettings,
    TableSettings,
    TextFormat,
)
from consumer.config.reading import filled, read
from consumer.config.rules import check_rules
from consumer.errors import ConfigError

__all__ = [
    "AdminSettings",
    "AvroFormat",
    "BatchSettings",
    "Constant",
    "DeadLetterSettings",
    "Format",
    "JsonFormat",
    "KeepIn",
    "KeyFormat",
    "NotifySettings",
    "RawFormat",
    "RegistrySettings",
    "RetrySettings",
    "RunsSettings",
    "Settings",
    "SinkSettings",
    "TableSettings",
    "TextFormat",
    "load",
    "parse",
]


def load(path: Path) -> Settings:
    """Read and check a file. Raises ConfigError naming the field, its value unless it may be secret, and the reason."""
    return parse(read(path), path.parent)


def parse(written: Mapping[str, Any], folder: Path = Path()) -> Settings:
    """Check settings given as plain values, with schemas in `folder`. Raises ConfigError as `load` does."""
    written = dict(written)
    try:
        settings = Settings.model_validate(filled(written), context={"folder": folder})
    except ValidationError as error:
        raise complaint(error, written) from None
    try:
        check_rules(settings)
    except ConfigError as error:
        raise ConfigError(error.field, shown(error.field, error.value), error.reason) from None
    return settings

"""From settings to a mapper."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from consumer.config import Constant, KeepIn, Settings, TableSettings
from consumer.decode import Decoder
from consumer.decode.opening import open_decoder
from consumer.errors import ConfigError
from consumer.mapping.fields import FieldMapper, FieldRules
from consumer.mapping.topics import TopicMapper
from consumer.mapping.transform import Transform, TransformMapper
from consumer.sinks.opening import target_of
from consumer.table import Table, Target


def open_mapper(
    settings: Settings, describe: Callable[[str], Table], *, waits: bool = False
) -> TopicMapper | TransformMapper:
    """The mapper of these settings; `describe` is asked for a table when its first record comes. `waits`: see
    `open_decoder`.

    Raises ConfigError for a schema file or a transform that cannot be loaded.
    """
    value = open_decoder(settings.format, "format", waits=waits)
    key = open_decoder(settings.key_format, "key_format", waits=waits)({})
    if settings.transform:
        return _transforming(settings, describe, value({}), key)
    return TopicMapper(lambda topic: _open_topic(settings, describe, value, key, topic))


def load_transform(path: str) -> Transform:
    """The function `module:function`; the folder in which the command was called is looked into first.

    Raises ConfigError when there is none, or when its module cannot be imported.
    """
    module, _, name = path.partition(":")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # noqa: BLE001 - the user's module: whatever its import raises, it cannot be had
        reason = f"the module {module} cannot be imported: {type(error).__name__}: {error}"
        raise ConfigError("transform", path, reason) from None
    if not callable(found):
        raise ConfigError("transform", path, f"the module {module} has no function {name}")
    return found  # type: ignore[no-any-return]


def rules_of(settings: Settings, table: TableSettings) -> FieldRules:
    """How fields go to the columns of one table."""
    columns = {name: text for name, text in table.columns.items() if isinstance(text, str)}
    constants = {name: value.const for name, value in table.columns.items() if isinstance(value, Constant)}
    keep_in = table.unknown.column if isinstance(table.unknown, KeepIn) else None
    unknown = "keep" if isinstance(table.unknown, KeepIn) else table.unknown
    return FieldRules(columns, constants, table.select, unknown, keep_in, settings.format.on_null)


def tables_of(settings: Settings, topic: str) -> dict[str, TableSettings]:
    """The tables that a topic's records go into."""
    if not settings.sink.tables:
        return {topic: TableSettings()}
    return {name: t for name, t in settings.sink.tables.items() if t.topics is None or topic in t.topics}


def _open_topic(
    settings: Settings,
    describe: Callable[[str], Table],
    value: Callable[[Mapping[str, Any]], Decoder],
    key: Decoder,
    topic: str,
) -> list[FieldMapper]:
    tables = tables_of(settings, topic)
    if not tables:
        raise ConfigError("sink.tables", topic, "no table takes this topic: add it to the `topics` of one")
    return [
        FieldMapper(describe(name), target_of(name, table), rules_of(settings, table), value, key)
        for name, table in tables.items()
    ]


def _transforming(
    settings: Settings, describe: Callable[[str], Table], value: Decoder, key: Decoder
) -> TransformMapper:
    names = list(settings.sink.tables)
    targets: dict[str, Target] = {name: target_of(name, table) for name, table in settings.sink.tables.items()}
    return TransformMapper(
        load_transform(settings.transform or ""),
        value,
        key,
        targets,
        partial(_primary_key, describe),
        default=names[0] if len(names) == 1 else None,
        skip_null=settings.format.on_null == "skip",
    )


def _primary_key(describe: Callable[[str], Table], table: str) -> tuple[str, ...]:
    return next(iter(describe(table).keys), ())

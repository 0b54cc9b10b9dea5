"""A YAML file as plain values: no tags, no aliases, no duplicate keys, no size that could hurt; `${NAME}` filled in."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent
from ruamel.yaml.reader import ReaderError

from consumer.errors import ConfigError

MAX_BYTES = 1024 * 1024
_MAX_DEPTH = 20
_VARIABLE = re.compile(r"\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DUPLICATE = re.compile(r'found duplicate key "(.*?)" with value')


class _Constructor(SafeConstructor):
    """Times stay text: what they mean is up to the setting."""


_Constructor.add_constructor("tag:yaml.org,2002:timestamp", SafeConstructor.construct_yaml_str)


def read(path: Path) -> dict[Any, Any]:
    """The file's mapping, as it is written. Raises ConfigError; its text never repeats what stands in the file."""
    text = _text(path)
    try:
        _require_plain(path, text)
        found = _yaml().load(text)
    except DuplicateKeyError as error:
        name = _DUPLICATE.match(error.problem or "")
        raise _wrong(path, f"the key `{name[1] if name else ''}` is there twice: remove one", error) from None
    except MarkedYAMLError as error:
        raise _wrong(path, f"is not YAML: {error.problem}", error) from None
    except ReaderError as error:
        raise ConfigError(str(path), None, f"holds a control character, at position {error.position}") from None
    except (YAMLError, ValueError):  # ValueError: a number of more digits than Python reads
        raise ConfigError(str(path), None, "is not YAML") from None
    if found is None:
        raise ConfigError(str(path), None, "is empty; it needs kafka, topics, format and sink")
    if not isinstance(found, dict):
        raise ConfigError(str(path), None, "must be a mapping at the top: `kafka: ...`, `topics: ...`")
    return found


def filled(value: Any, path: tuple[str, ...] = ()) -> Any:
    """With each `${NAME}` replaced by that environment variable. Raises ConfigError naming the field and variable."""
    if isinstance(value, dict):
        return {key: filled(item, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, (*path, str(index))) for index, item in enumerate(value)]
    return _VARIABLE.sub(lambda match: _variable(match, path), value) if isinstance(value, str) else value


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), None, f"cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(str(path), None, f"is larger than {MAX_BYTES} bytes; is it the right file?")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(str(path), None, f"is not UTF-8, in line {line}: save it as UTF-8") from None


def _require_plain(path: Path, text: str) -> None:
    """Before anything is built: an alias can make a small file huge, nesting exhausts the stack, a tag names code."""
    depth = 0
    for event in _yaml().parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        where = f"line {event.start_mark.line + 1}"
        if depth > _MAX_DEPTH:
            raise ConfigError(str(path), None, f"is nested deeper than {_MAX_DEPTH}, in {where}")
        if isinstance(event, AliasEvent):
            raise ConfigError(str(path), None, f"uses an alias (*{event.anchor}), in {where}: write the value out")
        if isinstance(event, ScalarEvent | CollectionStartEvent) and event.ctag is not None:
            raise ConfigError(str(path), None, f"uses a tag ({event.ctag}), in {where}: leave it out")


def _yaml() -> YAML:
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    return yaml


def _wrong(path: Path, reason: str, error: MarkedYAMLError) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    return ConfigError(str(path), None, f"{reason} (line {mark.line + 1})" if mark else reason)


def _variable(match: re.Match[str], path: tuple[str, ...]) -> str:
    name, field = match[1], ".".join(path)
    if not _NAME.fullmatch(name) or not match[0].endswith("}"):
        raise ConfigError(field, None, "`${` must be followed by the name of an environment variable and `}`")
    if name not in os.environ:
        raise ConfigError(field, match[0], f"the environment variable {name} is not set: set it, and start again")
    return os.environ[name]

"""The settings for people and tools: the effective configuration, the JSON Schema, the table of all settings."""

from __future__ import annotations

import io
from collections.abc import Iterator
from enum import EnumType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ByteSize
from pydantic.fields import FieldInfo
from ruamel.yaml import YAML

from consumer.config.complaints import MASK, is_secret, models_in
from consumer.config.model import Settings

_WORDS: dict[Any, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    ByteSize: "size",
    dict: "mapping",
    list: "list of texts",
}
_STEPS: dict[Any, str] = {dict: ".<name>.", list: ".<number>."}


def explain(settings: Settings) -> str:
    """The configuration as YAML with every default filled in, and secrets masked."""
    yaml = YAML(typ="rt")  # the only one that keeps the order
    yaml.default_flow_style = False
    text = io.StringIO()
    yaml.dump(masked(settings), text)
    return text.getvalue()


def masked(settings: Settings) -> dict[str, Any]:
    """The configuration as plain values with every default filled in, and secrets masked."""
    values = settings.model_dump(mode="json", by_alias=True)
    values["sink"]["dsn"] = MASK
    values["kafka"] = {name: MASK if is_secret(f"kafka.{name}") else value for name, value in values["kafka"].items()}
    parts = (values["admin"], values["format"].get("registry"), values["key_format"].get("registry"))
    for part in filter(None, parts):
        part |= {name: MASK for name in ("password", "token") if part.get(name) is not None}
    values["notify"] = [_discreet(target) for target in values["notify"]]
    return values


def _discreet(target: dict[str, Any]) -> dict[str, Any]:
    """Addresses of webhooks are keys to them, and arguments may hold one."""
    program, *arguments = target["command"] or [None]
    shown = {name: MASK for name in ("webhook", "secret") if target[name] is not None}
    return target | shown | ({"command": [program, *(MASK for _ in arguments)]} if program else {})


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file. It knows nothing of `${NAME}` where a number belongs."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}


def settings_table() -> str:
    """Every setting as a Markdown table: path, type, default, meaning with unit and special values."""
    rows: dict[str, FieldInfo] = {}
    for path, field in _settings(Settings, ""):
        rows.setdefault(path, field)  # the formats share some
    lines = ["| setting | type | default | meaning |", "|---|---|---|---|"]
    for path, field in rows.items():
        cells = (f"`{path}`", _type(field), _default(field), field.description or "")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _settings(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        if name == "type":  # told with `format`
            continue
        path = prefix + (field.alias or name)
        inner = models_in(field.annotation)
        if field.description or not inner:
            yield path, field
        step = _STEPS.get(get_origin(field.annotation), ".")
        if name != "key_format":  # as `format`
            for part in inner:
                yield from _settings(part, path + step)


def _type(field: FieldInfo) -> str:
    kinds = [part for part in (get_args(field.annotation) or ()) if part is not type(None)]
    whole = get_origin(field.annotation) in (dict, list, Literal)
    only = kinds[0] if len(kinds) == 1 and not whole else field.annotation
    if get_origin(only) is Annotated:
        only = get_args(only)[0]
    origin = get_origin(only)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in get_args(only))
    if isinstance(only, EnumType):
        return ", ".join(f"`{value}`" for value in only)
    if only in models_in(only):
        return "mapping"
    if models_in(only) and origin is not dict:
        return "text or mapping"
    if float in kinds and not whole:
        return "plain value"
    return _WORDS.get(origin or only, "text")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, BaseModel):
        value = getattr(value, "type", "")
    if value is None or value in ({}, []):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"

"""What the validation found, as one ConfigError: the field as it stands in the file, its value unless secret, why."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from consumer.config.model import Settings
from consumer.errors import ConfigError

MASK = "***"
_SECRET = re.compile(
    r"\bdsn\b|^admin\.token$|\bregistry\.(password|token)$|^notify(\.\d+(\.(webhook|secret|command).*)?)?$"
    r"|^kafka\..*(password|passphrase|secret|token|key|jaas|oauth|pem)",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"(?<=://).*@|(?<=password)\s*=.*", re.IGNORECASE | re.DOTALL)
_REASONS = {
    "missing": "is required",
    "string_type": "must be a text: put it in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "is a number of too many digits",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list: [a, b]",
    "dict_type": "must be a mapping: `name: value`",
    "model_type": "must be a mapping: `name: value`",
    "model_attributes_type": "must be a mapping: `name: value`",
    "path_type": "must be a path",
    "byte_size": "must be a size: 8MiB, or a number of bytes",
    "byte_size_unit": "must be a size: 8MiB, or a number of bytes",
    "union_tag_not_found": "needs `type`",
    "too_short": "must not be empty",
}
# What stands where a mapping belongs may be anything, a whole connection string for one.
_WANTS_PARTS = ("dict_type", "model_type", "model_attributes_type")


def is_secret(field: str) -> bool:
    """Whether the setting at this path may hold a secret."""
    return _SECRET.search(field) is not None


def shown(field: str, value: Any) -> Any:
    """A value for a message: masked where it may be a secret, shortened, None (not shown) where it has parts."""
    if isinstance(value, dict | list) or value is None:
        return None
    if is_secret(field):
        return MASK
    return _CREDENTIALS.sub(MASK, value)[:100] if isinstance(value, str) else value


def complaint(error: ValidationError, written: dict[Any, Any]) -> ConfigError:
    """The first fault; an unknown name goes first, because it is likely what is missing elsewhere."""
    found = error.errors(include_url=False)
    fault = next((one for one in found if one["type"] == "extra_forbidden"), found[0])
    path, value = _located(fault["loc"], written)
    field = ".".join(path)
    if fault["type"] == "extra_forbidden":
        return ConfigError(field, None, f"is not a setting; {_advice(path[-1], _names(fault['loc'][:-1]))}")
    if fault["type"] == "missing":
        field = ".".join((*path, str(fault["loc"][-1])))
        return ConfigError(field, None, "is required" + _meaning(fault["loc"]))
    if fault["loc"][-1] == "[key]":
        value = path[-1]
    if fault["type"] in _WANTS_PARTS:
        value = None
    return ConfigError(field, shown(field, value), _reason(fault))


def _reason(fault: ErrorDetails) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind in ("greater_than_equal", "less_than_equal"):
        least = kind == "greater_than_equal"
        return f"must be at {'least' if least else 'most'} {context['ge' if least else 'le']}"
    if kind in ("literal_error", "enum"):
        return f"must be {context['expected']}"
    if kind == "union_tag_invalid":
        return f"`type` must be one of {context['expected_tags']}"
    return _REASONS.get(kind, fault["msg"])


def _located(loc: Sequence[int | str], written: Any) -> tuple[tuple[str, ...], Any]:
    """The path in the file and what stands there: without the parts that only name a branch of a union."""
    path: list[str] = []
    for part in loc:
        if isinstance(written, dict | list) and part in (written if isinstance(written, dict) else range(len(written))):
            written = written[part]  # type: ignore[index]
            path.append(str(part))
    return tuple(path), written


def _names(loc: Sequence[int | str]) -> list[str]:
    """The settings that there are at a place."""
    return sorted({field.alias or name for model in _at(loc) for name, field in model.model_fields.items()})


def _meaning(loc: Sequence[int | str]) -> str:
    for model in _at(loc[:-1]):
        for name, field in model.model_fields.items():
            if loc[-1] == (field.alias or name) and field.description:
                return f": {field.description}"
    return ""


def _at(loc: Iterable[int | str]) -> list[type[BaseModel]]:
    models: list[type[BaseModel]] = [Settings]
    for part in loc:
        fields = [field for model in models for name, field in model.model_fields.items() if part == name]
        tagged = [model for model in models if part in _tags(model)]
        if fields:
            models = [model for field in fields for model in models_in(field.annotation)]
        elif tagged:
            models = tagged
    return models


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a type is made of, in the order in which they are named."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in models_in(part)]


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    field = model.model_fields.get("type")
    return get_args(field.annotation) if field else ()


def _advice(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean `{close[0]}`?" if close else f"there are: {', '.join(names)}"

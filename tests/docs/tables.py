"""What pages of the reference hold that is made from the code, each between its markers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from typer.main import get_command

from consumer import errors
from consumer.cli import app
from consumer.config.properties import REFUSED
from consumer.config.showing import json_schema, settings_table
from consumer.events import Event
from consumer.metrics import CATALOGUE, PREFIX
from consumer.sinks.postgres import sqlstate
from consumer.sinks.sqlite import codes


def metrics_table() -> str:
    """Every metric as a Markdown table."""
    lines = ["| metric | kind | labels | meaning |", "|---|---|---|---|"]
    for spec in CATALOGUE:
        name = PREFIX + spec.name + ("_total" if spec.kind == "counter" else "")
        lines.append(f"| `{name}` | {spec.kind} | {', '.join(spec.labels)} | {spec.help} |")
    return "\n".join(lines) + "\n"


def errors_table() -> str:
    """What each error of a database means, as a Markdown table."""
    rules = [(rule.state, rule.verdict.value, rule.why) for rule in (*sqlstate.RULES, *sqlstate.STATELESS)]
    rules += [(rule.code, rule.verdict.value, rule.why) for rule in codes.RULES]
    lines = ["| SQLSTATE, its class, or SQLite's code | the daemon will | because, or what to do |", "|---|---|---|"]
    lines += [f"| `{state}` | {verdict} | {why} |" for state, verdict, why in rules]
    return "\n".join(lines) + "\n"


def events_table() -> str:
    """Every event of the log as a Markdown table."""
    lines = ["| event | level | fields | meaning |", "|---|---|---|---|"]
    for event in Event:
        fields = ", ".join(f"`{name}`{'*' if name in event.repeats else ''}" for name in event.fields)
        lines.append(f"| `{event}` | {event.level} | {fields} | {event.meaning} |")
    return "\n".join(lines) + "\n"


def properties_table() -> str:
    """librdkafka's properties that are refused, as a Markdown table."""
    lines = ["| property | refused, because |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {why} |" for name, why in REFUSED.items())]) + "\n"


def commands() -> str:
    """Every command with its arguments and options."""
    return "\n".join(_command(("microbatch",), get_command(app)))


def _command(names: tuple[str, ...], command: Any) -> Iterator[str]:
    if hasattr(command, "commands"):
        if command.invoke_without_command:
            yield from _told(names, command)
        for name, part in command.commands.items():
            yield from _command((*names, name), part)
        return
    yield from _told(names, command)


def _told(names: tuple[str, ...], command: Any) -> Iterator[str]:
    parameters = [(_shown(parameter), parameter) for parameter in command.params]
    needed = [shown for shown, parameter in parameters if parameter.required or parameter.param_type_name == "argument"]
    yield f"### {' '.join(names)}\n"
    yield f"    {' '.join([*names, *needed])}\n"
    yield f"{command.help}\n"
    if parameters:
        yield "| argument, option | default | meaning |\n|---|---|---|"
        for shown, parameter in parameters:
            default = "" if parameter.default in (None, False) else f"`{parameter.default}`"
            yield f"| `{shown}` | {'required' if parameter.required else default} | {parameter.help} |"
        yield ""


def _shown(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        name = (parameter.metavar or parameter.name.upper()).removesuffix("...").strip("[]").upper()
        several = "..." if parameter.nargs == -1 else ""
        return f"{name}{several}" if parameter.required else f"[{name}]{several}"
    value = "" if parameter.is_flag else f" {(parameter.metavar or parameter.name).upper()}"
    return f"{parameter.opts[0]}{value}"


def schema() -> str:
    """The JSON Schema of the configuration."""
    return f"```json\n{json.dumps(json_schema(), indent=2)}\n```\n"


def tree() -> str:
    """The tree of errors, as its module draws it."""
    drawn = (errors.__doc__ or "").partition("\n\n")[2].strip()
    return f"```text\n{drawn}\n```\n"


PAGES: Mapping[str, Mapping[str, Callable[[], str]]] = {
    "docs/reference/settings.md": {"settings": settings_table, "properties": properties_table},
    "docs/reference/metrics.md": {"metrics": metrics_table},
    "docs/reference/log.md": {"events": events_table},
    "docs/reference/errors.md": {"errors": errors_table},
    "docs/reference/commands.md": {"commands": commands},
    "docs/reference/schema.md": {"schema": schema},
    "docs/reference/python.md": {"tree": tree},
}


def renewed(page: str, text: str) -> str:
    """The page's text with what is made from the code as it is now. Raises ValueError where markers are missing."""
    for name, make in PAGES[page].items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
        made = f"{start}\n{make()}\n{end}"
        text, count = pattern.subn(lambda _, made=made: made, text)
        if count != 1:
            raise ValueError(f"{page}: the markers of {name} must be there once, and are {count} times")
    return text

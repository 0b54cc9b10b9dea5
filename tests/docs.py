"""The tables of the README that are made from the code: `python -m tests.docs` writes them between their markers."""

from __future__ import annotations

import re
from pathlib import Path

from consumer.config.showing import settings_table
from consumer.metrics import CATALOGUE, PREFIX
from consumer.sinks.postgres import sqlstate
from consumer.sinks.sqlite import codes

README = Path(__file__).parents[1] / "README.md"


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


TABLES = {"settings": settings_table, "metrics": metrics_table, "errors": errors_table}


def renewed(text: str) -> str:
    """The text with each table as the code has it now. Raises ValueError where a pair of markers is missing."""
    for name, table in TABLES.items():
        start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        pattern = re.compile(re.escape(start) + ".*?" + re.escape(end), re.DOTALL)
        made = start + table() + end
        text, count = pattern.subn(lambda _, made=made: made, text)
        if count != 1:
            raise ValueError(f"the markers of {name} must be there once, and are {count} times")
    return text


if __name__ == "__main__":
    README.write_text(renewed(README.read_text()))

"""Dead letters: how many, why, and whether their topic has them."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from tests.boards.parts import (
    ORANGE,
    RED,
    TOPIC,
    YELLOW,
    Limit,
    lines,
    name,
    per_second,
    quantile,
    row,
    stat,
    table,
    timeline,
)
from tests.boards.parts import board as new

_LETTERS = name("records_dead_lettered_total", TOPIC)
_LETTERS_RATE = per_second("records_dead_lettered_total", TOPIC)


def board() -> Dashboard:
    """For whoever looks after the data."""
    made = new(
        "microbatch-dead-letters",
        "microbatch: dead letters",
        "Records that could not be written. `microbatch dlq list CONFIG` shows them, `dlq replay` writes them again.",
    )
    return _topic(_why(_now(made)))


def _now(made: Dashboard) -> Dashboard:
    return (
        made.with_row(row("Now"))
        .with_panel(
            stat(
                "Since the start",
                "Dead letters of these instances since they started.",
                f"sum({_LETTERS})",
                "short",
                Limit(1, YELLOW),
            )
        )
        .with_panel(
            stat(
                "Share",
                "Of the records read now. Above dead_letter.max_ratio nothing is written.",
                f"sum({_LETTERS_RATE}) / sum({per_second('records_consumed_total', TOPIC)})",
                "percentunit",
                Limit(0.001, YELLOW),
                Limit(0.05, RED),
            )
        )
        .with_panel(
            stat(
                "Waiting for their topic",
                "Kept in the table. Above dead_letter.max_pending nothing is written.",
                f"sum({name('dead_letters_pending')})",
                "short",
                Limit(1, YELLOW),
                Limit(1000, RED),
            )
        )
        .with_panel(
            stat(
                "Refused by their topic",
                "Tries a second that the topic did not take: it is missing, full, or forbidden.",
                f"sum({per_second('dead_letter_publish_failures_total')})",
                "cps",
                Limit(0.001, RED),
            )
        )
        .with_panel(
            stat(
                "Breaker",
                "1: too many records in a row, or too large a share, are at fault. Nothing of them is kept.",
                f"max({name('breaker_open')})",
                "bool_on_off",
                Limit(1, RED),
                sparkline=False,
            )
        )
        .with_panel(
            stat(
                "Time for isolation",
                "Share of the time that goes into finding the records at fault.",
                f"avg({per_second('isolation_seconds_sum')})",
                "percentunit",
                Limit(0.2, YELLOW),
                Limit(0.5, ORANGE),
            )
        )
    )


def _why(made: Dashboard) -> Dashboard:
    return (
        made.with_row(row("Why"))
        .with_panel(
            lines(
                "By stage",
                "decode: the bytes are not what `format` says. map: they make no row. write: the database refused it.",
                "cps",
                (f"sum by (stage) ({_LETTERS_RATE})", "{{stage}}"),
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "By reason",
                "A SQLSTATE, or the class of the error; docs/reference/errors.md says what each SQLSTATE means.",
                "cps",
                (f"sum by (reason) ({_LETTERS_RATE})", "{{reason}}"),
                stacked=True,
            )
        )
        .with_panel(
            lines(
                "By topic",
                "One topic alone: look at who writes it. All of them: look at the database.",
                "cps",
                (f"sum by (topic) ({_LETTERS_RATE})", "{{topic}}"),
                stacked=True,
            )
        )
        .with_panel(
            table(
                "Kinds",
                "Since the instances started. /status and `microbatch dlq list` have the coordinates of samples.",
                "short",
                {"Dead letters": f"sum by (topic, stage, reason) ({_LETTERS})"},
                hide=[],
            )
        )
    )


def _topic(made: Dashboard) -> Dashboard:
    return (
        made.with_row(row("Their topic"))
        .with_panel(
            lines(
                "Published",
                "Dead letters a second that their topic confirmed, and that it did not take.",
                "cps",
                (f"sum({per_second('dead_letters_published_total')})", "confirmed"),
                (f"sum({per_second('dead_letter_publish_failures_total')})", "not taken"),
            )
        )
        .with_panel(
            timeline(
                "Nothing is written",
                "limits: too many records at fault. dead_letters_pending: too many wait for their topic.",
                f"max by (reason) ({name('hold')})",
                "{{reason}}",
                {".*": RED},
            )
        )
        .with_panel(
            lines(
                "Seconds of an isolation",
                "Of one batch. It stays below a write's own time while few records are at fault.",
                "s",
                (quantile(0.5, "isolation_seconds"), "half"),
                (quantile(0.99, "isolation_seconds"), "99 %"),
            )
        )
    )

"""One instance from close by."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from tests.boards.parts import (
    GREEN,
    HERE,
    ORANGE,
    RED,
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


def board() -> Dashboard:
    """Choose one under Instance."""
    made = new(
        "microbatch-instance",
        "microbatch: one instance",
        "Everything that one instance tells: choose it above.",
        of_one=True,
    )
    for part in (_now, _batches, _partitions, _troubles):
        made = part(made)
    return made


def _now(made: Dashboard) -> Dashboard:
    started = f"time() - max(process_start_time_seconds{{{HERE}}})"
    return (
        made.with_row(row("Now"))
        .with_panel(
            stat(
                "Answers",
                "Whether Prometheus could scrape it.",
                f"min(up{{{HERE}}})",
                "bool_yes_no",
                sparkline=False,
            )
        )
        .with_panel(stat("Runs for", "Since its process started.", started, "s", sparkline=False))
        .with_panel(
            stat(
                "Partitions", "That Kafka gives to it.", f"sum({name('partitions_assigned')})", "none", sparkline=False
            )
        )
        .with_panel(stat("In flight", "Records read and not done.", f"sum({name('records_in_flight')})", "short"))
        .with_panel(
            stat(
                "Oldest unwritten",
                "Seconds since the oldest record that waits in it was read.",
                f"max({name('oldest_unwritten_seconds')})",
                "s",
                Limit(30, YELLOW),
                Limit(120, RED),
            )
        )
        .with_panel(
            stat(
                "Turn of the loop",
                "Seconds between the last two turns; it is not alive after 60.",
                f"max({name('poll_gap_seconds')})",
                "s",
                Limit(5, YELLOW),
                Limit(60, RED),
            )
        )
        .with_panel(
            timeline(
                "State",
                "What it is doing.",
                f"max by (instance, state) ({name('state')})",
                "{{instance}} {{state}}",
                {".* running": GREEN, ".* (unavailable|held)": RED, ".* (starting|claiming|draining|paused)": YELLOW},
            )
        )
        .with_panel(
            lines(
                "Processor",
                "Cores in use: Python code runs on one at a time.",
                "none",
                (f"rate(process_cpu_seconds_total{{{HERE}}}[$__rate_interval])", "{{instance}}"),
                limits=(Limit(1, ORANGE),),
            )
        )
        .with_panel(
            lines(
                "Memory",
                "Resident. It follows batch.max_bytes and the number of partitions, and levels off.",
                "bytes",
                (f"process_resident_memory_bytes{{{HERE}}}", "{{instance}}"),
            )
        )
    )


def _batches(made: Dashboard) -> Dashboard:
    return (
        made.with_row(row("Batches"))
        .with_panel(
            lines(
                "Records of a batch",
                "Small ones cost more for each record: raise batch.max_wait_ms if latency allows.",
                "short",
                (quantile(0.5, "batch_records"), "half"),
                (quantile(0.99, "batch_records"), "99 %"),
            )
        )
        .with_panel(
            lines(
                "Bytes of a batch",
                "Of the values.",
                "bytes",
                (quantile(0.5, "batch_bytes"), "half"),
                (quantile(0.99, "batch_bytes"), "99 %"),
            )
        )
        .with_panel(
            lines(
                "Closed by",
                "Batches a second by what closed them.",
                "cps",
                (f"sum by (trigger) ({per_second('batches_closed_total')})", "{{trigger}}"),
            )
        )
        .with_panel(
            lines(
                "Seconds of a batch, by stage",
                "The mean. Write holds isolation.",
                "s",
                (
                    f"sum by (stage) ({per_second('stage_seconds_sum')}) / "
                    f"sum by (stage) ({per_second('stage_seconds_count')})",
                    "{{stage}}",
                ),
            )
        )
        .with_panel(
            lines(
                "Tries by outcome",
                "Written, unavailable, held: a second.",
                "cps",
                (f"sum by (outcome) ({per_second('write_duration_seconds_count')})", "{{outcome}}"),
            )
        )
        .with_panel(
            lines(
                "Rows by table",
                "Rows sent to each table and committed, a second.",
                "cps",
                (f"sum by (table) ({per_second('rows_affected_total')})", "{{table}}"),
            )
        )
    )


def _partitions(made: Dashboard) -> Dashboard:
    by = "sum by (instance, topic, partition)"
    return made.with_row(row("Partitions")).with_panel(
        table(
            "Behind",
            "Lag of each partition that flows; one that is far behind the others has most of the keys, or stalls.",
            "short",
            {
                "Records behind": f"{by} ({name('consumer_lag')})",
                "Seconds behind": f"{by} ({name('consumer_lag_seconds')})",
            },
            hide=[],
        )
    )


def _troubles(made: Dashboard) -> Dashboard:
    return (
        made.with_row(row("Troubles"))
        .with_panel(
            lines(
                "Partitions not read",
                "And why.",
                "none",
                (f"sum by (reason) ({name('partitions_paused')})", "{{reason}}"),
            )
        )
        .with_panel(
            lines(
                "Ownership",
                "Partitions a second taken over, or found to be another's.",
                "cps",
                (f"sum by (outcome) ({per_second('claims_total')})", "{{outcome}}"),
                (f"sum({per_second('fenced_total')})", "fenced"),
            )
        )
        .with_panel(
            lines(
                "Cut and failed",
                "Connections cut because a write passed sink.write_deadline_ms, and commits to Kafka that failed "
                "(where the database keeps the offsets only lag tools suffer).",
                "cps",
                (f"sum({per_second('watchdog_kills_total')})", "cut"),
                (f"sum({per_second('commit_failures_total')})", "commits"),
            )
        )
        .with_panel(
            lines(
                "Settings changed",
                "Changes in ten minutes while it ran; refused: the file was wrong, and nothing was changed.",
                "none",
                (f"sum by (outcome) (increase({name('config_changes_total')}[10m]))", "{{outcome}}"),
            )
        )
        .with_panel(
            lines(
                "Unknown fields",
                "Fields of a topic's records that go into no column; /status has their names. More of them: a producer "
                "has changed.",
                "none",
                (f"max by (topic) ({name('unknown_fields')})", "{{topic}}"),
            )
        )
        .with_panel(
            lines(
                "Notifications",
                "In ten minutes; superseded: a later one of the same kind was told instead.",
                "none",
                (f"sum by (outcome) (increase({name('notifications_total')}[10m]))", "{{outcome}}"),
            )
        )
    )
